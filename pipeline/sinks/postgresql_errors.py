"""What an error of PostgreSQL means: try again, a record's fault, or a bug; by its SQLSTATE (manual, Appendix A)."""

from __future__ import annotations

import re

import asyncpg

from pipeline.sinks.base import Fenced, RecordsRejected

__all__ = ["is_passing", "is_records", "is_unusable", "reason", "records_reason", "why_unusable"]

#: Classes and codes of what passes by itself, or when an operator mends it: the leads wait.
_PASSING = (
    "08",  # connection
    "28",  # user or password
    "3D000",  # no such database
    "3F000",  # no schema that this user may use
    "40",  # serialization failure, deadlock
    "42501",  # a right that was not granted
    "25006",  # read only: a standby
    "25P03",  # idle in a transaction: this process was stopped
    "53",  # out of disk, memory or connections
    "55",  # locked
    "57",  # shutting down, starting, cancelled
    "58",  # the system's input and output
    "XX",  # internal: a damaged file
)
#: Of what a record can be refused for: its data, a constraint, a limit, or a trigger, whose code fails or raises.
_RECORDS = ("09", "20", "21", "22", "23", "2F", "38", "39", "44", "54", "P0")

#: A trigger may say anything in place of a name.
_NAME = re.compile(r"\w{1,63}", re.ASCII)


def is_passing(error: BaseException) -> bool:
    """Whether the same call may succeed later."""
    if isinstance(error, asyncpg.PostgresError):
        return _code(error).startswith(_PASSING)
    if isinstance(error, asyncpg.ClientConfigurationError):  # an InterfaceError, too
        return False
    # A connection that broke in the middle: asyncpg says so with errors of its interface.
    return isinstance(error, OSError | TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError)


def is_unusable(error: BaseException) -> bool:
    """Whether the tables are not ours: an unknown table, column or function; or an option of the URL is wrong."""
    return isinstance(error, asyncpg.ClientConfigurationError) or (
        isinstance(error, asyncpg.PostgresError) and _code(error).startswith("42")
    )


def is_records(error: BaseException) -> bool:
    """Whether a record of the batch may be at fault, or the batch; the connection is as good as before."""
    if isinstance(error, asyncpg.UnknownPostgresError):
        return True  # PostgreSQL has no such code: a trigger has one of its own
    if isinstance(error, asyncpg.PostgresError):
        return _code(error).startswith(_RECORDS)
    return isinstance(error, Fenced | RecordsRejected)


def why_unusable(error: BaseException) -> str:
    """In words. Never the driver's text, which may hold the URL."""
    if isinstance(error, asyncpg.ClientConfigurationError):
        return "an option of LEADS_SINK_URL, or a file that it names, is not what it should be"
    return f"its tables are not ours: {reason(error)}"


def reason(error: BaseException) -> str:
    """The error's name and code. Never its text, which may quote a record or name a user."""
    if isinstance(error, asyncpg.PostgresError):
        return f"{type(error).__name__.removesuffix('Error')} ({_code(error)})"
    return type(error).__name__


def records_reason(error: asyncpg.PostgresError) -> str:
    """Why a record is refused: as `reason`, and which constraint or column it is, as the database calls it."""
    named = [(what, getattr(error, f"{what}_name", None)) for what in ("constraint", "column")]
    return " ".join([reason(error), *(f"{what} {name}" for what, name in named if name and _NAME.fullmatch(name))])


def _code(error: asyncpg.PostgresError) -> str:
    return str(getattr(error, "sqlstate", None) or "")
