"""The dedupe by Quix Streams, as its documentation shows it: `python -m pipeline.lab.peers.quix_dedupe`.

A stateful filter ("State TTL - Cookbook", "Dedup filter") that remembers each key. What it chooses:

* at least once, its default, and commits every 5 s, its default;
* the changelog topic, its default, which it makes itself;
* leads as JSON, its default, read and written: it decodes each lead, as this product does, and encodes it again. With
  `BENCH_BYTES=1` they stay bytes, which is all that a dedupe by key needs, and less than this product does: that looks
  at each lead, and dead-letters what is none;
* no time to live of an entry: it would cost a stamp on each, and leads are of one day;
* `exists`, where the cookbook has `get`: it spares the decoding of what it finds.

It does less than the product: no content hash, so no conflict of ids is found, and no dead letters. And it writes its
changelog when it commits, so that of the last seconds is behind the end of the clock.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal

from quixstreams import Application, State

__all__ = ["application", "is_new", "main"]


def application(*, on_message_processed: Callable[[str, int, int], None] | None = None) -> Application:
    """An application with the settings of the benchmark."""
    return Application(
        broker_address=os.environ["BENCH_BROKER"],
        consumer_group=os.environ["BENCH_APP_ID"],
        # Its default, `latest`, would skip what is there.
        auto_offset_reset="earliest",
        state_dir=os.environ["BENCH_DATA_DIR"],
        on_message_processed=on_message_processed,
    )


def is_new(_: Any, state: State[str, bool]) -> bool:
    """Whether the key of this record, whose state it is, has not been here."""
    if state.exists("seen"):
        return False
    state.set("seen", True)
    return True


def main() -> None:
    """Run until SIGTERM."""
    form: Literal["bytes", "json"] = "bytes" if os.environ.get("BENCH_BYTES") == "1" else "json"
    app = application()
    captured = app.topic(os.environ["BENCH_CAPTURED"], value_deserializer=form)
    accepted = app.topic(os.environ["BENCH_ACCEPTED"], value_serializer=form)
    app.dataframe(captured).filter(is_new, stateful=True).to_topic(accepted)
    app.run()


if __name__ == "__main__":
    main()
