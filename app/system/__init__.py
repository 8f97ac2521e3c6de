"""The machine: usable CPUs and memory, the heap, the number of workers."""
