"""Selects the engine and the batch size that are fastest on this machine."""
