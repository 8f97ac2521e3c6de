"""From the bytes of an image file to the model's input, without a server."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import pytest

from app.errors import ImageDecodeFailed, InvalidImageSize
from app.imaging.decode import Reduction, decode
from app.imaging.guard import guard
from app.imaging.header import ImageHeader
from app.inference import preparation
from app.inference.preparation import prepare_image, preview_image
from app.packages.package import Package, load_package
from tests.support.images import solid
from tests.support.packages import SIDE, build_colour_package

Result = TypeVar("Result")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    labels = ["red", "green", "blue"]
    folder = build_colour_package(
        tmp_path_factory.mktemp("weights"), "colours", labels, scaled_decode=True
    )
    return load_package(folder)


class Recorder:
    """Keeps the stages and the run in the order in which they begin and end."""

    def __init__(self) -> None:
        self.events: list[str] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.events.append(name)
        yield

    def run(self, header: ImageHeader, work: Callable[[], Result], /) -> Result:
        self.events.append(header.description)
        try:
            return work()
        finally:
            self.events.append("released")


def test_the_model_input_is_that_of_the_three_steps(package: Package) -> None:
    data = solid((250, 10, 10))
    header, model_input = prepare_image(data, package)
    assert header == ImageHeader("png", 64, 48)
    assert model_input.dtype == np.float32
    np.testing.assert_array_equal(model_input, package.preprocessor(decode(*guard(data))))


def test_a_preview_is_what_the_model_sees(package: Package) -> None:
    preview = preview_image(solid((250, 10, 10)), package)
    assert preview.shape == (SIDE, SIDE, 3)
    assert preview[0, 0].tolist() == [250, 10, 10]


def test_memory_is_reserved_between_the_guard_and_the_decoding(package: Package) -> None:
    recorder = Recorder()
    prepare_image(solid((250, 10, 10)), package, recorder.stage, recorder.run)
    assert recorder.events == ["guard", "png 64x48", "decode", "preprocess", "released"]


def test_a_file_that_the_guard_refuses_reserves_nothing(package: Package) -> None:
    recorder = Recorder()
    with pytest.raises(InvalidImageSize):
        prepare_image(solid((0, 0, 0), (14, 48)), package, recorder.stage, recorder.run)
    assert recorder.events == ["guard"]


def test_memory_is_released_when_decoding_fails(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ImageDecodeFailed("png: the image data cannot be decoded")

    monkeypatch.setattr(preparation, "decode", fail)
    recorder = Recorder()
    with pytest.raises(ImageDecodeFailed):
        prepare_image(solid((0, 0, 0)), package, recorder.stage, recorder.run)
    assert recorder.events == ["guard", "png 64x48", "decode", "released"]


def test_a_large_jpg_is_reduced_and_its_pixels_are_freed_before_their_memory_is_released(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[weakref.ref[object]] = []
    shapes: list[tuple[int, ...]] = []

    def keep(header: ImageHeader, data: bytes, reduce: Reduction, *_: object) -> object:
        pixels = decode(header, data, reduce)
        decoded.append(weakref.ref(pixels))
        shapes.append(pixels.shape)
        return pixels

    def run(_: ImageHeader, work: Callable[[], Result], /) -> Result:
        result = work()
        assert decoded[0]() is None
        return result

    monkeypatch.setattr(preparation, "decode", keep)
    prepare_image(solid((0, 0, 0), (640, 480), "JPEG"), package, run=run)
    assert shapes == [(120, 160, 3)]
