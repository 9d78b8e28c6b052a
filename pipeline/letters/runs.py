"""The work of `leads dead-letters`: a connection, what to read, and what to do with each letter."""

from __future__ import annotations

from collections.abc import Callable

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from pipeline.inspection.connection import connected
from pipeline.letters.filters import Filters
from pipeline.letters.found import DeadLetter
from pipeline.letters.output import Output
from pipeline.letters.reading import Reading, Spans, partitions, spans
from pipeline.letters.replay import Outcome, Replay
from pipeline.letters.sending import gave_up, pretending, sending
from pipeline.settings import Settings
from pipeline.topic_names import ACCEPTED, DEAD_LETTER

__all__ = ["replay", "tell"]

#: How long reading waits for a broker that sends nothing.
PATIENCE_S = 10.0


async def tell(
    settings: Settings,
    filters: Filters,
    shown: Callable[[DeadLetter], str],
    *,
    place: tuple[int, int] | None = None,
    head: str | None = None,
) -> Reading:
    """Print the letters that are meant; returns how many there were.

    Args:
        settings: those of the broker.
        filters: which are meant.
        shown: what is printed of a letter.
        place: partition and offset of the only one to be read.
        head: printed before the first letter.

    Raises:
        Unavailable: the broker does not answer.
        NoTopics: there is no topic to read.
        CannotPrint: nobody takes what is printed.
    """
    reading = Reading(filters, patience_s=PATIENCE_S)
    async with connected(settings) as connection:
        wanted = _at(place, await spans(connection, settings))
        with Output(reading, _size(wanted), head) as output:
            async for one in reading.letters(connection.consumer, wanted, moved=output.moved):
                output.print(shown(one))
    return reading


async def replay(
    settings: Settings,
    filters: Filters,
    outcome: Outcome,
    shown: Callable[[DeadLetter, str | None], str],
    *,
    head: str | None,
    dry_run: bool,
    patience_s: float,
) -> None:
    """Send the leads of the letters that are meant. `outcome` counts, also when this raises.

    Args:
        settings: those of the broker, and of the group whose letters are meant when `filters` name none.
        filters: which are meant.
        outcome: counts.
        shown: what is printed of a letter whose lead was sent (None) or cannot be, and why; nothing when it is empty.
        head: printed before the first letter.
        dry_run: only say what would be sent.
        patience_s: how long to wait for a broker that sends or acknowledges nothing.

    Raises:
        Unavailable: the broker does not answer, or not any more.
        NoTopics: there is no topic to read or to send to.
        CannotPrint: nobody takes what is printed.
    """
    reading = Reading(filters, patience_s=patience_s)
    async with connected(settings) as connection:
        wanted = await spans(connection, settings)
        numbers = await partitions(connection, settings, ACCEPTED)

        try:
            sends = pretending(outcome.count) if dry_run else sending(settings, outcome.count, patience_s=patience_s)
            async with sends as append:
                with Output(reading, _size(wanted), head) as output:
                    work = Replay(
                        outcome,
                        append,
                        partitions=len(numbers),
                        group=None if filters.group else settings.app_id,
                        told=lambda one, why: output.print(shown(one, why)),
                    )
                    async for one in reading.letters(connection.consumer, wanted, moved=output.moved):
                        await work.take(one)
                    await work.flush()
        except KafkaError as error:
            raise gave_up(settings, error, patience_s=patience_s) from None


def _at(place: tuple[int, int] | None, whole: Spans) -> Spans:
    if place is None:
        return whole
    tp, offset = TopicPartition(DEAD_LETTER, place[0]), place[1]
    start, end = whole.get(tp, (0, 0))
    return {tp: (offset, offset + 1)} if start <= offset < end else {}


def _size(wanted: Spans) -> int:
    return sum(end - start for start, end in wanted.values())
