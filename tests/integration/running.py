"""The commands of `leads` as processes, with the settings of an installation."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.integration.installation import ROOT, Installation


def environ(installation: Installation, **settings: str) -> dict[str, str]:
    """The environment of its workers, 100 columns wide."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LEADS_")}
    return {**inherited, **installation._settings, "COLUMNS": "100", **settings}


def run(installation: Installation, *args: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `leads` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *args],
        cwd=ROOT, env=environ(installation, **settings), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
