import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from app.errors import PackageError
from app.imaging.steps import (
    CenterCrop,
    CenterCropFraction,
    Color,
    Normalize,
    ResizeExact,
    ResizeLetterbox,
    ResizeShortestSide,
    Sampling,
    Scale,
    Step,
)
from app.packages.manifest import FileRef, InputSpec, Manifest, ModelRef, OutputSpec, parse_manifest

Document = dict[str, Any]

SAMPLING = {"filter": "bilinear", "antialias": True, "resampling": "fast"}
DOCUMENT: Document = {
    "format": 1,
    "name": "goods-2026_v1.a",
    "version": "3",
    "model": {"file": "model.pt", "sha256": "0" * 64},
    "labels": {"file": "labels.txt", "sha256": "f" * 64},
    "input": {"height": 224, "width": 192, "channels": 3, "layout": "NCHW", "dtype": "float32"},
    "preprocess": [
        {"step": "color", "order": "RGB"},
        {"step": "resize", "mode": "shortest_side", "size": 256, **SAMPLING},
        {"step": "center_crop", "height": 224, "width": 192, "pad": [0, 0, 0]},
        {"step": "scale", "multiply": 0.5, "add": -1},
        {"step": "normalize", "mean": [1, 2, 3.5], "std": [4, 5, 6]},
    ],
    "output": {"kind": "logits", "task": "single_label", "classes": 10},
}
EXACT = {"step": "resize", "mode": "exact", "height": 224, "width": 192, **SAMPLING}
CROP = {"step": "center_crop", "height": 224, "width": 192, "pad": [0, 0, 0]}
COLOR = {"step": "color", "order": "RGB"}
SCALE = {"step": "scale", "multiply": 1, "add": 0}
NORMALIZE = {"step": "normalize", "mean": [0, 0, 0], "std": [1, 1, 1]}


def parse(document: object) -> Manifest:
    return parse_manifest(json.dumps(document).encode(), "manifest.json")


def with_steps(*steps: Document, **input_fields: int) -> Document:
    document = copy.deepcopy(DOCUMENT)
    document["preprocess"] = list(steps)
    document["input"].update(input_fields)
    return document


def test_a_valid_manifest_is_parsed_into_values() -> None:
    assert parse(DOCUMENT) == Manifest(
        format=1,
        name="goods-2026_v1.a",
        version="3",
        model=ModelRef("model.pt", "0" * 64),
        labels=FileRef("labels.txt", "f" * 64),
        input=InputSpec(224, 192, 3, "NCHW", "float32"),
        preprocess=(
            Color("RGB"),
            ResizeShortestSide(256, Sampling("bilinear", True, "fast")),
            CenterCrop(224, 192, (0, 0, 0)),
            Scale(0.5, -1.0),
            Normalize((1.0, 2.0, 3.5), (4.0, 5.0, 6.0)),
        ),
        output=OutputSpec("logits", "single_label", 10),
    )


def test_the_orientation_is_applied_unless_the_manifest_says_otherwise() -> None:
    assert parse(DOCUMENT).orientation == "exif"
    for rule in ("exif", "ignore"):
        assert parse({**DOCUMENT, "orientation": rule}).orientation == rule
    with pytest.raises(PackageError) as caught:
        parse({**DOCUMENT, "orientation": False})
    assert (caught.value.field, caught.value.problem) == (
        "orientation",
        'found false, expected "exif" or "ignore"',
    )


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({**COLOR, "order": "BGR"}, Color("BGR")),
        (
            {"step": "center_crop", "fraction_of_shortest_side": 1},
            CenterCropFraction(1.0),
        ),
        (EXACT, ResizeExact(224, 192, Sampling("bilinear", True, "fast"))),
        (
            {**EXACT, "mode": "letterbox", "pad": [114, 114, 114]},
            ResizeLetterbox(224, 192, (114, 114, 114), Sampling("bilinear", True, "fast")),
        ),
        (
            {**EXACT, "filter": "lanczos", "resampling": "exact"},
            ResizeExact(224, 192, Sampling("lanczos", True, "exact")),
        ),
        (
            {**EXACT, "filter": "nearest", "antialias": False, "height": 224.0},
            ResizeExact(224, 192, Sampling("nearest", False, "fast")),
        ),
    ],
)
def test_every_kind_of_step_has_its_value(raw: Document, expected: Step) -> None:
    steps = [raw, EXACT] if raw["step"] == "color" else [COLOR, raw, EXACT]
    assert expected in parse(with_steps(*steps)).preprocess


