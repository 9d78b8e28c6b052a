"""An agent whose module cannot be imported."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import cast

from pipeline.app import app

__all__ = ["app"]

sys.modules["agents.crm_sink"] = cast(ModuleType, None)
