"""A jpg that is damaged in its coded data is refused, and a whole one is not."""

import base64
import ctypes
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.errors import ImageDecodeFailed
from app.imaging import decode as decode_module
from app.imaging.decode import decode
from app.imaging.guard import guard
from app.imaging.jpeg_damage import MAX_STRAY_BYTES
from app.imaging.native_stderr import run_quietly

CASES = Path(__file__).parents[1] / "cases"
CORPUS = Path(__file__).parents[1] / "corpus"

DAMAGED = {
    "damage_4096_missing": "jpg: the image data is damaged (it ends early)",
    "damage_4096_zeros": "jpg: the image data is damaged (it ends early)",
    "damage_first_half_missing": "jpg: the image data is damaged (it ends early)",
    "truncated_30_with_eoi": "jpg: the image data is damaged (it ends early)",
    "truncated_60_with_eoi": "jpg: the image data is damaged (it ends early)",
    "restart_interval_missing": "jpg: the image data is damaged (a missing restart interval)",
    "progressive_first_scan_only": "jpg: the scans do not send all coefficients",
}

# 24 x 24 px with three times as many columns of brightness as of colour, which simplejpeg
# does not decode.
UNUSUAL_SAMPLING = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVt"
    "VkVGZIhlbXd7gYKBTmCNl4x9lnN+gXz/2wBDARUXFx4aHjshITt8U0ZTfHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8"
    "fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHz/wAARCAAYABgDATEAAhEBAxEB/8QAFwABAQEBAAAAAAAAAAAAAAAA"
    "BQQGA//EACUQAAAFAgUFAQAAAAAAAAAAAAABAgMEBSEGESIxQSNRYXGBof/EABQBAQAAAAAAAAAAAAAAAAAAAAD/"
    "xAAUEQEAAAAAAAAAAAAAAAAAAAAA/9oADAMBAAIRAxEAPwDJNR1KO4vYibWHSdT1KjG4gtSLmXcgFLETawRYibWC"
    "LETwAFw28mYybKj6rX6kaZiJlwC6nieFT82ohFKfK1j0J9nz8Af/2Q=="
)


def case(name: str) -> bytes:
    return (CASES / f"{name}.jpg").read_bytes()


