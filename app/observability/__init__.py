"""Log lines, log ids and metrics."""
