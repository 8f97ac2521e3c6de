"""Counts in messages."""


def pluralise(count: int, noun: str) -> str:
    """Write a count with its noun: ``1 image``, ``2 images``, ``2 classes``."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count} {noun}{ending}"
