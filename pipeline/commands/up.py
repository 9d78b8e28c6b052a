"""`leads up`: the whole product in one terminal: the embedded broker, unless there is another, and the workers."""

from __future__ import annotations

import http.client
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import click

from pipeline.child import Child
from pipeline.embedded import Broker
from pipeline.settings import BadSetting, Settings, variable
from pipeline.showing import without_secrets
from pipeline.sinks import sink_for
from pipeline.slots import SLOT_VARIABLE, Slot, free_slots, require_free_port
from pipeline.supervisor import Supervisor

__all__ = ["Announcer", "block", "printer", "up"]

#: How a worker is started; the same as by hand, but without Faust's banner, which does not know of slots.
WORKER = [sys.executable, "-m", "faust", "--quiet", "-A", "pipeline.app", "worker", "-l", "info"]

# So long, in seconds, the workers of a killed `leads up` may take to stop. Their slots are waited for, because with
# them come their state and the usual ports; and only after the start of the broker, so that the two waits overlap.
_ORPHANS_S = 15.0

_PROBE_EVERY_S = 0.25
_PROBE_TIMEOUT_S = 2.0
_STILL_STARTING_S = 20.0


@click.command()
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="Worker processes.")
def up(workers: int) -> None:
    """Start the broker and the workers; Ctrl-C stops them.

    A broker is started only when LEADS_BROKER_URL is unset. What ends is started again. The exit status is 0 after
    Ctrl-C or SIGTERM, 78 when the workers cannot run with the settings given.
    """
    settings = Settings.from_env()
    _require_sink(settings)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    say = printer()
    broker = _broker(settings)
    stopped = threading.Event()

    def make_workers() -> list[Child]:
        slots = _slots(settings, workers)
        text = block(settings, slots, broker.url if broker else None)
        Announcer(slots, settings.web_host, say, text, stopped).start()
        return [Child(slot.name, WORKER, {SLOT_VARIABLE: str(slot.number)}, say) for slot in slots]

    try:
        status = Supervisor(make_workers, broker=broker, say=say).run()
    finally:
        stopped.set()
    sys.exit(status)


def _require_sink(settings: Settings) -> None:
    """See that there is such a sink before anything is started: every worker would say that there is none."""
    if "crm_sink" not in settings.agents:
        return
    try:
        sink_for(settings.crm_url, password=settings.sink_password)
    except ValueError as error:
        raise BadSetting(f"{variable('sink_url')} cannot be used: {error}.") from None


def _broker(settings: Settings) -> Broker | None:
    # Not `settings.embedded`: somebody who gives this very address runs a broker there.
    if os.environ.get(variable("broker_url")):
        return None
    return Broker(settings.data_dir / "broker", port=settings.broker_port)


def _slots(settings: Settings, workers: int) -> list[Slot]:
    slots = free_slots(settings, workers, patience_s=_ORPHANS_S)
    for slot in slots:
        require_free_port(settings.web_bind, slot.web_port)
    return slots


def block(settings: Settings, slots: Sequence[Slot], embedded_url: str | None) -> str:
    """What the user is told once all workers serve: where everything is. Passwords are left out."""
    own = f"http://{settings.web_host}:{slots[0].web_port}"
    base = f"http://{settings.web_host}:{settings.capture_port or slots[0].web_port}"
    if embedded_url is None:
        broker = settings.broker_url
    else:
        broker = f"{embedded_url} (embedded: survives killed processes, not power loss)"
    number = f"{len(slots)} worker{'s' if len(slots) > 1 else ''}"
    of_agents = [
        f"  table view        {own}/tables",
        f"  CRM database      {without_secrets(settings.crm_url)}",
    ]
    lines = [
        f"Ready, with {number}. Ctrl-C stops everything.",
        f"  form              {base}/",
        f"  capture endpoint  {base}/leads",
        *(of_agents if settings.agents else []),
        f"  broker            {broker}",
    ]
    return "\n".join(["", *lines, ""])


def printer() -> Callable[[str], None]:
    """A function that prints a line, from any thread. When nobody reads any more, it goes on in silence."""
    lock = threading.Lock()

    def say(line: str) -> None:
        with lock, suppress(OSError, ValueError):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    return say


class Announcer:
    """Asks each worker whether it is ready, and says `text` once when all have been.

    Args:
        slots: those of the workers.
        host: where they listen.
        say: takes a line for the user.
        text: what to say.
        stopped: set when it is to be silent.
        still_starting_s: say who is missing as often as this.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        host: str,
        say: Callable[[str], None],
        text: str,
        stopped: threading.Event,
        still_starting_s: float = _STILL_STARTING_S,
    ) -> None:
        self._waiting = list(slots)
        self._host = host
        self._say = say
        self._text = text
        self._still_starting_s = still_starting_s
        self._stopped = stopped
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start asking, in a thread of its own."""
        self._thread.start()

    def _run(self) -> None:
        remind_s = time.monotonic() + self._still_starting_s
        while not self._stopped.is_set():
            self._waiting = [slot for slot in self._waiting if not _is_ready(self._host, slot.web_port)]
            if not self._waiting:
                return self._say(self._text)
            if time.monotonic() >= remind_s:
                remind_s += self._still_starting_s
                self._say(f"still starting: {', '.join(slot.name for slot in self._waiting)}")
            self._stopped.wait(_PROBE_EVERY_S)
        return None


def _is_ready(host: str, port: int) -> bool:
    # Not urllib: it would send this through the proxy of the environment.
    connection = http.client.HTTPConnection(host.strip("[]"), port, timeout=_PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
