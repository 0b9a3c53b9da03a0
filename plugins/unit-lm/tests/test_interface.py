"""The package imports the declared interface of the model only."""

from __future__ import annotations

import ast
from pathlib import Path

import cdslm_eval_unit_lm

# The last two are listed apart: `writing` loads the Python API of the evaluation package, which training does not need
DECLARED = {"cdslm_model", "cdslm_model.cli", "cdslm_model.plugin"}
DECLARED |= {"cdslm_model.plugin.verbosity", "cdslm_model.plugin.writing"}


def test_the_model_is_imported_through_its_interface():
    imported = {
        node.module
        for path in Path(cdslm_eval_unit_lm.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cdslm_model")
    }
    assert imported <= DECLARED
