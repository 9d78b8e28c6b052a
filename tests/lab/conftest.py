"""The fixtures of the tests with a real broker and real workers."""

from __future__ import annotations

from tests.integration.conftest import installation

__all__ = ["installation"]
