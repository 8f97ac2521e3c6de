"""What a worker does with a client's socket."""

import socket
import struct
from collections.abc import Iterator

import gevent
import gevent.socket
import pytest

from app.server.connection import Connection

WAIT_S = 30

Pair = tuple[Connection, gevent.socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A connection as a worker has it, and its client."""
    with gevent.socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = gevent.socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    with client, accepted:
        yield Connection(accepted), client


def test_what_was_received_ahead_is_used_first(pair: Pair) -> None:
    connection, client = pair
    client.sendall(b"abc")
    connection.received = connection.receive(100, WAIT_S)
    assert (connection.take_received(2), connection.take_received(2)) == (b"ab", b"c")
    assert connection.take_received(2) == b""


def test_bytes_are_waited_for(pair: Pair) -> None:
    connection, client = pair
    waiting = gevent.spawn(connection.receive, 100, WAIT_S)
    dropping = gevent.spawn_later(0.2, client.sendall, b"abc")
    assert waiting.get(timeout=WAIT_S) == b"abc"
    dropping.join()
    client.sendall(b"defg")
    assert connection.drop(3, WAIT_S) == 3
    assert connection.receive(100, WAIT_S) == b"g"


def test_silence_is_a_timeout_and_the_end_is_no_bytes(pair: Pair) -> None:
    connection, client = pair
    with pytest.raises(TimeoutError):
        connection.receive(100, 0.05)
    with pytest.raises(TimeoutError):
        connection.drop(100, 0.05)
    client.shutdown(socket.SHUT_WR)
    assert connection.receive(100, WAIT_S) == b""
    assert connection.drop(100, WAIT_S) == 0


def test_broken_connection_is_an_error(pair: Pair) -> None:
    connection, client = pair
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()  # resets the connection
    with pytest.raises(ConnectionResetError):
        connection.receive(100, WAIT_S)
    with pytest.raises(BrokenPipeError):
        connection.send(b"answer", WAIT_S)


def test_long_answer_waits_for_its_reader(pair: Pair) -> None:
    connection, client = pair
    answer = bytes(range(256)) * 80_000
    sending = gevent.spawn(connection.send, answer, WAIT_S)
    received = b""
    while len(received) < len(answer):
        received += client.recv(1 << 20)
    sending.get(timeout=WAIT_S)
    assert received == answer


def test_client_that_does_not_read_is_a_timeout(pair: Pair) -> None:
    connection, client = pair
    with pytest.raises(TimeoutError):
        connection.send(b"x" * 50_000_000, 0.2)


def test_reading_can_be_ended_and_the_answer_still_be_read(pair: Pair) -> None:
    connection, client = pair
    waiting = gevent.spawn(connection.receive, 100, WAIT_S)
    gevent.sleep(0)
    connection.end_reading()
    assert waiting.get(timeout=WAIT_S) == b""
    connection.send(b"answer", WAIT_S)
    gevent.spawn(connection.close)
    assert client.recv(100) == b"answer"
    assert client.recv(100) == b""
