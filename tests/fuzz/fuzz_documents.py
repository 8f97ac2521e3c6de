"""Request bodies and manifests, found by coverage (atheris), from bytes to what they say.

``python -m tests.fuzz.fuzz_documents request --seconds 600`` mutates valid documents and keeps
what reaches new code. An input that raises anything but a documented error, breaks one of the
properties below, hangs or takes too much memory ends the run: it is written to a file, and the
exit status is not 0. Needs the extra ``fuzz``.
"""

import argparse
import base64
import json
import sys
import tempfile
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["app.api", "app.packages", "app.imaging.steps"]):
    from app.api.bodies import decode_base64, parse_json
    from app.api.schemas import validate_batch_request, validate_classify_request
    from app.errors import ApiError, InternalError, PackageError
    from app.imaging.preprocess import Preprocessor
    from app.packages.manifest import parse_manifest

from tests.fuzz.json_mutations import mutate_json

MAX_BYTES = 16_384
MAX_SECONDS = 5
MAX_MEMORY_MIB = 1024
MAX_DETAIL = 200
"""Characters: a detail is one line of a header, and never repeats the image."""

MAX_PROBLEM = 3000
"""Characters of an error about a manifest; the longest lists the known fields."""

MAX_SIDE = 256
"""Of a model's input that is computed: larger ones would take most of the time."""

FORM = "application/x-www-form-urlencoded"
PHOTO = np.arange(37 * 53 * 3, dtype=np.uint8).reshape(37, 53, 3)
IMAGE = base64.b64encode(bytes(range(200))).decode()


def check_request(data: bytes) -> None:
    """Parse a body as the views do; the lowest bit of its length selects the Content-Type."""
    try:
        payload = parse_json(data, FORM if len(data) % 2 else "")
        _check_batch(payload)
        request = validate_classify_request(payload)
        assert request.image
        assert 1 <= request.top_num <= 10**9
        image = decode_base64(request.image)
    except ApiError as exc:
        _check_detail(exc)
        return
    assert image == base64.b64decode("".join(request.image.split()), validate=True)


def _check_batch(payload: object) -> None:
    try:
        request = validate_batch_request(payload)
    except ApiError as exc:
        _check_detail(exc)
        return
    assert 1 <= len(request.images) <= 64
    assert 1 <= request.top_num <= 10**9


def _check_detail(exc: ApiError) -> None:
    assert not isinstance(exc, InternalError)
    assert exc.detail.isascii()
    assert exc.detail.isprintable()
    assert len(exc.detail) <= MAX_DETAIL


def check_manifest(data: bytes) -> None:
    """Check a manifest, and compute its preprocessing."""
    try:
        manifest = parse_manifest(data, "manifest.json")
    except PackageError as exc:
        text = str(exc)
        assert text.isprintable(), text
        assert len(text) <= MAX_PROBLEM
        return
    spec = manifest.input
    if max(spec.height, spec.width) > MAX_SIDE:
        return
    model_input = Preprocessor(manifest.preprocess)(PHOTO)
    assert model_input.shape == (spec.channels, spec.height, spec.width)
    assert np.isfinite(model_input).all()


def request_seeds() -> list[bytes]:
    """Valid bodies, and some that are nearly so."""
    documents: list[object] = [
        {"image": IMAGE, "top_num": 5},
        {"image": IMAGE, "top_num": "007"},
        {"images": [IMAGE, "", None, IMAGE], "top_num": 5.0},
        {"image": "data:image/png;base64," + IMAGE},
        {"image": None, "images": []},
        [{"image": IMAGE}],
    ]
    return [json.dumps(document).encode() for document in documents]


def manifest_seeds() -> list[bytes]:
    """A valid manifest for each kind of step and of its other parts."""
    file = {"file": "a.bin", "sha256": "0" * 64}
    sampling = {"filter": "bilinear", "antialias": True, "resampling": "fast"}
    side = {"height": 24, "width": 32}
    geometries: list[list[dict[str, object]]] = [
        [{"step": "resize", "mode": "exact", **side, **sampling}],
        [
            {"step": "resize", "mode": "shortest_side", "size": 36, **sampling},
            {"step": "center_crop", **side, "pad": [0, 0, 0]},
        ],
        [{"step": "resize", "mode": "letterbox", **side, "pad": [1, 2, 3], **sampling}],
        [
            {"step": "center_crop", "fraction_of_shortest_side": 0.875},
            {"step": "resize", "mode": "exact", **side, **sampling, "resampling": "exact"},
        ],
    ]
    first = {
        "format": 1,
        "name": "pets",
        "version": "1",
        "model": file,
        "labels": file,
        "input": {**side, "channels": 3, "layout": "NCHW", "dtype": "float32"},
        "output": {"kind": "logits", "task": "single_label", "classes": 3},
        "golden": {"tolerance": 0.01, "scores": file, "samples": [{**file, "top": ["a", "b"]}]},
        "licence": {"publisher": "A", "publisher_key": "A" * 43 + "="},
        "scaled_decode": True,
        "orientation": "ignore",
    }
    ending = [
        {"step": "scale", "multiply": 0.004, "add": 0},
        {"step": "normalize", "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
    ]
    return [
        json.dumps(
            first | {"preprocess": [{"step": "color", "order": order}, *geometry, *ending]}
        ).encode()
        for geometry in geometries
        for order in ("RGB", "BGR")
    ]


TARGETS = {
    "request": (check_request, request_seeds),
    "manifest": (check_manifest, manifest_seeds),
}


def _mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Mutate for libFuzzer: mostly the document, sometimes the bytes."""
    rng = np.random.default_rng(seed)
    if rng.integers(16) == 0:
        mutated: bytes = atheris.Mutate(data, max_size)
        return mutated
    return mutate_json(data, rng)[:max_size]


def main() -> None:
    """Run libFuzzer, which ends the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--runs", type=int, default=-1, help="inputs; default is no limit")
    parser.add_argument("--seed", type=int, default=0, help="default is another one each time")
    parser.add_argument("--corpus", type=Path, help="folder that keeps what reached new code")
    arguments = parser.parse_args()
    check, make_seeds = TARGETS[arguments.target]
    corpus = arguments.corpus or Path(tempfile.mkdtemp(prefix="fuzz-"))
    corpus.mkdir(exist_ok=True)
    for number, seed in enumerate(make_seeds()):
        check(seed)
        (corpus / f"seed-{number}").write_bytes(seed)
    options = {
        "max_total_time": arguments.seconds,
        "runs": arguments.runs,
        "seed": arguments.seed,
        "max_len": MAX_BYTES,
        "timeout": MAX_SECONDS,
        "rss_limit_mb": MAX_MEMORY_MIB,
        "artifact_prefix": f"fuzz-{arguments.target}-",
        "print_final_stats": 1,
    }
    flags = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], check, custom_mutator=_mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
