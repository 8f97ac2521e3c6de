"""Send requests until nobody listens any more, or for some seconds; fail if one was lost.

Each request has a connection of its own. Run by ``container.sh`` in the network of a container,
with any Python.

Usage: container_load.py PHOTO [CLIENTS SECONDS]
"""

import base64
import collections
import http.client
import json
import pathlib
import sys
import threading
import time

answers: "collections.Counter[str]" = collections.Counter()


def ask(body: bytes) -> str:
    """Send one request; returns its error code, 0 for a result, or how it was lost."""
    connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=60)
    try:
        connection.connect()
    except ConnectionRefusedError:
        return "refused"
    try:
        path = "/imagenet/ImageClassification"
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        return str(json.loads(connection.getresponse().read()).get("error_code", 0))
    except (OSError, http.client.HTTPException) as exc:
        return f"lost: {exc!r}"
    finally:
        connection.close()


def work(body: bytes, end: float) -> None:
    """Send requests one after the other."""
    answer = ""
    while answer != "refused" and time.monotonic() < end:
        answer = ask(body)
        answers[answer] += 1


image = base64.b64encode(pathlib.Path(sys.argv[1]).read_bytes()).decode()
clients, seconds = (int(text) for text in (sys.argv[2:] or ("8", "60")))
arguments = (json.dumps({"image": image}).encode(), time.monotonic() + seconds)
threads = [threading.Thread(target=work, args=arguments) for _ in range(clients)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.stdout.write(f"answers {dict(answers)}\n")
sys.exit(any(answer.startswith("lost") for answer in answers))
