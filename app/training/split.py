"""Which photos are held out."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from app.training.inspection import Inspected, Pair

PARTS = 5
"""One of them is held out, a fifth of the photos."""


def split_photos(
    photos: Sequence[Inspected], pairs: Sequence[Pair], seed: int
) -> tuple[list[Inspected], list[str]]:
    """Hold out a fifth of each class, unless folders have decided.

    Near-duplicates stay on one side, as far as every class then has photos on both.
    """
    if photos[0].photo.held_out is not None:
        return list(photos), []
    labels = [entry.photo.label for entry in photos]
    groups = _groups(len(photos), pairs)
    grouped = StratifiedGroupKFold(PARTS, shuffle=True, random_state=seed)
    remarks = []
    held_out = _first_part(grouped, labels, groups)
    if not _is_complete(labels, held_out):
        plain = StratifiedKFold(PARTS, shuffle=True, random_state=seed)
        held_out = _first_part(plain, labels, groups)
        remarks = [
            "a class consists of near-duplicates, which are on both sides: the figures will be "
            "too good; take photos on other days or at other places for val/"
        ]
    decided = [
        replace(entry, photo=replace(entry.photo, held_out=index in held_out))
        for index, entry in enumerate(photos)
    ]
    return decided, remarks


def _first_part(
    splitter: StratifiedGroupKFold | StratifiedKFold, labels: list[str], groups: list[int]
) -> set[int]:
    _, held_out = next(iter(splitter.split(labels, labels, groups)))
    return {int(index) for index in held_out}


def _is_complete(labels: list[str], held_out: set[int]) -> bool:
    inside = {label for index, label in enumerate(labels) if index in held_out}
    outside = {label for index, label in enumerate(labels) if index not in held_out}
    return inside == outside == set(labels)


def _groups(count: int, pairs: Sequence[Pair]) -> list[int]:
    rows, columns = [first for first, _ in pairs], [second for _, second in pairs]
    graph = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(count, count))
    return [int(group) for group in connected_components(graph, directed=False)[1]]
