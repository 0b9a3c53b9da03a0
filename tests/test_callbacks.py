"""Scores of checkpoints: the table that they leave, and the two trainers that call them."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from cdslm_eval import RunTable, UsageError
from cdslm_eval.callbacks import CheckpointScores, lightning_callback, trainer_callback

RATE_HZ = 16_000


def tone(level, clips=3):
    return [(np.full(RATE_HZ, level * (1 + i / 10), dtype=np.float32), RATE_HZ) for i in range(clips)]


@pytest.fixture
def logged():
    return []


@pytest.fixture
def scores(tmp_path, logged):
    def log(values, step):
        logged.append((step, values))

    options = {"store": tmp_path / "rows.cdslm", "jobs": 1}
    return CheckpointScores(tmp_path / "runs.csv", metrics="signal", parameters=1000, logs=[log], **options)


def test_rows_of_checkpoints_are_a_table_that_a_fit_reads(scores, logged):
    for step, level in ((10, 0.1), (20, 0.2)):
        scores.score(tone(level), step=step, tokens=step * 8, loss=1 / step)
    # measured again after the training was resumed: its row is replaced
    scores.score(tone(0.4), step=20, tokens=160, loss=0.5)
    table = RunTable.read(scores.table)
    assert table.D.tolist() == [80, 160]
    assert table.C.tolist() == [6 * 1000 * 80, 6 * 1000 * 160]
    assert table.metrics["val_loss"].tolist() == [0.1, 0.5]
    # twice the amplitude is 6.02 dB
    assert np.diff(table.metrics["level"]) == pytest.approx([20 * np.log10(4)], abs=0.01)
    assert set(table.run) == {"run"}
    assert [step for step, _ in logged] == [10, 20, 20]
    assert logged[0][1]["level"] == pytest.approx(table.metrics["level"][0])


def test_a_failed_score_is_logged_and_does_not_end_the_training(scores, logged, caplog):
    def explode():
        raise RuntimeError("out of memory")

    with caplog.at_level(logging.WARNING, "cdslm_eval"):
        assert scores.attempt(explode, step=3, tokens=1) is None
        assert scores.attempt(lambda: "no/such/folder", step=4, tokens=1) is None
        # such as a tracker or a model of somebody else raises
        assert scores.attempt(lambda: {}["clips"], step=5, tokens=1) is None
    assert "step 3 was not scored: RuntimeError: out of memory" in caplog.text
    assert "step 4 was not scored: UsageError" in caplog.text
    assert "step 5 was not scored: KeyError: 'clips'" in caplog.text
    assert scores.rows() == []
    assert logged == []


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "run,step\nx,1,2\n", 'run,step\n"x,1\n'])
def test_a_table_of_another_kind_is_refused_before_the_training(tmp_path, text):
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(UsageError, match=r"runs\.csv.*name another file"):
        CheckpointScores(tmp_path / "runs.csv", metrics="signal", parameters=1)


def test_sizes_and_steps_that_cannot_be_are_refused(scores, tmp_path):
    with pytest.raises(UsageError, match="not the size of a model"):
        CheckpointScores(tmp_path / "other.csv", parameters=0)
    pytest.importorskip("torch")
    with pytest.raises(UsageError, match="every = 0"):
        trainer_callback(scores, tone, every=0)


def test_transformers_trainer_scores_without_disturbing_the_training(scores, tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("accelerate")
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    def train(folder, callbacks, counted="all"):
        torch.manual_seed(0)
        config = GPT2Config(vocab_size=16, n_positions=8, n_embd=8, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0)
        data = [{"input_ids": torch.arange(i, i + 8) % 16, "labels": torch.arange(i, i + 8) % 16} for i in range(8)]
        arguments = TrainingArguments(
            str(folder),
            max_steps=4,
            per_device_train_batch_size=2,
            include_num_input_tokens_seen=counted,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            logging_steps=1,
        )
        trainer = Trainer(GPT2LMHeadModel(config), arguments, train_dataset=data, callbacks=callbacks)
        trainer.train()
        return [line["loss"] for line in trainer.state.log_history if "loss" in line]

    modes = []

    def make(model):
        modes.append((model.training, torch.is_grad_enabled()))
        # drawn from torch's generator, as sampling is
        return [(0.1 * torch.rand(RATE_HZ).numpy(), RATE_HZ)]

    scored = train(tmp_path / "a", [trainer_callback(scores, make, every=2)])
    assert modes == [(False, False)] * 2
    assert scored == train(tmp_path / "b", None)
    rows = scores.rows()
    assert [float(row["step"]) for row in rows] == [2, 4]
    assert [float(row["D"]) for row in rows] == [2 * 2 * 8, 4 * 2 * 8]
    assert [float(row["C"]) for row in rows] == [6 * 1000 * 2 * 2 * 8, 6 * 1000 * 4 * 2 * 8]
    # steps must not pass for tokens
    with pytest.raises(UsageError, match="counts no tokens"):
        train(tmp_path / "c", [trainer_callback(scores, make, every=2)], counted="no")


# Lightning's own use of torch
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_lightning_logs_the_values_with_its_own_loggers(scores, tmp_path, logged):
    torch = pytest.importorskip("torch")
    lightning = pytest.importorskip("pytorch_lightning")
    from pytorch_lightning.loggers import CSVLogger

    class Line(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch, index):
            del index
            return self.layer(batch).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    logger = CSVLogger(tmp_path, flush_logs_every_n_steps=1)

    def make(module):
        return tone(0.1 if module.training else 0.2)

    callback = lightning_callback(scores, make, every=2, tokens_per_step=5)
    trainer = lightning.Trainer(
        max_steps=4,
        accelerator="cpu",
        callbacks=[callback],
        logger=logger,
        # two batches an optimizer step: each step is scored once
        accumulate_grad_batches=2,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(Line(), torch.utils.data.DataLoader(torch.ones(32, 1), batch_size=2))
    assert [(float(row["step"]), float(row["D"])) for row in scores.rows()] == [(2, 10), (4, 20)]
    logged_by_lightning = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text()
    assert "level" in logged_by_lightning.splitlines()[0]
    # those of the object are for loops without loggers of their own
    assert logged == []
