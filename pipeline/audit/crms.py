"""The databases that an audit can read, by URL."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.audit.crm import CRM
from pipeline.audit.postgresql_crm import PostgreSQLCRM
from pipeline.audit.sqlite_crm import SQLiteCRM
from pipeline.inspection.errors import Unavailable
from pipeline.settings import Settings
from pipeline.showing import without_secrets
from pipeline.sinks import sink_for
from pipeline.sinks.postgresql import PostgreSQLSink

__all__ = ["crm_for"]


def crm_for(settings: Settings) -> CRM:
    """The CRM of `settings`. Does no I/O.

    Raises:
        Unavailable: there is none that can be read from outside.
    """
    if "crm_sink" not in settings.agents:
        raise Unavailable(
            f"{settings.app_id} writes no CRM (LEADS_AGENTS={','.join(settings.agents) or 'none'}): give the settings "
            "of an app that does.",
            status=os.EX_CONFIG,
        )
    try:
        sink = sink_for(settings.crm_url, password=settings.sink_password)
    except ValueError as error:
        raise Unavailable(f"LEADS_SINK_URL cannot be used: {error}.", status=os.EX_CONFIG) from None
    name = without_secrets(settings.crm_url)
    scheme, _, rest = settings.crm_url.partition(":")
    if isinstance(sink, PostgreSQLSink):
        return PostgreSQLCRM(sink, name)
    if scheme == "sqlite":
        return SQLiteCRM(Path(rest.removeprefix("///")).absolute())
    raise Unavailable(
        f"The CRM {name} cannot be read from outside: it is in the memory of a worker.", status=os.EX_CONFIG
    )
