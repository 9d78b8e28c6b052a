"""Leads of a file to a worker: `source` and `files` read it, `client` asks, `sender` insists, `display` shows."""