def test_a_gray_model_has_one_channel() -> None:
    gray = {**COLOR, "order": "GRAY"}
    letterbox = {**EXACT, "mode": "letterbox", "pad": [0]}
    scale = {**NORMALIZE, "mean": [1], "std": [2]}
    assert parse(with_steps(gray, letterbox, scale, channels=1)).input.channels == 1


def test_a_byte_order_mark_is_accepted() -> None:
    assert parse_manifest(b"\xef\xbb\xbf" + json.dumps(DOCUMENT).encode(), "m").version == "3"


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "expected JSON"),
        (b"{", "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
        (b'{"a": 1, "a": 2}', "duplicate key 'a'"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": Infinity}', "Infinity is not a JSON number"),
        (b"\xff\xfe", "expected UTF-8"),
        (b"[]", "found [], expected a JSON object"),
        (b"{}", "missing: format, name, version"),
    ],
)
def test_a_file_that_is_not_a_manifest_is_refused(raw: bytes, problem: str) -> None:
    with pytest.raises(PackageError) as caught:
        parse_manifest(raw, "weights/a/1/manifest.json")
    assert caught.value.file == "weights/a/1/manifest.json"
    assert problem in caught.value.problem


def test_another_format_is_named_before_anything_else() -> None:
    with pytest.raises(PackageError, match="format: expected 1") as caught:
        parse({"format": 2, "unknown": True})
    assert caught.value.field == "format"


