"""Captured leads to PostgreSQL by Quix Streams and its own sink: `python -m pipeline.lab.peers.quix_rows`.

The stateful filter of `quix_dedupe`, then `PostgreSQLSink` as its documentation shows it, with its defaults: a row for
each lead, columns made from what comes, written in each checkpoint, every 5 s, a transaction for each partition. At
least once: a crash between the rows and the offsets doubles rows, and no key is there to notice.

The benchmark sees it begin with its first record. It stops with the last one, which commits at once, so that no run
ends with the wait for a checkpoint.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from urllib.parse import urlsplit

from quixstreams.sinks.base import SinkBatch
from quixstreams.sinks.community.postgresql import PostgreSQLSink

from pipeline.lab.peers.quix_dedupe import application, is_new
from pipeline.lab.peers.quix_table import TABLE
from pipeline.lab.peers.tally import Tally

__all__ = ["Counted", "main"]


class Counted(PostgreSQLSink):
    """The sink, which says after each transaction how many rows there are."""

    def __init__(self, tally: Tally, url: str) -> None:
        parts = urlsplit(url)
        super().__init__(
            host=parts.hostname or "",
            port=parts.port or 5432,
            dbname=parts.path.strip("/"),
            user=parts.username or "",
            password=parts.password or "",
            table_name=TABLE,
        )
        self._tally = tally

    def write(self, batch: SinkBatch) -> None:
        """Write it, count it."""
        super().write(batch)
        self._tally.add(batch.size)


def main() -> None:
    """Run until SIGTERM."""
    tally, total = Tally(Path(os.environ["BENCH_TALLY"])), int(os.environ["BENCH_LEADS"])
    left = total

    def processed(topic: str, partition: int, offset: int) -> None:
        nonlocal left
        if left == total:
            tally.begin()
        left -= 1
        if not left:
            app.stop()

    app = application(on_message_processed=processed)
    # The column of keys is text.
    captured = app.topic(os.environ["BENCH_CAPTURED"], key_deserializer="string")
    app.dataframe(captured).filter(is_new, stateful=True).sink(Counted(tally, os.environ["BENCH_DATABASE"]))
    app.run()
    # Its memory and processor time are still to be looked at.
    signal.pause()


if __name__ == "__main__":
    main()
