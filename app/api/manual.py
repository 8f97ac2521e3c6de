"""The manual: static pages that docs/manual/build.py makes of docs/."""

from flask import Blueprint, Response, request, send_from_directory

from app.api.pages import guarded, reader_language
from app.errors import InvalidArgument
from app.folders import MANUAL

NOT_BUILT = "the manual has not been built: run make manual, or read docs/ in the checkout"

blueprint = Blueprint("manual", __name__)


@blueprint.get("/manual")
@blueprint.get("/manual/")
def start() -> Response:
    """Lead to the first page in the language of the reader, below any prefix of a proxy."""
    folder = "" if request.path.endswith("/") else "manual/"
    language = "zh/" if reader_language() == "zh" else ""
    headers = {"Location": f"{folder}{language}index.html", "Vary": "Accept-Language"}
    return Response(status=302, headers=headers)


@blueprint.get("/manual/<path:file>")
def page(file: str) -> Response:
    """Answer a file of the manual."""
    if not MANUAL.is_dir():
        raise InvalidArgument(NOT_BUILT)
    return guarded(send_from_directory(MANUAL, file))
