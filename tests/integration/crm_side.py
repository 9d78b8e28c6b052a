"""What others do to the CRM behind the back of the workers: a rule that refuses leads, and its end."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from tests.integration.installation import Installation


def refuse(installation: Installation, message_id: str) -> None:
    """Let the CRM refuse a lead, or all whose ids are LIKE that."""
    installation.wait(
        lambda: bool(installation.query("SELECT count(*) FROM lead"))
    )  # a ready worker may still create it
    with closing(sqlite3.connect(installation.directory / "var" / "crm.sqlite3")) as crm:
        crm.execute(
            f"CREATE TRIGGER refuse BEFORE INSERT ON lead WHEN NEW.message_id LIKE '{message_id}'"
            " BEGIN SELECT RAISE(ABORT, 'no'); END"
        )


def let_in(installation: Installation) -> None:
    """Let the CRM take every lead again."""
    with closing(sqlite3.connect(installation.directory / "var" / "crm.sqlite3")) as crm:
        crm.execute("DROP TRIGGER refuse")
