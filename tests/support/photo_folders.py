"""Folders of photos to train on, cut from the photos of the tests."""

from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from app.settings import PROJECT_ROOT

PHOTOS = PROJECT_ROOT / "tests" / "photos"
SOURCES = {"coffee": "coffee.jpg", "sky": "hubble_deep_field.jpg", "temple": "china.jpg"}
TILE_PX = 96
_SUFFIXES = (".jpg", ".png", ".bmp")


def make_photos(folder: Path, counts: Mapping[str, int], skip: int = 0) -> Path:
    """Cut tiles of a photo for each class, none twice, as jpg, png and bmp in turn.

    Args:
        folder: gets a folder for each class.
        counts: how many photos of each class of SOURCES.
        skip: how many tiles to leave out, so that a second folder has other ones.
    """
    for label, count in counts.items():
        picture = Image.open(PHOTOS / SOURCES[label]).convert("RGB")
        columns = picture.width // TILE_PX
        (folder / label).mkdir(parents=True)
        for number in range(skip, skip + count):
            top, left = number // columns * TILE_PX, number % columns * TILE_PX
            assert top + TILE_PX <= picture.height, "the photo is too small"
            tile = picture.crop((left, top, left + TILE_PX, top + TILE_PX))
            tile.save(folder / label / f"{number:03}{_SUFFIXES[number % 3]}")
    return folder
