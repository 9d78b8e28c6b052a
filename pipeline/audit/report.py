"""What an audit found, for people and programs (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pipeline.audit.judgement import ANOMALIES, Judged, Place, Verdict
from pipeline.audit.mending import Mended
from pipeline.audit.outcome import Outcome, WrongCounter
from pipeline.inspection.answers import BadName, lead_name
from pipeline.inspection.tables import age
from pipeline.showing import printable
from pipeline.spool import Waiting
from pipeline.topic_names import CAPTURED

__all__ = ["COUNTER", "Report", "record_as_json"]

COUNTER = "counter"

_WHAT = {
    Verdict.LOST: "passed by dedupe, and neither in lead-accepted nor in the CRM nor a dead letter: "
    "skipped with `leads skip`, or lost",
    Verdict.MISSING: "was in lead-accepted, and is neither in the CRM nor a dead letter: "
    "deleted from the CRM, skipped with `leads skip`, or lost",
    Verdict.DIFFERS: "the row with its id has other content: edited in the CRM, or of another lead with this id",
    Verdict.PHANTOM: "a row of the CRM whose id was never captured",
    Verdict.DOUBLED: "several rows of the CRM have this id",
}
_MEANS = {
    Verdict.WRITTEN: "in the CRM",
    Verdict.DUPLICATE: "repeats of these leads",
    Verdict.DEAD_LETTERED: "",
    Verdict.PENDING: "on their way",
    Verdict.FORGOTTEN: "not in the CRM; the dead letters of their time are deleted, so nobody can say",
}


@dataclass
class Report:
    """An audit.

    Attributes:
        app: whose.
        front: the group that dedupes for it; None when nobody does.
        at: when the checkpoints were read.
        is_everything: every record was meant.
        outcome: the verdicts.
        keys: of the listed records.
        rows: tenant and message id of the listed rows, by the names of their keys.
        rows_count: how many rows the CRM has.
        seconds: how long it took.
        mended: what was sent; None when nothing was to be.
        is_dry_run: it was not really.
        spooled: what waits in the spool of this data directory, and is in no topic yet.
    """

    app: str
    front: str | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    is_everything: bool = True
    outcome: Outcome = field(default_factory=Outcome)
    keys: dict[Place, bytes | None] = field(default_factory=dict)
    rows: dict[bytes, tuple[str, str]] = field(default_factory=dict)
    rows_count: int = 0
    seconds: float = 0.0
    mended: Mended | None = None
    is_dry_run: bool = False
    spooled: Waiting = field(default_factory=Waiting)

    @property
    def left(self) -> int:
        """Anomalies that are not mended."""
        return self.outcome.anomalies - (self.mended.sent if self.mended and not self.is_dry_run else 0)

    def lines(self) -> Iterator[str]:
        """The summary, in words, and then the anomalies."""
        found = self.outcome
        meant = "every record" if self.is_everything else "the records in this range"
        yield (
            f"{self.app}: {found.records:,} of {CAPTURED} ({meant}) and {self.rows_count:,} rows of the CRM, by the "
            f"checkpoints of {_time(self.at)}, in {self.seconds:.1f} s."
        )
        for verdict, means in _MEANS.items():
            if found.counts[verdict] or verdict is not Verdict.FORGOTTEN:
                means = self._reasons() if verdict is Verdict.DEAD_LETTERED else means
                yield f"  {found.counts[verdict]:>13,}  {verdict}{f': {means}' if means else ''}"
        if self.spooled.depth:
            text = f"in the spool of this machine, the oldest for {age(self.spooled.age_s)}, and in no topic yet"
            yield f"  {self.spooled.depth:>13,}  spooled: {text}"
        if found.anomalies:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in self._anomalies().items() if count)
            yield f"  {found.anomalies:>13,}  {'anomaly' if found.anomalies == 1 else 'anomalies'}: {kinds}"
            yield from map(self._line, found.listed)
            yield from map(_counter_line, found.listed_counters)
            if rest := found.anomalies - len(found.listed) - len(found.listed_counters):
                yield f"and {rest:,} more of the same kinds (see --limit)."
        else:
            yield "The books balance."
        if self.mended is not None:
            yield from mended_lines(self.mended, is_dry_run=self.is_dry_run)

    def as_json(self) -> dict[str, Any]:
        """The members of the JSON object."""
        found = self.outcome
        mended = self.mended and {"sent": self.mended.sent, "skipped": dict(self.mended.skipped)}
        return {
            "app": self.app,
            "deduped_by": self.front,
            "at": _time(self.at),
            "everything": self.is_everything,
            "seconds": round(self.seconds, 3),
            "records": found.records,
            "rows": self.rows_count,
            **{verdict.replace("-", "_"): found.counts[verdict] for verdict in _MEANS},
            "reasons": dict(sorted(found.reasons.items())),
            "anomalies": found.anomalies,
            "by_kind": self._anomalies(),
            "listed": [*map(self._as_json, found.listed), *map(_counter_as_json, found.listed_counters)],
            "spooled": {"depth": self.spooled.depth, "age_s": round(self.spooled.age_s, 1)},
            "mended": mended,
            "dry_run": self.is_dry_run,
        }

    def _anomalies(self) -> dict[str, int]:
        return {**{one.value: self.outcome.counts[one] for one in ANOMALIES}, COUNTER: self.outcome.counters}

    def _reasons(self) -> str:
        return ", ".join(f"{count:,} {printable(reason)}" for reason, count in sorted(self.outcome.reasons.items()))

    def _name(self, one: Judged) -> tuple[str, str] | None:
        if one.place is None:
            return self.rows.get(one.of) if isinstance(one.of, bytes) else None
        try:
            text = (self.keys.get(one.place) or b"").decode()
            return lead_name(text) if text.count("/") == 1 else None
        except (UnicodeDecodeError, BadName):
            return None  # a key that names no lead may be anything

    def _line(self, one: Judged) -> str:
        where = f"{CAPTURED} {one.place[0]} {one.place[1]}" if one.place else "(a row)"
        name = "/".join(self._name(one) or ("–",))
        return printable(f"{one.verdict:<8} {where:<24} {name}: {_WHAT[one.verdict]}.")

    def _as_json(self, one: Judged) -> dict[str, Any]:
        partition, offset = one.place or (None, None)
        tenant, message_id = self._name(one) or (None, None)
        return {
            "kind": one.verdict,
            "partition": partition,
            "offset": offset,
            "tenant": tenant,
            "message_id": message_id,
            "what": _WHAT[one.verdict],
            "mendable": one.is_mendable,
        }


def mended_lines(mended: Mended, *, is_dry_run: bool) -> Iterator[str]:
    """What was sent, in words."""
    sent = "would be sent to lead-accepted, none was" if is_dry_run else "sent to lead-accepted"
    yield f"{mended.sent:,} record{'' if mended.sent == 1 else 's'} {sent}."
    for why, count in sorted(mended.skipped.items()):
        yield f"Not sent: {count:,}, {why}."


def record_as_json(one: Judged) -> dict[str, Any]:
    """The members of the JSON object of one record."""
    partition, offset = one.place or (None, None)
    found: dict[str, Any] = {"partition": partition, "offset": offset, "verdict": one.verdict}
    if isinstance(one.of, tuple):
        found["of"] = {"partition": one.of[0], "offset": one.of[1]}
    elif isinstance(one.of, str):
        found["reason"] = one.of
    return found


def _counter_what(one: WrongCounter) -> str:
    return f"its contact counts {one.submissions:,} submissions and has {one.rows:,} rows"


def _counter_line(one: WrongCounter) -> str:
    name = f"{one.tenant}/{one.message_id}" if one.message_id is not None else f"(of {one.tenant}, without leads)"
    return printable(f"{COUNTER:<8} {'(a contact)':<24} {name}: {_counter_what(one)}.")


def _counter_as_json(one: WrongCounter) -> dict[str, Any]:
    return {
        "kind": COUNTER,
        "partition": None,
        "offset": None,
        "tenant": one.tenant,
        "message_id": one.message_id,
        "what": _counter_what(one),
        "submissions": one.submissions,
        "rows": one.rows,
        "mendable": False,
    }


def _time(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
