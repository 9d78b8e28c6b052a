"""How long a broker that starts is waited for."""

from __future__ import annotations

import pytest

from pipeline.embedded import broker
from pipeline.embedded.broker import _Patience


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(broker.time, "monotonic", lambda: self.now_s)


def test_whoever_logs_something_new_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a SIGKILL it reads all its records again: killed after 60 s it would never come up."""
    clock = Clock(monkeypatch)
    patience = _Patience(60.0)
    for step in range(10):
        clock.now_s += 59
        assert not patience.is_over(logged_bytes=step + 1)
    assert patience.waited_s == 590
    clock.now_s += 61
    assert patience.is_over(logged_bytes=10)


def test_whoever_only_logs_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    patience = _Patience(60.0)
    steps = 0
    while not patience.is_over(logged_bytes=steps):
        steps += 1
        clock.now_s += 10
    assert patience.waited_s == pytest.approx(1800, abs=20)
