"""What Prometheus scrapes: one set of numbers for all workers of a server."""
