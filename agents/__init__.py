"""The agents, one module each: read a batch, call pure code, write. Returning acknowledges the batch."""
