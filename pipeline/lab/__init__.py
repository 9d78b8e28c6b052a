"""The lab: drives worker processes from outside, over HTTP, Kafka, SQL and signals, and measures what they do.

Where to look:

    workload            the leads of a run, from a seed (pure)
    program, worker     a process: start, readiness, processor time, memory, signals, end
    installation        brokers, database, workers, and the proxies between them: what is broken
    proxy               delays, cuts, loses answers
    bench               `leads bench`: this product beside stock Faust on one broker
    bench_sizes         how much each contender gets to do
    bench_flow          the benchmarks `dedupe` and `path`
    bench_recovery      the benchmark `recovery`
    bench_installation  the broker, a directory, and the workers of each contender
    bench_kafka         the broker's side: topics, loading, offsets
    bench_clock         from counts and times to a rate (pure)
    bench_report        the table, the verdicts, the JSON (pure)
    stock               the app that stock Faust runs
"""
