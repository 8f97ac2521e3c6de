"""Builds packages from a model or a checkpoint, labels and a preprocessing."""
