"""Clients that hold a server's connections, in one process.

Each attack is a number of connections that send an opening, and then trickle, stay silent, or
repeat it. A connection that the server closes is opened again after a second, by a flood at once.
"""

import asyncio
import base64
import io
import json
import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from PIL import Image

from benchmarks.clients import in_background
from benchmarks.server import HOST, Server
from benchmarks.support import PATH, allow_many_files, photo_body

TRICKLE_INTERVAL_S = 0.2
TRICKLE_SLOTS = 20
"""Clients send their bytes in turns, so that they do not all wake the server at once."""

REOPEN_PAUSE_S = 1.0
OPEN_TIMEOUT_S = 10.0
"""A server under attack may never complete the last connections or handshakes."""

CONNECTING_AT_ONCE = 100
SMALL_BUFFER_BYTES = 4096
"""The receive buffer of a client that never reads, so that the server soon cannot send."""

BODY_BYTES = 100_000
PIPELINED = 50

FLOODING = 8
"""As many as there are good callers."""

MIN_SHARE = 0.8
"""Of the throughput of good callers, while others hold connections."""

MIN_SHARE_OF_FLOOD = 0.5
"""A flood of as many clients as there are good callers may take as much as they."""

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Attack:
    """What each of a number of clients does.

    Attributes:
        key: names it on the command line.
        name: says what it is.
        clients: how many there are.
        openings: what a client sends first; the clients take them in turn.
        trickle: sent afterwards, one byte in each TRICKLE_INTERVAL_S, from the start again
            when all of it has been sent.
        is_reading: whether answers are read.
        is_handshaking: whether the client completes the TLS handshake of a TLS server.
        is_flood: whether a client sends its opening again as soon as it has an answer.
        min_share: of their throughput that good callers must keep.
    """

    key: str
    name: str
    clients: int
    openings: Sequence[bytes] = (b"",)
    trickle: bytes = b""
    is_reading: bool = True
    is_handshaking: bool = True
    is_flood: bool = False
    min_share: float = MIN_SHARE


def post(path: str, framing: str, body: bytes = b"") -> bytes:
    """A request that says by one header line how its body is framed."""
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
    return f"{head}{framing}\r\n\r\n".encode() + body


_LENGTH = f"Content-Length: {BODY_BYTES}"
_CHUNKED = "Transfer-Encoding: chunked"
_PAGE = f"GET /openapi.json HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
_LAST = f"GET /healthz HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()

ATTACKS = (
    Attack("heads", "unfinished heads", 500, [post(PATH, "X-Unfinished: ")[:-4]]),
    Attack("bodies", "trickled bodies", 500, [post(PATH, _LENGTH, b'{"image": "')], b"A"),
    Attack(
        "chunks",
        "trickled chunked bodies",
        300,
        [post(PATH, _CHUNKED, b'b\r\n{"image": "\r\n')],
        b"5\r\nAAAAA\r\n",
    ),
    Attack("idle", "idle connections", 2000),
    Attack("idle-more", "idle connections", 2100),
    Attack(
        "pipelined",
        f"pipelining {PIPELINED} large pages, never reading",
        130,
        [_PAGE * PIPELINED],
        is_reading=False,
    ),
    Attack("closed", "staying after Connection: close", 100, [_LAST], is_reading=False),
    Attack(
        "wrong-path", "bodies that never come, wrong path", 112, [post("/nothing/here", _LENGTH)]
    ),
    Attack("right-path", "bodies that never come, right path", 112, [post(PATH, _LENGTH)]),
)


def _flood(key: str, name: str, *openings: bytes, min_share: float = MIN_SHARE_OF_FLOOD) -> Attack:
    return Attack(key, name, FLOODING, openings, is_flood=True, min_share=min_share)


def _whole(path: str, body: bytes) -> bytes:
    return post(path, f"Content-Length: {len(body)}", body)


def _tiny_image() -> bytes:
    """The body of a request with the smallest image that is accepted."""
    buffer = io.BytesIO()
    Image.new("RGB", (15, 15), "red").save(buffer, "PNG")
    return json.dumps({"image": base64.b64encode(buffer.getvalue()).decode()}).encode()


