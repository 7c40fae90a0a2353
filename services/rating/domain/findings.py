"""What an examination of journal, books and balances finds."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

FINDINGS_MAX = 1_000
"""Findings that are told one by one; further ones are only counted."""


class Code(StrEnum):
    """What is wrong; the words are stable."""

    SEGMENT_CORRUPT = "SEGMENT_CORRUPT"
    SEGMENT_MISSING = "SEGMENT_MISSING"
    SEGMENT_OUT_OF_EPOCH = "SEGMENT_OUT_OF_EPOCH"
    SEGMENT_NOT_CHAINED = "SEGMENT_NOT_CHAINED"
    PROGRAM_MISSING = "PROGRAM_MISSING"
    PROGRAM_CHANGED = "PROGRAM_CHANGED"
    EVENT_TWICE = "EVENT_TWICE"
    BOOKS_AHEAD = "BOOKS_AHEAD"
    BOOKS_ROW_MISSING = "BOOKS_ROW_MISSING"
    BOOKS_ROW_UNKNOWN = "BOOKS_ROW_UNKNOWN"
    BOOKS_ROW_DIFFERS = "BOOKS_ROW_DIFFERS"
    BALANCE_UNEQUAL = "BALANCE_UNEQUAL"
    BALANCE_NEGATIVE = "BALANCE_NEGATIVE"
    OWED_UNEQUAL = "OWED_UNEQUAL"
    RESERVED_TOO_MUCH = "RESERVED_TOO_MUCH"
    RESERVED_UNEQUAL = "RESERVED_UNEQUAL"
    STATE_BEHIND = "STATE_BEHIND"
    STATE_MISSING = "STATE_MISSING"
    STATE_UNKNOWN = "STATE_UNKNOWN"
    STATE_DIFFERS = "STATE_DIFFERS"
    SESSION_END_DIFFERS = "SESSION_END_DIFFERS"
    ID_MISSING = "ID_MISSING"
    ID_UNKNOWN = "ID_UNKNOWN"
    ID_DIFFERS = "ID_DIFFERS"


_RESTORE = "Restore the segment from a replica or backup of the journal; until then nothing after it is folded."
_REPORT = "The journal itself says so: keep it and report it; no rebuild mends this."
_CORRECT = "If somebody changed Valkey before it was used again, correct it by POST /v1/adjustments; else report it."
_REPAIRS = {
    "SEGMENT": _RESTORE,
    "PROGRAM": "Restore the program from a replica or backup of the journal.",
    "EVENT": "Refund one of its two charges (POST /v1/refunds); see that the balance store forgets nothing by itself.",
    "BOOKS": "meterline rebuild --ledger",
    "BALANCE": _CORRECT,
    "OWED": _CORRECT,
    "RESERVED": _REPORT,
    "STATE": "meterline rebuild --valkey",
    "SESSION": "meterline rebuild --valkey",
    "ID": "meterline rebuild --valkey",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it must be.

    Attributes:
        code: what kind of thing.
        place: where: cell, segment, table and key, balance, holder or session.
        message: what is there and what should be.
    """

    code: Code
    place: str
    message: str

    @property
    def repair(self) -> str:
        """The command to run, or what else to do."""
        return _REPAIRS[self.code.partition("_")[0]]


@dataclass(slots=True)
class CellReport:
    """What was looked at of a cell.

    Attributes:
        epoch: its epoch in the journal.
        segments: sequence of the last segment looked at.
        folded: sequence up to which the books are.
        compared: sequence up to which journal and books were compared; less than `folded` behind damage.
        records: usage records in these segments.
        state: "compared", or why Valkey's state could not be.
        holders: endpoints and accounts whose balances were looked at.
        sessions: sessions that were looked at.
        ids: answered ids that were looked up.
    """

    cell: int
    epoch: int
    segments: int = 0
    folded: int = 0
    compared: int = 0
    records: int = 0
    state: str = ""
    holders: int = 0
    sessions: int = 0
    ids: int = 0


@dataclass(slots=True)
class Report:
    """Everything that was looked at and found."""

    cells: dict[int, CellReport] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[Code] = field(default_factory=Counter)

    def add(self, code: Code, place: str, message: str) -> None:
        """Note a finding."""
        self.counts[code] += 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(code, place, message))

    def extend(self, findings: Iterable[Finding]) -> None:
        """Note findings."""
        for finding in findings:
            self.add(finding.code, finding.place, finding.message)

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.counts
