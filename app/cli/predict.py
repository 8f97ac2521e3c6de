"""``classifyd predict``: classify image files through a server or in this process."""

import base64
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import orjson

from app.cli.calling import calling_options, find_endpoint
from app.cli.exits import error_json, kind_of
from app.cli.licences import licence_options, load_unlocked
from app.cli.options import PATH
from app.cli.output import print_result
from app.cli.package.verify import find_package
from app.errors import ApiError, AuthFailed, FailedError, OperatorError, UnreachableError
from app.evaluation.dataset import SUFFIXES
from app.observability.log_format import escape_unprintable
from app.reporting.counts import pluralise
from app.system.endpoint import Endpoint
from app.system.files import is_foreign

STDIN = Path("-")
MAX_FILE_BYTES = 32 * 1024 * 1024
"""More than any image that the API accepts: a server may close the connection on larger ones."""

Predict = Callable[[bytes], dict[str, Any]]
"""From the bytes of an image file to the body of the API's response, or to an error."""

PredictMany = Callable[[Iterable[Path]], Iterator[dict[str, Any]]]
"""The same for files, in order."""


@click.command()
@click.argument("images", nargs=-1, required=True, type=PATH)
@click.option("--url", help="of the API, with https:// or http:// (default: the running server)")
@click.option("--package", metavar="PACKAGE", help="load it here: a NAME, or a folder NAME/VERSION")
@calling_options
@click.option(
    "--top-num", type=click.IntRange(min=1), default=6, show_default=True, help="number of classes"
)
@click.option("--json", "as_json", is_flag=True, help="print one JSON object per image")
@licence_options
def predict(
    images: tuple[Path, ...],
    url: str | None,
    package: str | None,
    name: str | None,
    token_file: Path | None,
    cacert: Path | None,
    top_num: int,
    as_json: bool,
    **options: str | None,
) -> None:
    """Classify IMAGES with a server, or with a package in this process.

    IMAGES are jpg, png and bmp files, folders with such files, or - for one image on standard
    input. Without --url and --package the server that runs on this machine is called. A sealed
    package is opened with the licence of this machine's server.

    \b
    Examples:
        classifyd predict photo.jpg
        classifyd predict photos/ --json
        classifyd predict --package imagenet photo.jpg
        classifyd predict --url https://till.example.com/imagenet/ImageClassification \\
            --token-file till.token --cacert authority.pem photo.jpg
    """
    if url and package:
        raise click.UsageError("give --url or --package, not both")
    files = [file for image in images for file in _expand(image)]
    if package:
        answers = _load_local(package, top_num, options)
    else:
        answers = _ask_server(find_endpoint(url, name, token_file, cacert, options), top_num)
    failures: list[dict[str, Any]] = []
    for path, answer in zip(files, answers(files), strict=True):
        if "error" in answer:
            failures.append(answer["error"])
        text = escape_unprintable(_as_text(path, answer), "\n")
        print_result({"file": str(path), **answer}, text, as_json)
        sys.stdout.flush()
    if failures:
        text = f"{len(failures)} of {pluralise(len(files), 'image')} failed"
        if all(failure["kind"] == "refused" for failure in failures):
            raise OperatorError(text)
        raise FailedError(text)


def _expand(image: Path) -> list[Path]:
    """The images of a folder, or the file itself; an empty folder is reported like a wrong file."""
    if not image.is_dir():
        return [image]
    found = [path for path in sorted(image.rglob("*")) if _is_image(path.relative_to(image))]
    return [path for path in found if path.is_file()] or [image]


def _is_image(path: Path) -> bool:
    hidden = any(is_foreign(part) or part.startswith(".") for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden


def _classify_file(classify: Predict, path: Path) -> dict[str, Any]:
    """Classify one image; a wrong one must not end the command."""
    try:
        return classify(read_image(path))
    except UnreachableError:
        raise
    except OperatorError as exc:
        return error_json(kind_of(exc), str(exc))
    except ApiError as exc:
        return _api_error(exc.error_code, exc.error_msg, exc.detail)


def read_image(path: Path) -> bytes:
    """Read an image file, or standard input.

    Raises:
        FailedError: it cannot be read, or is larger than any image that the API accepts.
    """
    try:
        if path == STDIN:
            data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with path.open("rb") as stream:
                data = stream.read(MAX_FILE_BYTES + 1)
    except IsADirectoryError as exc:
        raise FailedError("this folder contains no jpg, png or bmp") from exc
    except OSError as exc:
        raise FailedError(f"cannot be read: {exc.strerror}") from exc
    if len(data) > MAX_FILE_BYTES:
        raise FailedError(f"larger than {MAX_FILE_BYTES // 2**20} MiB")
    return data


def _api_error(code: int, message: str, detail: str) -> dict[str, Any]:
    kind = "refused" if code == AuthFailed.error_code else "failed"
    text = f"{message}: {detail}" if detail else message
    return error_json(kind, text, code=code)


def _as_text(path: Path, answer: dict[str, Any]) -> str:
    if error := answer.get("error"):
        code = f"{error['code']} " if "code" in error else ""
        return f"{path}: {code}{error['message']}"
    rows = [f"  {result['score']:.4f}  {result['name']}" for result in answer["results"]]
    return "\n".join([f"{path}:", *rows])


def _ask_server(endpoint: Endpoint, top_num: int) -> PredictMany:
    def ask(data: bytes) -> dict[str, Any]:
        return call_api(endpoint, data, ("log_id", "results"), top_num=top_num)

    return partial(map, partial(_classify_file, ask))


def call_api(
    endpoint: Endpoint, data: bytes, keys: Iterable[str], **fields: object
) -> dict[str, Any]:
    """Call the API with an image file and other fields.

    Returns:
        The keys of the answer, or its error as ``error_json`` makes it.

    Raises:
        OperatorError: see Endpoint.post.
        UnreachableError: see Endpoint.post; or the answer is not one of the API.
    """
    image = base64.b64encode(data).decode()
    body, headers = endpoint.post(orjson.dumps({"image": image, **fields}))
    try:
        answer: dict[str, Any] = orjson.loads(body)
        if "error_code" not in answer:
            return {key: answer[key] for key in keys}
        detail = answer.get("error_detail", headers.get("X-Error-Detail", ""))
        return _api_error(answer["error_code"], answer["error_msg"], detail)
    except (orjson.JSONDecodeError, TypeError, KeyError) as exc:
        text = f"{endpoint.url} did not answer as the API does; check the URL"
        raise UnreachableError(text) from exc


def _load_local(package: str, top_num: int, options: dict[str, str | None]) -> PredictMany:
    # Imported here: for a server, torch is not needed.
    from app.inference.local import LocalClassifier

    classifier = LocalClassifier(load_unlocked(find_package(package, options), options))

    def classify(data: bytes) -> dict[str, Any]:
        return {"results": classifier.classify(data, top_num)}

    return partial(classifier.map, partial(_classify_file, classify))
