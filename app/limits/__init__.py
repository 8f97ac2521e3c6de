"""Bounds on what a worker does at once: requests, cores, memory."""
