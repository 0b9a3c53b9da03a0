# %% [markdown]
# # Which system is nearer to real speech?
# Paste the cells into a notebook, or run the file. It works offline; speech is synthesised by eSpeak (`pip install 'cdslm-eval[speech]'`).

# %%
import tempfile
from pathlib import Path

import cdslm_eval

folder = Path(tempfile.mkdtemp())
text = folder / "text.txt"
text.write_text(
    "The boats came home before the storm.\nNobody had expected so much rain in May.\n"
    "She opened the old letter and read it twice.\nA small dog slept under the long table.\n"
    "We walked along the river until it was dark.\nThe baker sells warm bread on the corner.\n" * 2
)

# %% [markdown]
# Real speech, and two systems that babble with its phones: in the right proportions, and uniformly.

# %%
real = cdslm_eval.generate("speak", folder / "real", options={"path": str(text)}, count=12, seconds=2)
for order in (1, 0):
    cdslm_eval.generate(
        "babble", folder / f"order{order}", options={"order": order, "text": str(text)}, count=12, seconds=2
    )

# %%
result = cdslm_eval.score(
    {"proportional": folder / "order1", "uniform": folder / "order0"},
    reference=real,
    metrics=["pjsd", "signal"],
    store=folder / "rows.cdslm",
)
result

# %%
for name in ("pjsd_1", "pjsd_2"):
    for system in result.systems:
        print(name, system, result.estimate(name, system).headline())

# %%
difference = cdslm_eval.compare(
    {"proportional": folder / "order1"},
    {"uniform": folder / "order0"},
    reference=real,
    metrics="pjsd",
    store=folder / "rows.cdslm",
)
print(difference.verdict(difference.difference("pjsd_1")))

# %%
print(result.to_latex(["pjsd_1", "pjsd_2"]))
