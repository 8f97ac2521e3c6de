"""The machine: usable CPUs, the heap, how many workers fit."""
