"""Records of the estimates that a store keeps, joined to N, D and C of their systems."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdslm_eval.core.errors import UnknownNameError, UsageError
from cdslm_eval.core.records import read_records

if TYPE_CHECKING:
    from cdslm_eval.core.store import Store
    from cdslm_eval.plugin.contract import GeneratorInfo

__all__ = ["store_records"]

_VALUES = ("value", "corrected", "held_out", "held_out_common")


def store_records(
    store: Store,
    systems: Mapping[str, GeneratorInfo | Mapping[str, Any]] | Path | str,
    run: int | None = None,
    value: str = "value",
) -> list[dict[str, Any]]:
    """Return one record per system of a scoring run; arguments as in `RunTable.from_store`.

    Raises:
        UsageError: The store holds no such run, one name has several identities, or no system of it is described.
    """
    if value not in _VALUES:
        raise UnknownNameError("number of an estimate", value, _VALUES)
    run_ids = [one["id"] for one in store.runs()]
    if not run_ids or (run is not None and run not in run_ids):
        what = f"no run {run}" if run_ids else "no finished run"
        raise UsageError(f"{store.path}: {what} in this store; see `cdslm-eval export --runs`")
    described = _described(systems)
    records: dict[str, dict[str, Any]] = {}
    identities: dict[str, str] = {}
    for estimate in store.estimates(run_ids[-1] if run is None else run):
        name, system = estimate["name"], estimate["system"]
        if identities.setdefault(name, estimate["identity"]) != estimate["identity"]:
            raise UsageError(
                f"{store.path}: {name} was measured as {identities[name]} and as {estimate['identity']}; "
                "values of different identity are different metrics"
            )
        if system in described:
            row = records.setdefault(system, {"run": system, **described[system]})
            row[name] = estimate[value]
    if not records:
        raise UsageError(
            f"{store.path}: N, D and C are known of {', '.join(described) or 'no system'}, and none of them was scored"
        )
    return list(records.values())


def _described(systems: Mapping[str, GeneratorInfo | Mapping[str, Any]] | Path | str) -> dict[str, dict[str, Any]]:
    if isinstance(systems, Mapping):
        return {name: _facts(info) for name, info in systems.items()}
    rows_of_system = {}
    for line, record in read_records(systems):
        name = record.get("system")
        if not name:
            raise UsageError(f"{systems}, line {line}: no 'system' to join the estimates by")
        rows_of_system[str(name)] = {key: value for key, value in record.items() if key != "system"}
    return rows_of_system


def _facts(info: GeneratorInfo | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(info, Mapping):
        return dict(info)
    known = {"N": info.parameters, "D": info.tokens, "C": info.flops}
    facts: dict[str, Any] = {name: value for name, value in known.items() if value is not None}
    return facts | {f"{name} convention": text for name, text in info.conventions.items()}
