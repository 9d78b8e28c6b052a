"""The benchmark: this product beside others doing the same work, on one broker, from the same leads, in one run.

    run             `measure`: all of it
    installation    the broker, a directory, the leads, and the workers of each contender
    sizes           how much each contender gets to do
    flow            `dedupe` and `path`: from captured leads on
    postgresql      `postgresql`: from captured leads to rows in PostgreSQL
    peers           the contenders that are not ours, and which of them can run here
    sink            `sink`: from accepted leads to a database
    recovery        `recovery`: a table from its changelog, and a start with the table
    growth          `growth`: dedupe with a large table beside a small one; idle with the large one
    scaleout        `scaleout`: two workers beside one
    known           groups whose tables know leads from the start
    capture         `capture`: leads over HTTP into lead-captured
    latency         `latency`: from the acknowledgement of a lead to the commit of its row
    failover        `failover`: from the SIGKILL of a worker to the next rows of its partitions
    timed           leads at a steady rate, and when each was acknowledged and committed
    clock           from counts and times to a rate (pure)
    result          runs, figures, medians, ratios (pure)
    report          everything that was measured, and its files
    plot            what is drawn (pure)
    table           what is shown in the terminal (pure)

Each benchmark is a coroutine function that takes an `Installation` and returns a `Benchmark`.
"""
