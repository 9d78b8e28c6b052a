"""The commands of `leads`, one module each: the module `up` holds the click command `up`."""