FLOODS = (
    _flood(
        "flood-chunks",
        "malformed chunked bodies",
        post(PATH, _CHUNKED, b"not a size\r\n{}\r\n0\r\n\r\n"),
        post(PATH, _CHUNKED, b"2\r\n{}no line end\r\n0\r\n\r\n"),
        post(PATH, _CHUNKED, b"-2\r\n{}\r\n0\r\n\r\n"),
        post(PATH, _CHUNKED, b"2;" + b"x" * 20_000 + b"\r\n{}\r\n0\r\n\r\n"),
    ),
    _flood("flood-json", "bodies that are no JSON", _whole(PATH, b'{"image":')),
    _flood("flood-path", "a wrong path", _whole("/nothing/here", b"{}")),
    _flood("flood-docs", "GET /docs", f"GET /docs HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()),
    # Each is computed: half of the throughput is theirs.
    _flood("flood-tiny", "images of 15 x 15 px", _whole(PATH, _tiny_image()), min_share=0.4),
)

TOKEN_FLOOD = _flood(
    "flood-token", "a wrong access token", _whole(f"{PATH}?access_token=wrong", photo_body())
)
"""Of a server that asks for tokens."""


def tls_attacks() -> tuple[Attack, ...]:
    """The attacks that only a TLS server knows: handshakes that stall."""
    outgoing = ssl.MemoryBIO()
    hello = ssl.create_default_context().wrap_bio(
        ssl.MemoryBIO(), outgoing, server_hostname="localhost"
    )
    with suppress(ssl.SSLWantReadError):
        hello.do_handshake()
    half = outgoing.read()
    half = half[: len(half) // 2]
    return (
        Attack("silent", "TLS handshakes, nothing sent", 200, is_handshaking=False),
        Attack("half-hello", "TLS handshakes, half a ClientHello", 200, [half], b"", True, False),
    )


@dataclass
class Counts:
    """How an attack went: connections opened, failed, open now; answers to a flood."""

    opened: int = 0
    failed: int = 0
    held: int = 0
    answers: int = 0


@contextmanager
def attackers(attack: Attack, server: Server) -> Iterator[list[Counts]]:
    """Attack a server for the length of a block, from when every client is connected.

    Yields:
        The list that holds the counts, as its only item, after the block.
    """
    with in_background(_run, attack, server.port, server.cafile) as counts:
        yield counts


def _run(pipe: Connection, attack: Attack, port: int, cafile: str) -> None:
    allow_many_files()
    asyncio.run(_Crew(attack, port, cafile).work(pipe))


class _Client(asyncio.Protocol):
    """A connection; ``closed`` is done when it is over."""

    transport: asyncio.Transport

    def __init__(self, attack: Attack, opening: bytes, counts: Counts) -> None:
        self._attack, self._opening, self._counts = attack, opening, counts
        self._received = b""
        self._position = 0
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if not self._attack.is_reading:
            # Later: the transport starts to read after this call.
            asyncio.get_running_loop().call_soon(transport.pause_reading)

    def data_received(self, data: bytes) -> None:
        if not self._attack.is_flood:
            return
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = _CONTENT_LENGTH.search(head)
        if not end or (length and len(body) < int(length[1])):
            return
        self._received = b""
        self._counts.answers += 1
        if b"\r\nconnection: close" in head.lower():
            self.transport.close()
        else:
            self.transport.write(self._opening)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def trickle(self) -> None:
        if not self.transport.is_closing():
            trickle = self._attack.trickle
            self.transport.write(trickle[self._position : self._position + 1])
            self._position = (self._position + 1) % len(trickle)


class _Crew:
    """All the clients of an attack."""

    def __init__(self, attack: Attack, port: int, cafile: str) -> None:
        self._attack, self._port = attack, port
        is_tls = cafile and attack.is_handshaking
        self._context = ssl.create_default_context(cafile=cafile) if is_tls else None
        self._clients: dict[int, _Client] = {}
        self._counts = Counts()

    async def work(self, pipe: Connection) -> None:
        """Open everything, say so, and go on until told to stop."""
        loop = asyncio.get_running_loop()
        self._free = asyncio.Semaphore(CONNECTING_AT_ONCE)
        opened = [asyncio.Event() for _ in range(self._attack.clients)]
        tasks = [asyncio.create_task(self._keep(i, event)) for i, event in enumerate(opened)]
        if self._attack.trickle:
            tasks.append(asyncio.create_task(self._trickle()))
        everything = asyncio.gather(*(event.wait() for event in opened))
        with suppress(TimeoutError):
            await asyncio.wait_for(everything, OPEN_TIMEOUT_S)
        pipe.send("ready")
        await loop.run_in_executor(None, pipe.recv)
        pipe.send([self._counts])
        for task in tasks:
            task.cancel()

    async def _keep(self, index: int, opened: asyncio.Event) -> None:
        """Keep one connection open, again and again."""
        opening = self._attack.openings[index % len(self._attack.openings)]
        while True:
            try:
                async with self._free:
                    peer = await self._connect()
                opened.set()
                await self._hold(index, peer, opening)
            except OSError:
                self._counts.failed += 1
            if not self._attack.is_flood:
                await asyncio.sleep(REOPEN_PAUSE_S)

    async def _hold(self, index: int, peer: socket.socket, opening: bytes) -> None:
        self._counts.opened += 1
        self._counts.held += 1
        try:
            self._clients[index] = client = await self._open(peer, opening)
            await client.closed
        finally:
            self._counts.held -= 1
            self._clients.pop(index, None)

    async def _connect(self) -> socket.socket:
        peer = socket.socket()
        peer.setblocking(False)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self._attack.is_reading:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        try:
            await asyncio.get_running_loop().sock_connect(peer, (HOST, self._port))
        except OSError:
            peer.close()
            raise
        return peer

    async def _open(self, peer: socket.socket, opening: bytes) -> _Client:
        loop = asyncio.get_running_loop()
        try:
            if self._context is None:
                # Not by the transport, which would copy a body that the server does not take.
                await loop.sock_sendall(peer, opening)
            _, client = await loop.create_connection(
                lambda: _Client(self._attack, opening, self._counts),
                sock=peer,
                ssl=self._context,
                server_hostname=HOST if self._context else None,
            )
        except OSError:
            peer.close()
            raise
        if self._context is not None:
            client.transport.write(opening)
        return client

    async def _trickle(self) -> None:
        while True:
            for slot in range(TRICKLE_SLOTS):
                for index in range(slot, self._attack.clients, TRICKLE_SLOTS):
                    if client := self._clients.get(index):
                        client.trickle()
                await asyncio.sleep(TRICKLE_INTERVAL_S / TRICKLE_SLOTS)
