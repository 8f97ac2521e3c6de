"""The folder of photos: a folder per class, and what is wrong with it."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import OperatorError
from app.evaluation.dataset import SUFFIXES
from app.packages.package import FORBIDDEN_IN_LABEL
from app.reporting.counts import pluralise
from app.system.files import is_foreign

MIN_PHOTOS = 5
"""Of a class; with fewer, nothing can be held out and little be learned."""

MAX_NAMED = 5
TRAIN, HELD_OUT = "train", "val"
_SPLIT_NAMES = frozenset({TRAIN, HELD_OUT, "valid", "validation", "test"})


@dataclass(frozen=True)
class Photo:
    """A photo, its class, and whether it is held out; None as long as nobody has decided."""

    path: Path
    label: str
    held_out: bool | None = None


class DataError(OperatorError):
    """Faults of the photos, one a line, each with what to do."""

    def __init__(self, folder: Path, faults: Sequence[str]) -> None:
        head = f"{folder}: these photos cannot be trained on"
        super().__init__("\n  ".join([f"{head}:", *faults]))


def read_photos(folder: Path) -> tuple[list[Photo], list[str]]:
    """List the photos of a folder, by path, with remarks about what is left out.

    ``train/`` and ``val/`` in it decide which photos are held out; otherwise nothing does.
    No file is opened.

    Raises:
        DataError: the folders are not one per class, or a class has too few photos.
    """
    names = {entry.name for entry in _folders(folder)}
    if {TRAIN, HELD_OUT} <= names:
        others = sorted(names - {TRAIN, HELD_OUT})
        remarks = [f"left out, as only train/ and val/ count: {name_some(others)}"] * bool(others)
        photos = []
        for name in (TRAIN, HELD_OUT):
            found, said = _read_classes(folder / name, name == HELD_OUT)
            photos += found
            remarks += said
        check_classes(folder, photos)
        return photos, remarks
    if odd := sorted(names & _SPLIT_NAMES):
        raise DataError(
            folder,
            [
                f"there is {odd[0]}/, but train/ and val/ go together: call the photos to learn "
                "from train/ and those to measure with val/, or give a folder of classes"
            ],
        )
    photos, remarks = _read_classes(folder, None)
    check_classes(folder, photos)
    return photos, remarks


def check_classes(folder: Path, photos: Sequence[Photo], remarks: Sequence[str] = ()) -> None:
    """Check that there are at least two classes, which differ, with enough photos each.

    Args:
        folder: for messages.
        photos: those that count.
        remarks: why others do not, said before the faults.

    Raises:
        DataError: otherwise.
    """
    counts = Counter(photo.label for photo in photos if not photo.held_out)
    held_out = Counter(photo.label for photo in photos if photo.held_out)
    faults = [
        f"{label!r} has {pluralise(count, 'photo')}, at least {MIN_PHOTOS} are needed: add some, "
        "or remove the folder"
        for label, count in sorted(counts.items())
        if count < MIN_PHOTOS
    ]
    if held_out:
        faults += [
            f"{label!r} is in only one of train/ and val/: move some of its photos to the other"
            for label in sorted(counts.keys() ^ held_out.keys())
        ]
    if len(counts) < 2:
        found = f"only the class {next(iter(counts))!r}" if counts else "no photo"
        faults.append(
            f"there is {found}: a classifier needs two folders of photos at least; everything "
            "else can be a class of its own, such as other/"
        )
    if faults := [*faults, *_find_similar(counts)]:
        raise DataError(folder, [*remarks, *faults])


def _read_classes(folder: Path, held_out: bool | None) -> tuple[list[Photo], list[str]]:
    classes = list(_folders(folder))
    if _is_too_high(classes):
        further = f"the classes are one folder further down: train on {classes[0]}"
        raise DataError(folder, [further])
    faults, remarks, photos = list(_find_misplaced(folder, classes)), [], []
    for class_folder in classes:
        label = unicodedata.normalize("NFC", class_folder.name)
        faults += _find_label_fault(class_folder.name)
        nested = [entry for entry in _folders(class_folder) if any(_photos(entry, "**/*"))]
        if nested:
            faults.append(
                f"{label}/ holds folders of photos ({name_some([e.name for e in nested])}): move "
                f"them up to {folder} if they are classes, or their photos to {label}/"
            )
        photos += [Photo(path, label, held_out) for path in _photos(class_folder)]
        remarks += _describe_others(class_folder)
    if faults:
        raise DataError(folder, faults)
    return photos, remarks


def _find_misplaced(folder: Path, classes: Sequence[Path]) -> Iterator[str]:
    loose = [path.name for path in _photos(folder)]
    if loose:
        yield (
            f"{pluralise(len(loose), 'photo')} beside the folders of the classes "
            f"({name_some(loose)}): move each into the folder of its class"
        )
    if not classes:
        yield "there is no folder in it: make one for each class and put its photos there"


def _is_too_high(classes: Sequence[Path]) -> bool:
    return len(classes) == 1 and not any(_photos(classes[0])) and any(_folders(classes[0]))


def _find_label_fault(name: str) -> list[str]:
    if name != name.strip() or not name.isprintable():
        return [f"the folder {name!r} has white space around its name, or an unprintable character"]
    if FORBIDDEN_IN_LABEL in name:
        return [f"{name!r} holds {FORBIDDEN_IN_LABEL}, by which clients recognise an error"]
    return []


def _find_similar(labels: Counter[str]) -> list[str]:
    similar = defaultdict(list)
    for label in sorted(labels):
        similar["".join(label.casefold().split())].append(label)
    return [
        f"{' and '.join(map(repr, group))} differ by case or spaces only: rename one, or put "
        "their photos into one folder"
        for group in similar.values()
        if len(group) > 1
    ]


def _describe_others(folder: Path) -> list[str]:
    """Say which files are no jpg, png or bmp by their names."""
    others = [path.name for path in _entries(folder) if path.is_file() and not _is_photo(path)]
    if not others:
        return []
    return [
        f"left out of {folder.name}/, as they are no jpg, png or bmp: {name_some(others)}; "
        "convert photos to jpg"
    ]


def _photos(folder: Path, pattern: str = "*") -> Iterator[Path]:
    return (path for path in _entries(folder, pattern) if _is_photo(path) and path.is_file())


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _folders(folder: Path) -> Iterator[Path]:
    return (path for path in _entries(folder) if path.is_dir())


def _entries(folder: Path, pattern: str = "*") -> Iterator[Path]:
    """The entries in order, without hidden ones and those of an operating system."""
    for path in sorted(folder.glob(pattern)):
        if not any(p.startswith(".") or is_foreign(p) for p in path.relative_to(folder).parts):
            yield path


def name_some(names: Sequence[str]) -> str:
    """List the first names."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
