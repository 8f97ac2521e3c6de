"""Real and hostile files through guard and decode, in a process that may die."""

import base64
import csv
import io
import json
import os
import struct
import subprocess
import sys
import time
import warnings
import zlib
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from app.errors import REGISTRY, ApiError
from tests.support.costly_files import jpeg_with_scans

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests" / "corpus"

MAX_SECONDS = 2.0
"""Of the processor, which a busy machine does not stretch."""

MAX_GROWTH_MIB = 250

ARGUED = {
    "pillow/Tests__images__hopper_rle8.bmp": (
        "336005",
        "run-length coding is unsupported: OpenCV's versions disagree about such files",
    ),
    "pillow/Tests__images__png_decompression_dos.png": (
        "336004",
        "its header is sound and says 1 px, and the size is judged before the rest",
    ),
    "pillow/Tests__images__broken_data_stream.png": ("336005", "the CRC of its data is wrong"),
    "pillow/Tests__images__hopper_rle8_row_overflow.bmp": ("336005", "run-length coded"),
    "pillow/Tests__images__mmap_error.bmp": (
        "336005",
        "it says that its pixels start where its palette does; OpenCV paints the palette",
    ),
    "pillow/Tests__images__truncated_end_chunk.png": ("336005", "not complete"),
    "pillow/Tests__images__truncated_jpeg.jpg": ("336005", "100 px are a good size"),
    "pillow/Tests__images__ultrahdr.jpg": ("336005", "1512 px are a good size, it is cut off"),
    "pillow/Tests__images__unknown_compression_method.png": ("336005", "a chunk's CRC is wrong"),
    "pngsuite/png__xcsn0g01.png": ("336005", "the CRC of its data is wrong"),
}
"""Expectations that the manifest leaves open or gets wrong, argued from the contract."""

UNLIKE_PIL = {"pillow/Tests__images__pil_sample_cmyk.jpg": 2}
"""Largest difference to PIL in grey levels; the two round the conversion from CMYK apart."""


def expected_outcomes(path: str) -> list[str]:
    """What a file may be answered: ``ok`` or documented codes."""
    expected, _ = ARGUED.get(path, (MANIFEST[path], ""))
    if expected == "must-not-crash":
        return ["ok", *(str(code) for code in REGISTRY if REGISTRY[code].status < 500)]
    return expected.split("|")


@dataclass(frozen=True)
class Verdict:
    outcome: str
    detail: str = ""
    seconds: float = 0.0
    growth_mib: float = 0.0
    difference: int | None = None


