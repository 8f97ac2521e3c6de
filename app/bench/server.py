"""Facts about the server under load."""

import json
import os
from http.client import HTTPException
from pathlib import Path

from app.bench.connections import Target
from app.system.heap import resident_memory_bytes

_PROC = Path("/proc")
_LISTEN = "0A"
"""TCP_LISTEN in /proc/net/tcp (kernel: include/net/tcp_states.h)."""

_LOCAL = {"127.0.0.1", "localhost", "::1"}
_TIMEOUT_S = 10


def describe_server(target: Target) -> str:
    """Say where a server runs and, if it is classifyd, its version, engine and device."""
    place = "on this machine" if target.host in _LOCAL else f"at {target.host}"
    model = _serving(target).get(target.path.strip("/").split("/")[0])
    if model is None:
        return place
    return f"{place}, version {model['version']} by {model['engine']} on {model['device']}"


def _serving(target: Target) -> dict[str, dict[str, str]]:
    connection = target.connect(_TIMEOUT_S)
    query = target.path.partition("?")[2]  # it may have the access token
    try:
        connection.request("GET", f"/readyz?{query}", headers=target.headers)
        serving: dict[str, dict[str, str]] = json.loads(connection.getresponse().read())["serving"]
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return {}
    finally:
        connection.close()
    return serving


def workers_memory_mb(target: Target) -> float:
    """Sum the resident memory of the processes that listen on the port of a target.

    Returns:
        Megabytes of the workers; 0 if the server is remote or runs as another user.
    """
    if target.host not in _LOCAL:
        return 0.0
    links = {f"socket:[{inode}]" for inode in _listening_inodes(target.port)}
    sizes = [_resident_mb(process) for process in _PROC.glob("[0-9]*") if _holds(process, links)]
    # The master listens too; it is by far the smallest process.
    return sum(sizes) - min(sizes) if len(sizes) > 1 else sum(sizes)


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for columns in map(str.split, lines):
            if columns[3] == _LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
                found.add(columns[9])
    return found


def _holds(process: Path, links: set[str]) -> bool:
    try:
        return any(os.readlink(link) in links for link in (process / "fd").iterdir())
    except OSError:
        return False


def _resident_mb(process: Path) -> float:
    try:
        return resident_memory_bytes(process) / 1e6
    except OSError:
        return 0.0
