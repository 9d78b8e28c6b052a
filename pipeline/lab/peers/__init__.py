"""What the other contenders of `leads bench` run: the same work, as their own documentation shows it.

    stock               stock Faust
    quix_dedupe         Quix Streams: captured -> accepted
    quix_rows           Quix Streams: captured -> rows in PostgreSQL, by its own sink
    streams/            Kafka Streams: captured -> accepted, in Java
    plain               plain aiokafka and asyncpg, without dedupe and guarantees: the limit of Python
    ours_quix_table     this product, but its rows are those of Quix's sink
    quix_table          these rows, and our sink writing them
    tally               what a peer has done so far: a file

Each is a program of its own, takes `BENCH_*` variables, and is run only by the benchmark. Where a peer's documentation
leaves a choice, the one that is faster for the peer is taken; each is commented where it is made.
"""
