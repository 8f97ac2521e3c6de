"""``classifyd predict``: classify image files through a server or in this process."""

import base64
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import orjson

from app.cli.licences import LICENCE_SETTINGS, load_unlocked
from app.cli.options import PATH, options_of
from app.cli.output import print_result
from app.errors import ApiError, OperatorError
from app.evaluation.dataset import read_image
from app.reporting.counts import pluralise

REQUEST_TIMEOUT_S = 60

Predict = Callable[[bytes], dict[str, Any]]
"""From the bytes of an image file to the body of the API's response."""

PredictMany = Callable[[Iterable[Path]], Iterator[dict[str, Any]]]
"""The same for files, in order."""


@click.command()
@click.argument("images", nargs=-1, required=True, type=PATH)
@click.option("--url", help="of a running server, .../NAME/ImageClassification")
@click.option("--package", type=PATH, help="folder of a package to load")
@click.option("--top-num", type=click.IntRange(min=1), default=6, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="print one JSON object per image")
@options_of(*LICENCE_SETTINGS)
def predict(
    images: tuple[Path, ...],
    url: str | None,
    package: Path | None,
    top_num: int,
    as_json: bool,
    **options: str | None,
) -> None:
    """Classify image files with a server (--url) or with a model in this process (--package).

    A sealed package is opened with the licence of this machine's server.
    """
    if (url is None) == (package is None):
        raise click.UsageError("give either --url or --package")
    answers = _ask_server(url, top_num) if url else _load_local(package or Path(), top_num, options)
    failures = 0
    for path, answer in zip(images, answers(images), strict=True):
        failures += "error_code" in answer
        print_result({"file": str(path), **answer}, _as_text(path, answer), as_json)
    if failures:
        total = pluralise(len(images), "image")
        print(f"classifyd: {failures} of {total} failed", file=sys.stderr)
        sys.exit(1)


def _predict_file(classify: Predict, path: Path) -> dict[str, Any]:
    return classify(read_image(path))


def _as_text(path: Path, answer: dict[str, Any]) -> str:
    if "error_code" in answer:
        detail = answer.get("error_detail", "")
        return f"{path}: {answer['error_code']} {answer['error_msg']}: {detail}"
    rows = [f"  {result['score']:.4f}  {result['name']}" for result in answer["results"]]
    return "\n".join([f"{path}:", *rows])


def _ask_server(url: str, top_num: int) -> PredictMany:
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"--url {url!r} must begin with http:// or https://")
    # No proxy: images must not leave the local network.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(data: bytes) -> dict[str, Any]:
        body = {"image": base64.b64encode(data).decode(), "top_num": top_num}
        request = urllib.request.Request(  # noqa: S310 - http or https, checked above
            url, orjson.dumps(body), {"Content-Type": "application/json"}
        )
        return _read_answer(opener, request)

    return partial(map, partial(_predict_file, ask))


def _read_answer(
    opener: urllib.request.OpenerDirector, request: urllib.request.Request
) -> dict[str, Any]:
    try:
        with opener.open(request, timeout=REQUEST_TIMEOUT_S) as response:
            body, headers = response.read(), response.headers
    except urllib.error.HTTPError as exc:
        body, headers = exc.read(), exc.headers
    except OSError as exc:
        reason = getattr(exc, "reason", exc)
        raise OperatorError(f"{request.full_url} does not answer: {reason}") from exc
    try:
        answer: dict[str, Any] = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise OperatorError(f"{request.full_url} did not answer with JSON") from exc
    if "error_code" in answer:
        answer.setdefault("error_detail", headers.get("X-Error-Detail", ""))
    return answer


def _load_local(folder: Path, top_num: int, options: dict[str, str | None]) -> PredictMany:
    # Imported here: with --url, torch is not needed.
    from app.inference.local import LocalClassifier

    classifier = LocalClassifier(load_unlocked(folder, options))

    def classify(data: bytes) -> dict[str, Any]:
        try:
            return {"results": classifier.classify(data, top_num)}
        except ApiError as exc:
            return {
                "error_code": exc.error_code,
                "error_msg": exc.error_msg,
                "error_detail": exc.detail,
            }

    return partial(classifier.map, partial(_predict_file, classify))
