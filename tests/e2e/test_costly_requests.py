"""Costly requests do not make ordinary ones wait."""

import json
import select
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from app.factory import IMAGE_THREADS_PER_CPU
from app.system.cpus import usable_cpus
from tests.support.costly_files import jpeg_with_scans, png
from tests.support.images import RED, to_base64
from tests.support.server import Server

MORE_THAN_THREADS = IMAGE_THREADS_PER_CPU * usable_cpus() + 4
COSTLY = to_base64(jpeg_with_scans(32))
SINGLE = "/colours/ImageClassification"


@pytest.fixture
def patient_server(colour_weights: Path, tmp_path: Path) -> Iterator[Server]:
    """A server with a place for each request of these tests, also on a slow machine."""
    places = 4 * MORE_THAN_THREADS
    with Server(colour_weights, tmp_path, max_in_flight=places, deadline_ms=120_000) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "payload"),
    [(SINGLE, {"image": COSTLY}), (f"{SINGLE}/batch", {"images": [COSTLY] * 2})],
    ids=["single", "batch"],
)
def test_ordinary_request_overtakes_costly_ones(
    patient_server: Server, path: str, payload: object
) -> None:
    with sent(patient_server, MORE_THAN_THREADS, path, payload) as connections:
        assert patient_server.classify("colours", {"image": RED}).code == 0
        assert count_pending(connections) > MORE_THAN_THREADS / 2
        for connection in connections:
            answer = json.loads(connection.getresponse().read())
            for entry in answer.get("answers", [answer]):
                assert len(entry["results"]) == 3, entry


@contextmanager
def sent(server: Server, count: int, path: str, payload: object) -> Iterator[list[HTTPConnection]]:
    """Send the same request on several connections."""
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(server.connect())) for _ in range(count)]
        for connection in connections:
            connection.request("POST", path, json.dumps(payload).encode())
        yield connections


def count_pending(connections: list[HTTPConnection]) -> int:
    """How many have not been answered."""
    answered, _, _ = select.select([connection.sock for connection in connections], [], [], 0)
    return len(connections) - len(answered)


def test_costly_requests_beyond_half_of_the_places_are_refused(
    colour_weights: Path, tmp_path: Path
) -> None:
    settings = {"max_in_flight": 16, "deadline_ms": 120_000}
    with (
        Server(colour_weights, tmp_path, **settings) as server,
        sent(server, 12, SINGLE, {"image": COSTLY}) as connections,
    ):
        codes = []
        for connection in connections:
            response = connection.getresponse()
            detail = response.getheader("X-Error-Detail")
            codes.append((json.loads(response.read()).get("error_code", 0), detail))
    refusal = (336100, "8 costly images are already in flight")
    assert set(codes) == {(0, None), refusal}
    assert codes.count((0, None)) >= 8


def test_small_png_that_inflates_to_much_is_336005(server: Server) -> None:
    image = to_base64(png(16, 2, 8, bytes(100_000_000)))
    answer = server.classify("colours", {"image": image})
    assert answer.code == 336005
    assert answer.detail == "png: the image data holds more than 1050144 bytes"
