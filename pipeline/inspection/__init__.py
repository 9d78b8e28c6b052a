"""Where the pipeline stands and what is wrong with it, asked of Kafka, a worker and this machine from outside.

What is decided is pure (`members`, `positions`, `judgement`, `answers`); what asks is apart from it.
"""
