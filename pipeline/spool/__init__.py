"""The spool: leads that the broker did not acknowledge in time, on this machine's disk until it does.

One SQLite file in the data directory, which all of its workers share. A lead that is in it was acknowledged to whoever
sent it. It leaves it once the broker has it, and not before.
"""

from pipeline.spool.backlog import Backlog, Spooled
from pipeline.spool.file import Headers, SpoolError, spool_path, translated
from pipeline.spool.look import Waiting, holds, look
from pipeline.spool.turn import Turn
from pipeline.spool.writer import SpoolWriter

__all__ = [
    "Backlog",
    "Headers",
    "SpoolError",
    "SpoolWriter",
    "Spooled",
    "Turn",
    "Waiting",
    "holds",
    "look",
    "spool_path",
    "translated",
]
