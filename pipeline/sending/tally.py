"""What is known of a run, counted in bounded memory."""

from __future__ import annotations

from hashlib import blake2b

from pipeline.lead import Lead, key

__all__ = ["Tally"]

#: As many ids are told apart, in about 10 MB; of a larger file the summary says that there are more.
IDS_MAX = 100_000


class Tally:
    """Leads accepted, lines refused, and how many message ids the accepted leads have."""

    def __init__(self, ids_max: int = IDS_MAX) -> None:
        self.accepted = 0
        self.refused = 0
        self._ids_max = ids_max
        self._ids: set[bytes] | None = set()

    def accept(self, lead: Lead) -> None:
        """Count a lead."""
        self.accepted += 1
        if self._ids is not None:
            self._ids.add(blake2b(key(lead), digest_size=8).digest())
            if len(self._ids) > self._ids_max:
                self._ids = None

    def text(self, accepted: str) -> str:
        """The counts in words; `accepted` says what accepted leads are."""
        ids = f" ({self._different()})" if self.accepted else ""
        return f"{_counted(self.accepted, 'lead')} {accepted}{ids}, {_counted(self.refused, 'line')} refused"

    def _different(self) -> str:
        if self._ids is None:
            return f"more than {_counted(self._ids_max, 'different message id')}"
        return _counted(len(self._ids), "different message id")


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
