"""The fixtures of the tests with a real broker and real workers."""

from __future__ import annotations

from tests.integration.conftest import fast_java, installation

__all__ = ["fast_java", "installation"]
