"""Is it the records that make the code raise, or the code?"""

from __future__ import annotations

from mode import get_logger

from pipeline.batches.batch import Fatal

__all__ = ["SYSTEMATIC_RECORDS", "BugCount"]

logger = get_logger(__name__)

#: When that many records in a row raise and none does not, the fault is in the code: dead-lettering would never end.
SYSTEMATIC_RECORDS = 100


class BugCount:
    """Counts records in a row that raised."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def note(self, bugs: int, records: int, example: Exception | None) -> None:
        """Of `records` records `bugs` raised, such as `example`. Called before they are dead-lettered.

        Raises:
            Fatal: it is not the records.
        """
        self._in_a_row = self._in_a_row + bugs if bugs == records else 0
        if self._in_a_row >= SYSTEMATIC_RECORDS:
            raise Fatal(f"The code raises for each of {self._in_a_row} records: it is not they") from example
        if bugs:
            logger.error("%s of %s records make the code raise; they are dead-lettered as bugs", bugs, records)