def field_paths(node: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(node, dict):
        inner = [found for key, value in node.items() for found in field_paths(value, (*path, key))]
        return [(*path, key) for key in node] + inner
    if isinstance(node, list) and node and isinstance(node[0], dict):
        return [
            found
            for index, value in enumerate(node)
            for found in field_paths(value, (*path, index))
        ]
    return []


def at(document: Document, path: tuple[str | int, ...]) -> Any:
    node: Any = document
    for key in path:
        node = node[key]
    return node


FULL = with_steps(
    *DOCUMENT["preprocess"][:3],
    EXACT,
    {**EXACT, "mode": "letterbox", "pad": [0, 0, 0]},
    *DOCUMENT["preprocess"][3:],
)


@pytest.mark.parametrize("path", field_paths(FULL), ids=lambda path: ".".join(map(str, path)))
def test_no_field_has_a_silent_default(path: tuple[str | int, ...]) -> None:
    document = copy.deepcopy(FULL)
    parse(document)
    del at(document, path[:-1])[path[-1]]
    with pytest.raises(PackageError, match=f"missing: {path[-1]}"):
        parse(document)


@pytest.mark.parametrize(
    "path",
    [(), *(path for path in field_paths(FULL) if isinstance(at(FULL, path), dict))]
    + [("preprocess", index) for index in range(len(FULL["preprocess"]))],
    ids=lambda path: ".".join(map(str, path)),
)
def test_an_unknown_field_is_refused(path: tuple[str | int, ...]) -> None:
    document = copy.deepcopy(FULL)
    at(document, path)["colour"] = 1
    with pytest.raises(PackageError, match="unknown: colour; known are: "):
        parse(document)


def test_an_unknown_field_is_named_without_what_a_terminal_acts_on() -> None:
    with pytest.raises(PackageError, match="unknown: ") as caught:
        parse(DOCUMENT | {"\n\x1b[2J\u202e": 1})
    assert str(caught.value).isprintable()
    assert "\\n\\u001b[2J\\u202e" in str(caught.value)


@pytest.mark.parametrize("field", ["name", "version"])
@pytest.mark.parametrize(
    "value", ["", "a/b", "..", "a..b", ".a", "-a", "a b", "é", "a\n", "a" * 65, 1, None]
)
def test_a_name_must_be_a_folder_name_and_url_segment(field: str, value: object) -> None:
    with pytest.raises(PackageError, match="expected 1 to 64 of A-Z a-z 0-9") as caught:
        parse({**DOCUMENT, field: value})
    assert caught.value.field == field


@pytest.mark.parametrize("value", ["", "a/b", "../x", ".hidden", "a\\b", "a\n", "C:x"])
def test_a_file_name_with_a_path_is_refused(value: str) -> None:
    with pytest.raises(PackageError, match="the plain name of a file") as caught:
        parse({**DOCUMENT, "model": {"file": value, "sha256": "0" * 64}})
    assert caught.value.field == "model.file"


def changed(path: tuple[str | int, ...], value: object) -> Callable[[], Document]:
    def change() -> Document:
        document = copy.deepcopy(DOCUMENT)
        at(document, path[:-1])[path[-1]] = value
        return document

    return change


@pytest.mark.parametrize(
    ("change", "field", "problem"),
    [
        (changed(("labels", "sha256"), "A" * 64), "labels.sha256", "64 lower-case hexadecimal"),
        (changed(("input",), 5), "input", "found 5, expected a JSON object"),
        (changed(("input", "height"), 0), "input.height", "found 0, expected a side in pixels"),
        (changed(("input", "height"), True), "input.height", "found true, expected a side"),
        (changed(("input", "height"), 4096), "input.height", "1 to 2048"),
        (changed(("input", "channels"), 4), "input.channels", "1 for GRAY, 3 for RGB and BGR"),
        (changed(("input", "layout"), "NHWC"), "input.layout", 'found "NHWC", expected "NCHW"'),
        (changed(("input", "dtype"), "uint8"), "input.dtype", 'expected "float32"'),
        (changed(("output", "kind"), "scores"), "output.kind", '"logits" or "probabilities"'),
        (changed(("output", "task"), "x" * 99), "output.task", f'"{"x" * 59}..., expected'),
        (changed(("output", "classes"), 0), "output.classes", "the number of classes"),
        (changed(("preprocess",), []), "preprocess", "expected a JSON array"),
        (changed(("preprocess", 0, "order"), "rgb"), "preprocess[0].order", "one of RGB, BGR"),
        (changed(("preprocess", 1, "step"), "pad"), "preprocess[1].step", "one of color, center"),
        (changed(("preprocess", 1, "mode"), "fit"), "preprocess[1].mode", "one of shortest_side"),
        (changed(("preprocess", 1, "filter"), "area"), "preprocess[1].filter", "one of nearest"),
        (changed(("preprocess", 1, "antialias"), 1), "preprocess[1].antialias", "true or false"),
        (changed(("preprocess", 1, "resampling"), ""), "preprocess[1].resampling", '"fast" or'),
        (changed(("preprocess", 2, "pad"), [256, 0, 0]), "preprocess[2].pad[0]", "found 256"),
        (changed(("preprocess", 2, "pad"), [0]), "preprocess[2].pad", "expected 3 for RGB"),
        (changed(("preprocess", 3, "multiply"), 0), "preprocess[3].multiply", "found 0, expected"),
        (changed(("preprocess", 3, "add"), 1e7), "preprocess[3].add", "-1000000 to 1000000"),
        (changed(("preprocess", 4, "std"), [1, 0, 1]), "preprocess[4].std[1]", "found 0"),
        (
            changed(("preprocess", 4, "std"), [1]),
            "preprocess[4].std",
            "found 1 numbers, expected 3",
        ),
        (changed(("preprocess", 4, "mean"), [1, 2]), "preprocess[4].mean", "found 2 numbers"),
        (changed(("input", "channels"), 1), "input.channels", "found 1, expected 3 for RGB"),
        (changed(("input", "width"), 224), "preprocess", "end in 224 x 192 (height x width)"),
    ],
)
def test_a_wrong_value_is_named_with_its_field_and_what_was_expected(
    change: Callable[[], Document], field: str, problem: str
) -> None:
    with pytest.raises(PackageError) as caught:
        parse(change())
    assert caught.value.field == field
    assert problem in caught.value.problem


def test_a_number_beyond_the_floats_is_refused() -> None:
    raw = json.dumps(DOCUMENT).replace('"add": -1', '"add": 1e400')
    with pytest.raises(PackageError, match="a number from -1000000 to 1000000"):
        parse_manifest(raw.encode(), "manifest.json")


@pytest.mark.parametrize(
    "fraction", [0, -0.5, 1.01, "0.875", None], ids=["zero", "negative", "above", "text", "null"]
)
def test_a_crop_fraction_outside_0_to_1_is_refused(fraction: object) -> None:
    crop = {"step": "center_crop", "fraction_of_shortest_side": fraction}
    with pytest.raises(PackageError, match="above 0 and at most 1"):
        parse(with_steps(COLOR, crop, EXACT))


@pytest.mark.parametrize(
    ("steps", "field"),
    [
        ([EXACT, SCALE], "preprocess[0].step"),
        ([EXACT, COLOR], "preprocess[0].step"),
        ([COLOR, COLOR, EXACT], "preprocess[1].step"),
        ([COLOR, SCALE, EXACT], "preprocess[2].step"),
        ([COLOR, EXACT, NORMALIZE, SCALE], "preprocess[3].step"),
        ([COLOR, EXACT, SCALE, SCALE], "preprocess[3].step"),
        ([COLOR, EXACT, NORMALIZE, NORMALIZE], "preprocess[3].step"),
    ],
)
def test_steps_out_of_order_are_refused(steps: list[Document], field: str) -> None:
    with pytest.raises(PackageError, match="out of order; expected one color") as caught:
        parse(with_steps(*steps))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("sampling", "field", "problem"),
    [
        ({"filter": "nearest"}, "antialias", "expected false: nearest"),
        ({"filter": "lanczos"}, "resampling", 'expected "exact": lanczos'),
        (
            {"filter": "lanczos", "antialias": False, "resampling": "exact"},
            "antialias",
            "expected true: lanczos",
        ),
        ({"antialias": False, "resampling": "exact"}, "resampling", 'expected "fast": Pillow'),
    ],
)
def test_a_sampling_that_does_not_exist_is_refused(
    sampling: Document, field: str, problem: str
) -> None:
    with pytest.raises(PackageError, match=problem) as caught:
        parse(with_steps(COLOR, {**EXACT, **sampling}))
    assert caught.value.field == f"preprocess[1].{field}"


