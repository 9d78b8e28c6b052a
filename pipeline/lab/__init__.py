"""The lab: drives worker processes from outside, over HTTP, Kafka, SQL and signals, and measures what they do.

Where to look:

    workload            the leads of a run, from a seed (pure)
    program, worker     a process: start, readiness, processor time, memory, signals, end
    installation        brokers, database, workers, and the proxies between them: what is broken
    proxy               delays, cuts, loses answers
    chaos               `leads chaos`: from a plan to a report
    chaos_run           faults over a steady load, healed, empty, checked
    chaos_observed      what came of it, read for the checker
    chaos_leads         its leads: harder ones, some of which its CRM refuses (pure)
    chaos_report        its table and its JSON (pure)
    checker, verdict    history, topics and rows into what is wrong (pure)
    schedule            which fault when (pure)
    history             what was sent and what was answered: a file
    load                the load, over HTTP, a process of its own
    crew                the workers, kept running as `leads up` does
    faults              the kinds of fault, which of them fit and which may run together
    faults_*            how each goes
    small_disk          a disk that can be filled
    sampler             looks during the run whether a checkpoint is ahead of a write
    crm, topics_*       the database and the topics as the lab reads them
    bench/              `leads bench`: this product beside others doing the same work
    kafka               the broker's side: topics, loading, offsets
    record_batches      records in record batches, to be sent more than once
    partitioner         the partitions of thousands of keys at once (pure)
    bars                plots of bars
    machine             what a measurement was made on
    peers/              what its other contenders run: stock Faust, Quix Streams, Kafka Streams, plain loops
    compare             `leads compare`: this product beside two others, under the same faults
    compare_contenders  who is compared; autocommit, stock_crm and plain_crm are what the others run
    compare_schedule    what is broken when, from a seed (pure)
    compare_run         one contender: load, faults, drain, backlog, repair
    compare_crew        its worker processes
    compare_group       who owns what, asked of the broker
    compare_drain       when it is done
    compare_crm         its database, asked past everybody
    compare_repair      to find the damage and mend it
    compare_journal     what the producer has written down
    compare_measures    from what was seen to what is measured (pure)
    compare_result      what a run hands over to the report
    compare_report      the table, the JSON, the sentences (pure)
    compare_plot, compare_page    the plot and the page
    steady              the producer: leads at a steady rate, and a journal of what was acknowledged
"""