def judge(files: list[bytes], compare: bool = False) -> list[Verdict]:
    """Decode each file in a child process; one that kills it is a verdict of its own."""
    verdicts: list[Verdict] = []
    while len(verdicts) < len(files):
        jobs = [base64.b64encode(data).decode() for data in files[len(verdicts) :]]
        child = subprocess.run(
            [sys.executable, __file__, *(["compare"] if compare else [])],
            input="\n".join(jobs),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        ready, *lines = child.stdout.splitlines() or [""]
        assert ready == "ready", child.stderr
        verdicts += [Verdict(**json.loads(line)) for line in lines]
        if child.returncode:
            verdicts.append(Verdict(f"crash {child.returncode}"))
    return verdicts


def judge_in_this_process() -> None:
    sys.stdout.write("ready\n")
    warnings.simplefilter("ignore")
    start_mib = _peak_mib()
    for line in sys.stdin:
        verdict = _judge_one(base64.b64decode(line), start_mib, "compare" in sys.argv)
        sys.stdout.write(json.dumps(asdict(verdict)) + "\n")
        sys.stdout.flush()


def _judge_one(data: bytes, start_mib: float, compare: bool) -> Verdict:
    # Imported by the child only: this process stays alive whatever OpenCV does.
    from app.imaging.decode import decode
    from app.imaging.guard import guard

    started_s = time.process_time()
    try:
        image = decode(*guard(data))
        outcome, detail = "ok", ""
    except ApiError as error:
        outcome, detail = str(error.error_code), error.detail
    seconds = time.process_time() - started_s
    growth_mib = _peak_mib() - start_mib
    difference = _pil_difference(data, image) if compare and outcome == "ok" else None
    return Verdict(outcome, detail, seconds, growth_mib, difference)


def _pil_difference(data: bytes, image: np.ndarray) -> int | None:
    try:
        other = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        other.load()
    except (OSError, SyntaxError):
        return None
    if other.mode == "I;16":
        # PIL's own conversion clips.
        pixels = (np.asarray(other) >> 8)[:, :, np.newaxis].repeat(3, axis=2)
    else:
        pixels = np.asarray(other.convert("RGB"))
    if pixels.shape != image.shape:
        return 256
    return int(np.abs(image.astype(np.int16) - pixels).max())


def _peak_mib() -> float:
    # Not getrusage: its peak starts with that of the parent.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _manifest() -> dict[str, str]:
    with (CORPUS / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return {row["path"]: row["expect"] for row in csv.DictReader(file)}


MANIFEST = _manifest()


@cache
def corpus_verdicts() -> dict[str, Verdict]:
    files = [(CORPUS / path).read_bytes() for path in MANIFEST]
    return dict(zip(MANIFEST, judge(files, compare=True), strict=True))


@pytest.mark.parametrize("path", MANIFEST)
def test_a_corpus_file_is_answered_as_expected(path: str) -> None:
    verdict = corpus_verdicts()[path]
    assert verdict.outcome in expected_outcomes(path), verdict.detail
    assert verdict.seconds < MAX_SECONDS
    assert verdict.growth_mib < MAX_GROWTH_MIB
    assert verdict.detail.isascii()


def test_the_pixels_of_the_corpus_are_those_of_pil() -> None:
    differences = {
        path: verdict.difference
        for path, verdict in corpus_verdicts().items()
        if verdict.difference is not None
    }
    assert len(differences) > 500
    assert {path: levels for path, levels in differences.items() if levels} == UNLIKE_PIL


def test_every_argued_file_is_in_the_manifest() -> None:
    assert set(ARGUED) <= set(MANIFEST)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(width: int, height: int, compressed: bytes) -> bytes:
    ihdr = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + ihdr + _chunk(b"IDAT", compressed) + _chunk(b"IEND", b"")


def _zeros(count: int) -> bytes:
    """Compress in steps, so that the test itself stays small."""
    deflater = zlib.compressobj(9)
    step = bytes(1 << 20)
    return b"".join(deflater.compress(step) for _ in range(count >> 20)) + deflater.flush()


def _encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def _gradient(width: int, height: int, mode: str = "RGB") -> Image.Image:
    return Image.linear_gradient("L").resize((width, height)).convert(mode)


def _many_scans(size: int, scans: int) -> bytes:
    whole = _encode(_gradient(size, size), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * (scans - whole.count(b"\xff\xda")) + whole[-2:]


def _declare_size(jpeg: bytes, width: int, height: int) -> bytes:
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def _rle_bmp() -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, 200, 200, 1, 8, 1, 0, 0, 0, 0, 0)
    skip_to_the_end = b"\0\2\xc7\xc7\0\1"
    offset = struct.pack("<IHHI", 0, 0, 0, 54 + 1024)
    return b"BM" + offset + header + bytes(1024) + skip_to_the_end


def _hostile_files() -> dict[str, tuple[bytes, str]]:
    jpeg = _encode(_gradient(64, 64), "JPEG")
    png = _encode(_gradient(64, 64), "PNG")
    interlaced_short = _png(64, 64, zlib.compress(bytes(5000)))
    return {
        "nothing": (b"", "336005"),
        "one byte": (b"\xff", "336005"),
        "only a jpg's magic": (b"\xff\xd8\xff", "336005"),
        "only a png's magic": (b"\x89PNG\r\n\x1a\n", "336005"),
        "only a bmp's magic": (b"BM", "336005"),
        "a png of 20000 x 20000": (_png(20000, 20000, _zeros(48 << 20)), "336004"),
        "a jpg of 20000 x 14000": (_declare_size(jpeg, 20000, 14000), "336004"),
        "a jpg whose header says 4096 x 4096": (_declare_size(jpeg, 4096, 4096), "336005"),
        "a jpg of 5000 scans": (_many_scans(64, 5000), "336005"),
        "a jpg of 33 scans": (_many_scans(64, 33), "336005"),
        "the largest jpg of 32 scans": (jpeg_with_scans(32), "ok"),
        "the largest jpg that repeats a scan": (_many_scans(4096, 32), "336005"),
        "the largest cmyk jpg": (
            _encode(_gradient(4096, 4096, "CMYK"), "JPEG", progressive=True, subsampling=0),
            "ok",
        ),
        "the largest png": (_png(4096, 4096, _zeros(49 << 20)), "ok"),
        "a small png of 1 GB of zeros": (_png(64, 64, _zeros(1 << 30)), "336005"),
        "the largest png of 1 GB of zeros": (_png(4096, 4096, _zeros(1 << 30)), "336005"),
        "a png just below inflating": (_png(64, 64, _zeros(1 << 28)[:260_000]), "336005"),
        "a png chunk of 2 GB": (png[:33] + b"\x7f\xff\xff\xff" + png[37:], "336005"),
        "a png without half of its rows": (interlaced_short, "336005"),
        "a run-length coded bmp that skips its pixels": (_rle_bmp(), "336005"),
        "3 MB of ff": (b"\xff\xd8" + b"\xff" * 3_000_000, "336005"),
        "a jpg with 3 MB of stuffed bytes": (jpeg[:-2] + b"\xff\0" * 1_500_000, "336005"),
    }


def test_hostile_files_neither_crash_nor_take_long_nor_fill_the_memory() -> None:
    hostile = _hostile_files()
    verdicts = judge([data for data, _ in hostile.values()])
    for (name, (_, expected)), verdict in zip(hostile.items(), verdicts, strict=True):
        assert verdict.outcome == expected, (name, verdict)
        assert verdict.seconds < MAX_SECONDS, (name, verdict)
        assert verdict.growth_mib < MAX_GROWTH_MIB, (name, verdict)


SMALL_FILES = {
    "jpg": _encode(_gradient(16, 16), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
    "progressive jpg": _encode(_gradient(16, 16), "JPEG", progressive=True),
    "png": _encode(_gradient(16, 16), "PNG"),
    "bmp": _encode(_gradient(16, 16), "BMP"),
    "palette bmp": _encode(_gradient(16, 16).convert("P"), "BMP"),
}


@pytest.mark.parametrize("name", SMALL_FILES)
def test_no_truncated_file_shows_pixels_of_the_one_before(name: str) -> None:
    whole = SMALL_FILES[name]
    verdicts = judge([whole, *(whole[:length] for length in range(len(whole)))])
    assert [verdict.outcome for verdict in verdicts] == ["ok"] + ["336005"] * len(whole)


def _repair(png: bytearray) -> bytes:
    """Make the CRCs right again, so that libpng sees the damage."""
    parts, start = [bytes(png[:8])], 8
    while start + 12 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, start)
        parts.append(_chunk(kind, bytes(png[start + 8 : start + 8 + length])))
        start += 12 + length
    return b"".join(parts)


@pytest.mark.parametrize("name", [*SMALL_FILES, "repaired png"])
def test_a_flipped_byte_never_crashes_or_hangs(name: str) -> None:
    whole = SMALL_FILES[name.removeprefix("repaired ")]
    rng = np.random.default_rng(20240229)
    flipped = []
    for _ in range(1500):
        changed = bytearray(whole)
        changed[rng.integers(len(whole))] ^= rng.integers(1, 256)
        flipped.append(_repair(changed) if name.startswith("repaired") else bytes(changed))
    for data, verdict in zip(flipped, judge(flipped), strict=True):
        context = (data.hex() if verdict.outcome.startswith("crash") else "", verdict)
        assert verdict.outcome in {"ok", "336004", "336005"}, context
        assert verdict.seconds < MAX_SECONDS, context
        assert verdict.growth_mib < MAX_GROWTH_MIB, context


if __name__ == "__main__":
    judge_in_this_process()
