"""What a running server answers, for an evaluation of exactly what is served."""

import base64
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import orjson

from app.errors import REGISTRY, AuthFailed, ModelUnavailable, OperatorError, UnreachableError
from app.inference.engines.base import FloatArray
from app.packages.package import Package
from app.system.cpus import usable_cpus
from app.system.endpoint import Endpoint

Item = TypeVar("Item")
Result = TypeVar("Result")

_CONNECTIONS_PER_CPU = 2
_TRIES = 30


class ServedClassifier:
    """A package behind a server, with the interface of LocalClassifier.

    Args:
        package: the package here, whose labels and version the server must have.
        endpoint: the API of the server.
    """

    def __init__(self, package: Package, endpoint: Endpoint) -> None:
        self.package = package
        self.name = endpoint.url
        self._endpoint = endpoint

    def score(self, image_bytes: bytes) -> FloatArray:
        """Ask for the scores of an image file, float32 (classes,).

        Raises:
            ApiError: the server refuses the image.
            OperatorError: it refuses the caller, serves another version, or does not answer.
        """
        image = base64.b64encode(image_bytes).decode()
        body = orjson.dumps({"image": image, "top_num": len(self.package.labels)})
        for _ in range(_TRIES):
            answer, headers = self._endpoint.post(body)
            try:
                document = orjson.loads(answer)
                code = document.get("error_code")
            except (orjson.JSONDecodeError, AttributeError) as exc:
                text = f"{self.name} did not answer as the API does; check the URL"
                raise UnreachableError(text) from exc
            if code != ModelUnavailable.error_code:
                break
            time.sleep(float(headers.get("Retry-After", 1)))
        if code is not None:
            self._refuse(code, document, headers)
        self._require_version(headers)
        best: dict[str, float] = {}
        for result in document["results"]:
            best.setdefault(result["name"], result["score"])
        try:
            return np.array([best[label] for label in self.package.labels], np.float32)
        except KeyError as exc:
            raise OperatorError(f"{self.name} has no label {exc}: it serves another model") from exc

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Apply ``work``, which scores, to items with a few requests at a time, in their order."""
        with ThreadPoolExecutor(_CONNECTIONS_PER_CPU * usable_cpus()) as pool:
            yield from pool.map(work, items)

    def _refuse(self, code: int, document: dict[str, str], headers: dict[str, str]) -> None:
        detail = document.get("error_detail") or headers.get("X-Error-Detail", "")
        if code == AuthFailed.error_code or code not in REGISTRY:
            raise OperatorError(f"{self.name}: {code} {document.get('error_msg')}: {detail}")
        raise REGISTRY[code](detail)

    def _require_version(self, headers: dict[str, str]) -> None:
        found, expected = headers.get("X-Model-Version"), self.package.manifest.version
        if found is not None and found != expected:
            raise OperatorError(
                f"{self.name} serves version {found}, not {expected}: name the package's folder, "
                f"such as {self.package.folder.parent / found}"
            )
