"""What the README says of settings, endpoints and commands is so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from pipeline.settings import Settings, duration_s, variable

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def shown(name: str, default: Any) -> Any:
    """The default of a setting as its parser takes it."""
    if name in ("retention", "dedupe_window"):
        return lambda text: duration_s(text) == default
    if name == "agents":
        return lambda text: text.split(",") == list(default)
    if isinstance(default, bool):
        return lambda text: text == ("on" if default else "off")
    if isinstance(default, float):
        return lambda text: float(text) == default
    if default in ("", None, ()) or name == "replication":  # what follows from others when it is unset
        return lambda text: text == ""
    return lambda text: text == str(default)


def test_every_setting_stands_there_with_its_default() -> None:
    table = README.split("<!-- settings -->")[1].split("\n\n")[0]
    rows = dict(re.findall(r"^\| `(LEADS_\w+)` \| (.*) \|$", table, re.MULTILINE))
    assert list(rows) == [variable(field.name) for field in fields(Settings)]
    for field in fields(Settings):
        unit, default, doc = (cell.strip(" `") for cell in rows[variable(field.name)].split("|"))
        assert (unit, doc) == (field.metadata["unit"], field.metadata["doc"])
        assert shown(field.name, field.default)(default), f"{field.name}: {default!r}"


def test_every_endpoint_stands_there() -> None:
    script = (
        "from pipeline.app import app, _modules\nfor name in _modules(): __import__(name)\n"
        "print(*sorted(f'{route.method} {route.path}' for route in app.routes), sep='\\n')"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LEADS_")}
    run = [sys.executable, "-c", script]
    routes = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    table = README.split("<!-- endpoints -->")[1].split("\n\n")[0]
    assert sorted(re.findall(r"^\| `(\w+ /\S*)` \|", table, re.MULTILINE)) == [
        route.replace(":.+", "") for route in routes.splitlines()
    ]


def test_every_command_stands_there() -> None:
    modules = {path.stem for path in (ROOT / "pipeline" / "commands").glob("*.py")} - {"__init__"}
    commands = {name.replace("_", "-") for name in modules}
    assert commands <= set(re.findall(r"`leads ([\w-]+)", README))


def test_lines_are_not_too_long_to_read() -> None:
    prose = [line for line in README.splitlines() if not line.startswith(("|", "{"))]
    assert max(map(len, prose)) <= 150
