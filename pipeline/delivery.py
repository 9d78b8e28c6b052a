"""A batch to a sink: retry, back off, split off what can never be written. The caller acknowledges what was delivered.

Dead letters go first, then rows: a process that dies in between repeats a dead letter, and never loses a lead.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from pipeline.batches import Fatal
from pipeline.circuit import Pause, SinkHealth, patiently
from pipeline.sinks.base import AcceptedLead, Checkpoint, Fenced, RecordsRejected, Sink, StreamOffset

__all__ = ["deliver"]

#: Returns when the broker has the letter.
DeadLetter = Callable[[AcceptedLead, str], Awaitable[None]]


async def deliver(
    sink: Sink,
    leads: Sequence[AcceptedLead],
    *,
    checkpoint: Checkpoint | None = None,
    dead_letter: DeadLetter,
    pause: Pause,
    health: SinkHealth,
) -> StreamOffset | None:
    """Write leads, however long it takes, and with a `checkpoint` take its step in the transaction of the rows.

    Returns where the lane then stands, None without a checkpoint. It returns when every lead is durable in the sink or
    acknowledged as a dead letter, and only then may the batch be acknowledged. What `pause` raises when the partition
    is being let go comes through, as does any error of the sink that is no `SinkError`.

    Raises:
        Fatal: the sink's database has gone back, or forgotten the lane.
    """
    remaining = list(leads)
    while remaining or checkpoint is not None:
        try:
            write = _write(sink, remaining, checkpoint)
            new = await patiently(write, pause=pause, health=health)
        except RecordsRejected as error:
            remaining = await _split(remaining, error, dead_letter)
            health.leads_rejected += len(error.reasons)
        except Fenced as error:
            assert checkpoint is not None
            found = _ahead(checkpoint, error.found)
            await pause(0)  # raises when it is not ours any more
            if found.next_offset >= checkpoint.after.next_offset:
                health.written(len(remaining), 0)
                return found
            remaining = [lead for lead in remaining if lead.offset >= found.next_offset]
            checkpoint = replace(checkpoint, position=found.next_offset)
        else:
            health.written(len(remaining), new)
            break
    return None if checkpoint is None else checkpoint.after


def _write(sink: Sink, leads: Sequence[AcceptedLead], checkpoint: Checkpoint | None) -> Callable[[], Awaitable[int]]:
    return lambda: sink.write(leads, checkpoint)


def _ahead(checkpoint: Checkpoint, found: StreamOffset | None) -> StreamOffset:
    """Where somebody has got to who wrote this lane meanwhile, mostly this worker, whose answer got lost."""
    where = f"{checkpoint.lane.topic}/{checkpoint.lane.partition}"
    if found is None:
        raise Fatal(f"The checkpoint of {where} is gone from the CRM's database; a restart begins at the log's start")
    if found.log_id != checkpoint.after.log_id or found.next_offset < checkpoint.position:
        # It was restored, or failed over to a copy that lacks the last rows. These have to be read again.
        raise Fatal(f"The checkpoint of {where} in the CRM's database went back; a restart goes on from what it says")
    return found


async def _split(leads: list[AcceptedLead], rejection: RecordsRejected, dead_letter: DeadLetter) -> list[AcceptedLead]:
    """Dead-letter what was rejected, in order, and return the rest."""
    reasons = rejection.reasons
    if not reasons or not reasons.keys() <= set(range(len(leads))):
        raise rejection  # a bug in the sink: going on would never end, or drop the wrong lead
    for index in sorted(reasons):
        await dead_letter(leads[index], reasons[index])
    return [lead for index, lead in enumerate(leads) if index not in reasons]