def photo(mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    with Image.open(CORPUS / "pillow/Tests__images__hopper.jpg") as image:
        small = image.convert("RGB").resize((200, 150))
    grey = small.convert("L")
    picture = {"RGB": small, "L": grey, "CMYK": Image.merge("CMYK", [grey] * 4)}[mode]
    picture.save(file, "JPEG", **options)
    return file.getvalue()


def refusal_of(data: bytes) -> str:
    with pytest.raises(ImageDecodeFailed) as caught:
        decode(*guard(data))
    return caught.value.detail


def assert_whole(data: bytes) -> list[str]:
    remarks: list[str] = []
    image = decode(*guard(data), remark=remarks.append)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(image, expected)
    return remarks


def cut(data: bytes, share: float = 0.8) -> bytes:
    start = data.rindex(b"\xff\xda") + 14
    return data[: start + int((len(data) - start) * share)] + b"\xff\xd9"


@pytest.mark.parametrize(("name", "detail"), DAMAGED.items())
def test_a_damaged_photo_is_refused(name: str, detail: str) -> None:
    assert refusal_of(case(name)) == detail


def test_the_whole_photo_is_decoded_without_a_remark() -> None:
    assert assert_whole(case("damage_control")) == []


def test_a_few_bytes_before_the_end_marker_are_a_remark() -> None:
    remarks = assert_whole(case("extraneous_before_eoi"))
    assert remarks == ["1 stray bytes before the end marker"]


def test_many_bytes_before_the_end_marker_are_damage() -> None:
    data = case("damage_control")
    # libjpeg has read up to 8 of them before it counts the rest.
    stray = b"\x12" * (MAX_STRAY_BYTES + 9)
    detail = "jpg: the image data is damaged (more codes than coefficients)"
    assert refusal_of(data[:-2] + stray + data[-2:]) == detail


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_cut_image_of_any_kind_is_refused(mode: str, progressive: bool) -> None:
    data = photo(mode, progressive=progressive)
    decode(*guard(data))
    assert refusal_of(cut(data)) == "jpg: the image data is damaged (it ends early)"


def test_a_cut_image_that_simplejpeg_cannot_decode_is_refused() -> None:
    assert assert_whole(UNUSUAL_SAMPLING) == []
    assert refusal_of(cut(UNUSUAL_SAMPLING, 0.5)) == "jpg: the image data is damaged"


def with_jfif_version_2(data: bytes) -> bytes:
    return data.replace(b"JFIF\0\1", b"JFIF\0\2")


def with_stray_bytes(data: bytes) -> bytes:
    at = data.index(b"\xff\xdb")
    return data[:at] + b"stray" + data[at:]


def with_empty_selection(data: bytes) -> bytes:
    return data.replace(b"\0\x3f\0", b"\0\0\0", 1)


def with_unknown_transform(data: bytes) -> bytes:
    # Without the JFIF segment, which decides first.
    adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x07"
    return data[:2] + adobe + data[20:]


@pytest.mark.parametrize(
    "irregular",
    [with_jfif_version_2, with_stray_bytes, with_empty_selection, with_unknown_transform],
)
def test_a_harmless_irregularity_hides_no_damage(irregular: Callable[[bytes], bytes]) -> None:
    data = irregular(photo())
    assert data != photo()
    assert guard(data)[1] is not data
    assert assert_whole(data) == []
    assert refusal_of(cut(data)) == "jpg: the image data is damaged (it ends early)"


def test_an_unknown_transform_of_four_components_hides_no_damage() -> None:
    # Pillow writes transform 0, CMYK without a conversion.
    data = photo("CMYK").replace(b"Adobe\0\x64\0\0\0\0\0", b"Adobe\0\x64\0\0\0\0\x07")
    decode(*guard(data))
    assert refusal_of(cut(data)) == "jpg: the image data is damaged (it ends early)"


@pytest.mark.parametrize(
    ("selection", "detail"),
    [
        (b"\0\0\x11", "jpg: the scans are in a wrong order"),
        (b"\1\x40\0", "jpg: a scan of the coefficients 1 to 64"),
        (b"\1\0\0", "jpg: a scan of the coefficients 1 to 0"),
    ],
)
def test_scans_that_do_not_fit_together_are_named(selection: bytes, detail: str) -> None:
    data = photo("L", progressive=True)
    at = data.index(b"\xff\xda\0\x08\1") + 7
    assert data[at : at + 3] == b"\0\0\1"
    assert refusal_of(data[:at] + selection + data[at + 3 :]) == detail


def test_a_scan_header_that_is_too_short_is_named() -> None:
    data = photo().replace(b"\xff\xda\0\x0c\3", b"\xff\xda\0\x0c\4")
    assert refusal_of(data) == "jpg: a scan header is too short"


def test_nothing_that_a_library_prints_reaches_standard_error(
    capfd: pytest.CaptureFixture[str],
) -> None:
    damaged_png = CORPUS / "hostile/apng_broken_deflate_in_IDAT.png"
    for data in (case("truncated_60_with_eoi"), damaged_png.read_bytes()):
        refusal_of(data)
    assert_whole(case("extraneous_before_eoi"))
    assert capfd.readouterr().err == ""


def test_what_is_printed_is_noticed_while_a_decoder_runs_and_passes_by_otherwise(
    capfd: pytest.CaptureFixture[str],
) -> None:
    libc = ctypes.CDLL(None)
    assert run_quietly(lambda: libc.perror(b"inside"))[1]
    assert not run_quietly(lambda: None)[1]
    libc.perror(b"outside")
    assert capfd.readouterr().err.startswith("outside: ")


def test_threads_that_decode_at_once_never_mix_up_their_verdicts() -> None:
    cases = ["damage_control", "truncated_60_with_eoi", "extraneous_before_eoi", "xmp_only"]
    files = [case(name) for name in cases]

    def judge(index: int) -> str:
        remarks: list[str] = []
        try:
            decode(*guard(files[index % len(files)]), remark=remarks.append)
        except ImageDecodeFailed:
            return "refused"
        return "remark" if remarks else "whole"

    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(judge, range(800)))
    assert verdicts == ["whole", "refused", "remark", "whole"] * 200


def test_an_opencv_that_prints_no_warning_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decode_module._prints_warnings()
    monkeypatch.setattr(decode_module, "run_quietly", lambda decoder: (decoder(), False))
    assert not decode_module._prints_warnings()
    monkeypatch.setattr(decode_module, "_PRINTS_WARNINGS", False)
    assert refusal_of(case("truncated_60_with_eoi")) == DAMAGED["truncated_60_with_eoi"]
    assert assert_whole(case("damage_control")) == []
