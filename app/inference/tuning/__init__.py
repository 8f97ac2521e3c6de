"""Which engine and batch size is fastest on this machine, measured once."""
