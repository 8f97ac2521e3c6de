"""Send requests until told to stop; print the answers by error code.

Runs with any Python in the container of ``in_container.sh``. Four clients open a connection
for each request, two keep theirs open; if the server closes a kept connection between two
requests, the output counts it separately.
"""

import base64
import collections
import http.client
import json
import pathlib
import sys
import threading
import time

PHOTO = "/opt/classifyd/current/tests/photos/coffee.jpg"
URL_PATH = "/imagenet/ImageClassification"
PAUSE_S = 0.05

answers: "collections.Counter[str]" = collections.Counter()
longest_s = [0.0]


def ask(connection: http.client.HTTPConnection, body: bytes) -> str:
    """Send one request; returns its error code, 0 for a result."""
    connection.request("POST", URL_PATH, body, {"Content-Type": "application/json"})
    return str(json.loads(connection.getresponse().read()).get("error_code", 0))


def work(body: bytes, stop: pathlib.Path, keeps: bool) -> None:
    """Send requests until the file exists."""
    connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=60)
    while not stop.exists():
        started = time.monotonic()
        try:
            answer = ask(connection, body)
        except (OSError, http.client.HTTPException) as exc:
            answer = f"{'kept' if keeps else 'new'} connection: {exc!r}"
            connection.close()
        answers[answer] += 1
        longest_s[0] = max(longest_s[0], time.monotonic() - started)
        if not keeps:
            connection.close()
        time.sleep(PAUSE_S)


def main() -> None:
    """Run six clients until the file named by the first argument exists."""
    stop = pathlib.Path(sys.argv[1])
    image = base64.b64encode(pathlib.Path(PHOTO).read_bytes()).decode()
    body = json.dumps({"image": image}).encode()
    clients = [threading.Thread(target=work, args=(body, stop, n % 3 == 0)) for n in range(6)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    sys.stdout.write(f"answers {dict(answers)}, longest {longest_s[0]:.1f} s\n")


main()
