"""`Row`: one measured claim of the calibration table."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Row"]


@dataclass(frozen=True)
class Row:
    """One measured claim.

    Attributes:
        number: Row of the table.
        what: The claim.
        nominal, before, after: What it promises, what an earlier version and this one do.
    """

    number: int
    what: str
    nominal: str
    before: str
    after: str
