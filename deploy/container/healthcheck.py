"""The health check of the image: exits with status 0 if the server of this container answers."""

import os
import sys
from http.client import HTTPException

from app.server.preflight import local_host
from app.serving.status_file import running_servers
from app.settings import read_settings
from app.system.endpoint import Endpoint, Trust

TIMEOUT_S = 4

# A server is recorded as soon as its first worker is there, with the address that it really has.
found = list(running_servers(read_settings(os.environ).settings))
if not found:
    sys.exit("no server is recorded in the state folder")
for server in found:
    # It asks itself: whose certificate that is does not matter.
    trust = Trust(server.tls_certificate, names_host=False) if server.tls_certificate else None
    endpoint = Endpoint(local_host(server), server.port, "/healthz", trust=trust)
    connection = endpoint.connect(TIMEOUT_S)
    try:
        connection.request("GET", endpoint.path)
        if (status := connection.getresponse().status) != 200:
            sys.exit(f"{endpoint.url} answers {status}")
    except (OSError, HTTPException) as exc:
        sys.exit(f"{endpoint.url} does not answer: {exc}")
