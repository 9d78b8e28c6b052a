"""Dead letters, read from outside: which there are, what they say, and sending them on their way again.

What is decided and shown is pure (`found`, `filters`, `shown`, and in `replay` what can be sent); what asks is apart.
"""
