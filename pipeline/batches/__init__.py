"""Faust, a batch at a time: what replaces stock Faust between the fetch and the checkpoint.

Knows Faust and Kafka, and nothing of leads. Where to look:

    app         the Faust app, `batch_agent`, the life of a worker
    batch       what an agent gets
    fetch       aiokafka's consumer, in its thread
    consumer    contiguous delivery, commit
    checkpoints which offset is safe
    bugs        is it the records, or the code?
    lanes       partitions beside each other; one bad record stops no other
    producer    appended means acknowledged
    table       entries that never run ahead of their changelog
    store       their database, RocksDB
    reread      what else stands in a changelog
    recovery    tables after a rebalance
    passing     which errors of the broker pass by themselves
    former      the process that was here before leaves the group
    identity    which log is this?
    watched     services whose tasks may not end
    noise       a readable log while a broker is away
"""

from pipeline.batches.app import BatchApp
from pipeline.batches.batch import Batch, BatchSchema, DiskFull, Epoch, Fatal, LetGo, Refused
from pipeline.batches.bugs import BugCount
from pipeline.batches.fetch import Log
from pipeline.batches.passing import is_being_cancelled, is_passing
from pipeline.batches.producer import Entry, fill, together
from pipeline.batches.table import BatchTable
from pipeline.batches.watched import Watched

__all__ = [
    "Batch",
    "BatchApp",
    "BatchSchema",
    "BatchTable",
    "BugCount",
    "DiskFull",
    "Entry",
    "Epoch",
    "Fatal",
    "LetGo",
    "Log",
    "Refused",
    "Watched",
    "fill",
    "is_being_cancelled",
    "is_passing",
    "together",
]
