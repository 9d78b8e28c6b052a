"""The books of an installation that runs: what became of every captured lead, found from outside.

What is decided and shown is pure (`names`, `store`, `books`, `judgement`, `outcome`, `shown`); what reads Kafka
(`reading`, `checkpoints`) and the database (`crm`, `sqlite_crm`, `postgresql_crm`), and what sends (`mending`), is
apart from it. `runs` says in which order, and why no alarm is false.
"""
