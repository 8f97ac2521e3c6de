"""Engines, the queue in front of them, and the classifier that joins them to a package."""