@pytest.mark.parametrize("behind", [[], [EXACT], [SCALE]])
def test_a_shortest_side_resize_without_a_crop_after_it_is_refused(behind: list[Document]) -> None:
    shortest = DOCUMENT["preprocess"][1]
    with pytest.raises(PackageError, match="expected a center_crop directly after shortest_side"):
        parse(with_steps(COLOR, shortest, *behind))


def test_steps_that_make_an_endless_strip_are_refused() -> None:
    strip = {**EXACT, "height": 1, "width": 2048}
    shortest, crop = DOCUMENT["preprocess"][1] | {"size": 2048}, DOCUMENT["preprocess"][2]
    with pytest.raises(PackageError, match="2048 x 4194304 px .* at most 16384 px") as caught:
        parse(with_steps(COLOR, strip, shortest, crop))
    assert caught.value.field == "preprocess[2]"


def test_a_size_that_depends_on_the_image_is_refused() -> None:
    crop = {"step": "center_crop", "fraction_of_shortest_side": 0.5}
    with pytest.raises(PackageError, match="end in a size that depends on the image"):
        parse(with_steps(COLOR, crop))


def test_sizes_are_followed_through_the_steps() -> None:
    exact = {**EXACT, "height": 101, "width": 300}
    crop = {"step": "center_crop", "fraction_of_shortest_side": 0.5}
    assert parse(with_steps(COLOR, exact, crop, height=50, width=50)).input.height == 50
    with pytest.raises(PackageError, match="end in 50 x 50"):
        parse(with_steps(COLOR, exact, crop))
