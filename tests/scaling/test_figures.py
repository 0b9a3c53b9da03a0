"""Figures of a study: they show the numbers they claim to, stand alone, and survive tables that determine nothing."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from cdslm_eval.core.drawing import png, svg
from cdslm_eval.core.errors import UnknownNameError, UsageError
from cdslm_eval.report.fit import write_figures
from cdslm_eval.scaling.frontier import Resampling
from cdslm_eval.scaling.law import Law, LawSpec
from cdslm_eval.scaling.output.figures import FIGURES, NEEDS, budgets, draw, paper, quality, through
from cdslm_eval.scaling.output.figures.parts import canvas, in_words, logarithmic, paper_style
from cdslm_eval.scaling.simulate import Plan, simulate
from cdslm_eval.scaling.study import Settings, study
from cdslm_eval.scaling.table import RunTable

LAW = Law.of("chinchilla", E=1.8, A=480.0, B=2100.0, alpha=0.35, beta=0.37)
EVIL = r"</svg><script>$\frac{1}{$ & _x"


def rows(noise=0.004, seed=0, budgets=(1e18, 5e18, 2e19, 1e20, 1e21)):
    records = simulate(LAW, Plan(budgets, 7, 12.0), noise, seed).to_records()
    for row in records:
        row["split"] = "test" if row["C"] > 5e20 else "train"
        row["mos"] = 5.0 - 0.9 * row["loss"]
        row[EVIL] = row["loss"]
    return RunTable.from_records(records)


@pytest.fixture(scope="module")
def done():
    few, rising = Resampling(replicates=200), LawSpec(better="higher", link="identity")
    through = Settings(spec=rising, resampling=few, loss="loss", baseline=3.0)
    return study(rows(), "loss", Settings(resampling=few)), study(rows(), "mos", through)


def test_every_figure_is_drawn_and_stands_alone(done):
    plain, through_loss = done
    names = {name for item in done for name, _, _ in draw(item)}
    assert names == set(FIGURES)
    assert "metric-loss" not in {name for name, _, _ in draw(plain)}
    for (_, figure, caption), (_, again, _) in zip(draw(through_loss), draw(through_loss), strict=True):
        with paper_style():
            text, picture = svg(figure), png(figure, 60)
            assert svg(again) == text
        tree = ET.fromstring(text)
        # letters are paths: no reader needs our fonts
        assert not [item for item in tree.iter() if item.tag.endswith("}text")]
        links = [value for item in tree.iter() for name, value in item.attrib.items() if name.endswith("href")]
        assert all(link.startswith(("#", "data:image/png")) for link in links)
        assert picture.startswith(b"\x89PNG")
        assert caption.endswith(".")


def lines(axes, label):
    return next(line for line in axes.get_lines() if line.get_label() == label)


def test_isoflop_curves_are_the_law_and_stars_the_budgets_optima(done):
    study_, _ = done
    axes = budgets.isoflop_curves(study_).axes[0]
    dots = lines(axes, "optimum of the law")
    N, loss = dots.get_xdata(), dots.get_ydata()
    # under C = 6 N D no other N is better: the dots are minima of the law's own values
    for size, value in zip(N[::20], loss[::20], strict=True):
        C = study_.frontier.N.C[np.argmin(abs(N - size))]
        assert value == pytest.approx(float(study_.fit.law.predict(size, C / 6 / size)), rel=1e-9)
        assert value <= study_.fit.law.predict(size * 1.1, C / 6 / size / 1.1)
        assert value <= study_.fit.law.predict(size / 1.1, C / 6 / size * 1.1)
    stars = {
        float(line.get_xdata()[0]) for line in axes.get_lines() if line.get_marker() == "*" and len(line.get_xdata())
    }
    assert stars == {item.N for item in study_.isoflops.optima}
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_optima_beyond_the_sizes_neither_stretch_the_axis_nor_stand_in_the_legend():
    # the best model of every budget is smaller than all that were trained
    records = simulate(LAW, Plan((1e18, 1e19, 1e20), 7, 12.0), 0.0, 0).to_records()
    table = RunTable.from_records([row for row in records if row["N"] > 3 * LAW.optimum(row["C"]).N])
    axes = budgets.isoflop_curves(study(table, "loss", Settings(resampling=Resampling(replicates=20)))).axes[0]
    assert axes.get_xlim()[0] > table.N.min() / 2
    assert "optimum of a budget's own curve" not in axes.get_legend_handles_labels()[1]


def test_panels_name_their_quantity_and_unit_and_bands_hold_the_line(done):
    study_, _ = done
    panels = budgets.optima(study_).axes
    assert [axes.get_ylabel() for axes in panels] == [
        "N*, parameters", "D*, tokens", "r*, tokens per parameter",
    ]  # fmt: skip
    assert {axes.get_xlabel() for axes in panels} == {"C [FLOP]"}
    for key in ("N", "D", "ratio", "kappa"):
        band = getattr(study_.frontier, key)
        assert np.all(band.low <= band.value)
        assert np.all(band.value <= band.high)
    # what the data were drawn from lies within the band at every sampled budget
    truth = LAW.optimum(study_.optima.N.C).N
    assert np.all((study_.optima.N.low < truth) & (truth < study_.optima.N.high))


def test_residuals_hide_no_row(done):
    study_, _ = done
    for axes in quality.residuals(study_).axes:
        low, high = axes.get_ylim()
        shown = np.concatenate(
            [np.asarray(line.get_ydata(), float) for line in axes.get_lines() if line.get_marker() in "oD^v"]
        )
        shown = shown[np.isfinite(shown)]
        assert len(shown) == len(study_.table)
        assert np.all((low < shown) & (shown < high))


def test_real_data_and_held_out_rows_are_marked(done):
    _, study_ = done
    axes = quality.metric_against_loss(study_).axes[0]
    assert set(lines(axes, "real data").get_ydata()) == {3.0}
    assert len(lines(axes, "held out").get_xdata()) == int(study_.test.sum()) == 7
    slope = np.polyfit(
        lines(axes, "line map of the loss").get_xdata(), lines(axes, "line map of the loss").get_ydata(), 1
    )
    assert slope == pytest.approx([-0.9, 5.0], rel=1e-3)


def flat(table):
    return [{**row, "loss": 0.3 + 0.01 * math.sin(78.233 * index)} for index, row in enumerate(table.to_records())]


@pytest.mark.parametrize(
    ("table", "metric", "replicates"),
    [
        (rows(), EVIL, 0),
        (RunTable.from_records(flat(rows())), "loss", 50),
        (rows(budgets=(1e19,)), "loss", 50),
        (RunTable.from_records([{**row, "N": 1e8} for row in rows().to_records()]), "loss", 50),
    ],
    ids=["a hostile name", "a flat metric", "one budget", "one size"],
)
def test_figures_of_odd_tables_are_drawn_all_the_same(table, metric, replicates):
    result = study(table, metric, Settings(resampling=Resampling(replicates=replicates)))
    seen = set()
    for name, figure, _ in draw(result):
        with paper_style():
            ET.fromstring(svg(figure))
        seen.add(name)
    assert "isoflop" in seen
    assert "predicted" in seen or result.fit is None


def test_the_figure_of_a_paper_holds_both_panels(done, tmp_path):
    plain, _ = done
    figure = paper.both_panels(plain)
    left, kappa, ranges = (axes for axes in figure.axes if axes.get_title(loc="left"))
    assert kappa.get_xscale() == kappa.get_yscale() == ranges.get_yscale() == "log"
    # the budget that was held out has the law's curve, as a dashed line over its rows
    dashed = [line for line in left.get_lines() if line.is_dashed() and len(line.get_xdata()) == 120]
    assert len(dashed) == 1
    N, value = dashed[0].get_data()
    np.testing.assert_allclose(value, plain.fit.law.predict(N, 1e21 / 6 / N), rtol=1e-9)
    drawn = {line.get_label(): line for line in ranges.get_lines()}
    C, dN = drawn["dN, law"].get_data()
    near = plain.fit.law.near_optimal(C, 0.01, relative=True)
    np.testing.assert_allclose(dN, near.N_high - near.N_low, rtol=1e-9)
    # budgets by themselves, by the roots of their own curves
    (C, value) = drawn["dN, budget"].get_data()
    budget = next(item for item in plain.isoflops.optima if C[0] == item.C)
    low, high = np.exp(budget.chosen.width(0.01 * budget.loss))
    assert value[0] == pytest.approx(high - low)
    files = write_figures(plain, tmp_path, ["paper"])
    assert [file.suffix for file in files] == [".svg", ".png", ".pdf"]
    assert files[2].read_bytes().startswith(b"%PDF")
    # Type 3 fonts are refused by journals
    assert b"/Type3" not in files[2].read_bytes()
    with pytest.raises(UnknownNameError, match="Did you mean 'paper'"):
        write_figures(plain, tmp_path, ["papers"])


def test_axes_of_one_decade_have_labels_between():
    with paper_style():
        figure, (axes,) = canvas()
        axes.plot([1.5e8, 2.5e9], [1, 2])
        logarithmic(axes)
        png(figure, 60)
    shown = [text.get_text() for text in (*axes.get_xticklabels(), *axes.get_xticklabels(minor=True))]
    assert len([text for text in shown if text]) >= 4


def test_axes_of_less_than_a_decade_have_labels_that_do_not_meet():
    with paper_style():
        figure, (axes,) = canvas()
        axes.plot([1.5e13, 6e13], [1, 2])
        logarithmic(axes)
        png(figure, 60)
        boxes = [text.get_window_extent() for text in axes.get_xticklabels() if text.get_text()]
    inside = [box for box in boxes if axes.bbox.x0 <= (box.x0 + box.x1) / 2 <= axes.bbox.x1]
    assert len(inside) >= 2
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(inside))


def test_the_figure_of_a_ladder_has_a_line_for_each_size_and_the_metric_beside_it(done):
    _, through_loss = done
    sizes, compute = (4e6, 1.5e7, 4e7), (1.5e13, 3e13, 6e13)
    records = [{"N": N, "C": C, "loss": 1e5 / N**0.1 / C**0.2} for N in sizes for C in compute]
    for row in records:
        row |= {"mos": 5 - row["loss"], "mos_low": 4.5 - row["loss"], "mos_high": 5.1 - row["loss"]}
    left, right = through.loss_and_metric(replace(through_loss, table=RunTable.from_records(records))).axes
    assert [line.get_label() for line in left.get_lines()] == ["4M parameters", "15M parameters", "40M parameters"]
    for line, N in zip(left.get_lines(), sizes, strict=True):
        C, loss = line.get_data()
        assert list(C) == list(compute)
        np.testing.assert_allclose(loss, [row["loss"] for row in records if row["N"] == N])
    vertical = [line.get_data() for line in right.get_lines() if len(line.get_xdata()) == 2]
    np.testing.assert_allclose(
        sorted((x[0], low, high) for x, (low, high) in vertical if x[0] == x[1]),
        sorted((row["loss"], row["mos_low"], row["mos_high"]) for row in records),
    )


def test_a_figure_that_cannot_be_drawn_names_what_it_needs(done, tmp_path):
    plain, _ = done
    assert set(NEEDS) == set(FIGURES)
    with pytest.raises(UsageError, match="'ladder': it needs a metric that is fitted through a loss"):
        write_figures(plain, tmp_path, ["ladder"])


def test_counts_in_words():
    assert [in_words(count) for count in (4487840, 999_900, 1.2e9, 12, 7e12)] == ["4.49M", "1M", "1.2B", "12", "7T"]
