"""``classifyd explain``: show on which parts of an image the score of a class depends."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from app.cli.calling import calling_options, find_endpoint
from app.cli.licences import licence_options, load_unlocked
from app.cli.options import PATH, json_option, output_option
from app.cli.output import print_result, writing
from app.cli.package.verify import find_package
from app.cli.predict import call_api, read_image
from app.errors import ApiError, FailedError, OperatorError
from app.observability.log_format import escape_unprintable
from app.system.endpoint import Endpoint

_KEYS = ("log_id", "name", "score", "rows", "cols", "heat")


@click.command()
@click.argument("image", type=PATH)
@click.option("--url", help="of the API, with https:// or http:// (default: the running server)")
@click.option("--package", metavar="PACKAGE", help="load it here: a NAME, or a folder NAME/VERSION")
@calling_options
@click.option("--label", help="of the class to explain (default: the top class)")
@output_option("png to write: the image with the heat map over it", required=True)
@json_option
@licence_options
def explain(
    image: Path,
    url: str | None,
    package: str | None,
    name: str | None,
    token_file: Path | None,
    cacert: Path | None,
    label: str | None,
    output: Path,
    as_json: bool,
    **options: str | None,
) -> None:
    """Show on which parts of an IMAGE the score of a class depends.

    Without --url and --package the server that runs on this machine is called. A sealed package
    is opened with the licence of this machine's server.

    \b
    Examples:
        classifyd explain photo.jpg --output heat.png
        classifyd explain photo.jpg --package imagenet --label goldfish --output heat.png
    """
    if url and package:
        raise click.UsageError("give --url or --package, not both")
    # Imported here: other commands need no OpenCV.
    from app.imaging.overlay import draw_heat

    data = read_image(image)
    try:
        if package:
            answer = _explain_here(package, data, label, options)
        else:
            endpoint = find_endpoint(url, name, token_file, cacert, options)
            answer = _ask_server(endpoint, data, label)
        picture = draw_heat(data, np.array(answer["heat"]))
    except ApiError as exc:
        raise FailedError(f"{image}: {exc.error_code} {exc.error_msg}: {exc.detail}") from exc
    with writing(output):
        output.write_bytes(picture)
    text = f"{image}: {answer['score']:.4f}  {answer['name']}\nheat map: {output}"
    print_result({"file": str(image), **answer}, escape_unprintable(text, "\n"), as_json)


def _ask_server(endpoint: Endpoint, data: bytes, label: str | None) -> dict[str, Any]:
    path, mark, query = endpoint.path.partition("?")
    endpoint = replace(endpoint, path=f"{path.rstrip('/')}/heatmap{mark}{query}")
    answer = call_api(endpoint, data, _KEYS, label=label)
    if error := answer.get("error"):
        kind = OperatorError if error["kind"] == "refused" else FailedError
        raise kind(f"{error['code']} {error['message']}")
    return answer


def _explain_here(
    package: str, data: bytes, label: str | None, options: dict[str, str | None]
) -> dict[str, Any]:
    # Imported here: for a server, torch is not needed.
    from app.inference.local import LocalClassifier

    classifier = LocalClassifier(load_unlocked(find_package(package, options), options))
    found = classifier.explain(data, label)
    rows, columns = found.heat.shape
    return {
        **{"name": found.name, "score": found.score, "rows": rows, "cols": columns},
        "heat": found.heat.tolist(),
    }
