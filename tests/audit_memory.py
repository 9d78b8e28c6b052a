"""What the books of an audit take, with generated leads: `python -m tests.audit_memory 10000000`. Not a test.

A tenth of the records are repeats, one in a million is lost, the others have rows. Reading is left out: it holds a few
thousand records at a time.
"""

from __future__ import annotations

import resource
import sys
import time
from hashlib import blake2b

from pipeline.audit.books import Books
from pipeline.audit.judgement import judge
from pipeline.audit.names import NAME_SIZE_BYTES
from pipeline.audit.outcome import Outcome

PARTITIONS = 8


def filled(count: int) -> Books:
    """The books of `count` records."""
    books = Books(is_whole=True, reached=dict.fromkeys(range(PARTITIONS), count))
    for number in range(count):
        is_repeat = number % 10 == 9
        name = blake2b(b"%d" % (number - 5 if is_repeat else number), digest_size=NAME_SIZE_BYTES).digest()
        books.captured.add(name, number % PARTITIONS, number // PARTITIONS)
        if not is_repeat and number % 1_000_000 != 7:
            books.rows.add(name)
    return books


def main(count: int) -> None:
    """Print what they take, and how long the verdicts do."""
    books = filled(count)
    started_s = time.process_time()
    outcome = Outcome()
    outcome.add(judge(books), limit=100)
    seconds = time.process_time() - started_s
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{outcome.records:,} records, {len(books.rows):,} rows: {books.size_bytes / count:.1f} bytes a record, "
        f"{peak_mib:.0f} MiB at the peak of the process; verdicts in {seconds:.0f} s of processor time.",
        dict(outcome.counts),
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
