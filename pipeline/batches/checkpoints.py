"""Which offset of a partition is safe to commit: the end of the longest acknowledged prefix of what was delivered."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from faust.types import TP

from pipeline.batches.batch import Batch

__all__ = ["Checkpoints"]


class Checkpoints:
    """The batches that were delivered, by partition and in the order of the log, and what may be committed of them.

    Every offset is the next one to read. Gaps in the log need no bookkeeping, because a batch knows where the next one
    begins, and batches are delivered in a contiguous order.
    """

    def __init__(self) -> None:
        self._delivered: dict[TP, deque[Batch]] = {}
        self._size_bytes: dict[TP, int] = {}
        self._reached: dict[TP, int] = {}
        self._committed: dict[TP, int] = {}

    def start(self, tp: TP, offset: int) -> None:
        """Begin with `tp` at `offset`, which is committed or the start of the log."""
        self._delivered[tp] = deque()
        self._size_bytes[tp] = 0
        self._reached[tp] = self._committed[tp] = offset

    def deliver(self, batch: Batch) -> None:
        """Note that `batch` goes to the agents. It must continue where the last one of its partition ended."""
        self._delivered[batch.tp].append(batch)
        self._size_bytes[batch.tp] += batch.size_bytes

    def ack(self, batch: Batch) -> bool:
        """Note that all of `batch` is safe; return whether the checkpoint of its partition moved.

        A batch of an epoch that is over, or that was never delivered, moves nothing.
        """
        if batch.epoch.over:
            return False
        batch.acked = True
        delivered = self._delivered.get(batch.tp)
        moved = False
        while delivered and delivered[0].acked:
            head = delivered.popleft()
            self._reached[batch.tp] = head.next_offset
            self._size_bytes[batch.tp] -= head.size_bytes
            moved = True
        return moved

    def outstanding(self, tp: TP) -> int:
        """How many batches of `tp` are delivered and hold back the checkpoint."""
        return len(self._delivered.get(tp, ()))

    def outstanding_bytes(self, tp: TP) -> int:
        """The size of these batches."""
        return self._size_bytes.get(tp, 0)

    def reached(self, tp: TP) -> int | None:
        """The offset up to which everything of `tp` is safe."""
        return self._reached.get(tp)

    def pending(self) -> dict[TP, int]:
        """The checkpoints that are not committed yet."""
        return {tp: offset for tp, offset in self._reached.items() if offset > self._committed[tp]}

    def committed(self, offsets: Mapping[TP, int]) -> None:
        """Note that the broker has confirmed `offsets`."""
        for tp, offset in offsets.items():
            if tp in self._committed:
                self._committed[tp] = max(self._committed[tp], offset)

    def forget(self) -> None:
        """Drop everything: the assignment is over."""
        self._delivered.clear()
        self._size_bytes.clear()
        self._reached.clear()
        self._committed.clear()
