"""Heads that are read at one go mean the same as gunicorn reads them."""

import socket
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import ParseException
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import create

from app.plain_http import Connection, PlainParser, PlainRequest, answer_of

HOST = b"Host: a\r\n"
JSON = HOST + b"Content-Type: application/json\r\nContent-Length: 2\r\n"
PLAIN = [
    b"POST /a/ImageClassification HTTP/1.1\r\n" + JSON + b"\r\n{}",
    b"POST /a/ImageClassification/?access_token=x%20y&b=%e4 HTTP/1.1\r\n" + JSON + b"\r\n{}",
    b"GET / HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /? HTTP/1.1\r\nhost:a\r\nCONNECTION: close\r\naccept:  */* \t\r\n\r\n",
]
NOT_PLAIN = [
    b"POST /%61/ImageClassification HTTP/1.1\r\n" + JSON + b"\r\n{}",
    b"POST //a HTTP/1.1\r\n" + JSON + b"\r\n{}",
    b"POST /a#b HTTP/1.1\r\n" + JSON + b"\r\n{}",
    b"POST /a HTTP/1.0\r\n" + JSON + b"\r\n{}",
    b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    b"POST /a HTTP/1.1\r\n" + JSON + b"X-Forwarded-Proto: https\r\n\r\n{}",
    b"POST /a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\n" + JSON + b"Expect: 100-continue\r\n\r\n{}",
    b"GET /a HTTP/1.1\r\nHost: a\r\nAccept: b\r\nAccept: c\r\n\r\n",
]
WRONG = [
    b"POST /a http/1.1\r\n" + JSON + b"\r\n{}",
    b"post /a HTTP/1.1\r\n" + JSON + b"\r\n{}",
    b"POST /a HTTP/1.1\r\n" + JSON + b"Content-Length: 3\r\n\r\n{}x",
    b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
    b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: +2\r\n\r\n{}",
    b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length : 2\r\n\r\n{}",
    b"POST /a HTTP/1.1\r\nHost: a\r\nAccept: b\r\n c\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: a\x00b\r\n\r\n",
    b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
]


def _read(parser: type[RequestParser], data: bytes) -> Any:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        request = next(parser(Config(), ours, ("127.0.0.1", 1)))
        names = ("method", "uri", "path", "query", "fragment", "version", "headers", "scheme")
        read = {name: getattr(request, name) for name in names}
        body = request.body.read()
        return read, body, request.should_close(), request._expected_100_continue


@pytest.mark.parametrize("data", PLAIN + NOT_PLAIN)
def test_a_request_is_read_as_gunicorn_reads_it(data: bytes) -> None:
    assert _read(PlainParser, data) == _read(RequestParser, data)


@pytest.mark.parametrize("data", WRONG)
def test_what_gunicorn_refuses_is_refused(data: bytes) -> None:
    with pytest.raises((ParseException, OSError)) as theirs:
        _read(RequestParser, data)
    with pytest.raises(theirs.type):
        _read(PlainParser, data)


@pytest.mark.parametrize(
    ("data", "is_plain"), [(data, data in PLAIN) for data in PLAIN + NOT_PLAIN]
)
def test_only_plain_heads_are_read_at_one_go(
    data: bytes, is_plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    parse = Request.parse

    def spy(self: Any, unreader: Any) -> Any:
        asked.append(True)
        return parse(self, unreader)

    monkeypatch.setattr(Request, "parse", spy)
    _read(PlainParser, data)
    assert issubclass(PlainParser.mesg_class, PlainRequest)
    assert bool(asked) is not is_plain


def test_requests_of_one_connection_follow_each_other() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(PLAIN[0] + PLAIN[1] + NOT_PLAIN[6] + PLAIN[2])
        parser = PlainParser(Config(), ours, ("127.0.0.1", 1))
        first = next(parser)
        assert first.body.read() == b"{}"
        second = next(parser)  # its body is left unread
        assert second.query == "access_token=x%20y&b=%e4"
        assert next(parser).body.read() == b"{}"
        assert next(parser).path == "/"


@pytest.mark.parametrize("data", PLAIN + NOT_PLAIN)
def test_an_application_is_told_what_gunicorn_would_tell_it(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data * 2)
        conn = Connection(Config(), ours, ("127.0.0.1", 50000), ("127.0.0.2", 8080))
        conn.init()
        for _ in range(2):  # the second request of a connection finds what the first one left
            request = next(conn.parser)
            _, environ = answer_of(request, conn)
            _, wanted = create(request, ours, conn.client, conn.server, conn.cfg)
            assert environ.pop("wsgi.input") is wanted.pop("wsgi.input")
            assert type(environ.pop("wsgi.errors")) is type(wanted.pop("wsgi.errors"))
            environ.pop("wsgi.early_hints", None)
            wanted.pop("wsgi.early_hints")
            assert environ == wanted
            if request.should_close():
                break


def test_a_connection_by_path_is_left_to_gunicorn() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(PLAIN[2])
        conn = Connection(Config(), ours, "", "/run/socket")
        conn.init()
        _, environ = answer_of(next(conn.parser), conn)
        assert environ["REMOTE_ADDR"] == ""
        assert environ["SERVER_NAME"] == "a"
