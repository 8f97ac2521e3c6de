"""A load generator for this API, and its report."""
