"""What the server relies on in gunicorn and gevent beyond their documented settings."""

import inspect
from pathlib import Path

import gevent
import gevent.event
import gevent.server
import gevent.socket
import gevent.ssl
import pytest
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.http import get_parser
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.wsgi import create
from gunicorn.workers.base import Worker as BaseWorker
from gunicorn.workers.base_async import AsyncWorker
from gunicorn.workers.ggevent import GeventWorker

from app.server.listener import Listener
from app.server.tls import TlsContext, tls_context
from app.server.worker import Worker


def _source(function: object) -> str:
    return inspect.getsource(function)  # type: ignore[arg-type]


def test_worker_overrides_methods_that_gunicorn_calls() -> None:
    for name in ("patch", "run", "notify", "handle", "load_wsgi"):
        assert callable(getattr(GeventWorker, name)), name
    assert "self.patch()" in _source(GeventWorker.init_process)
    assert "self.load_wsgi()" in _source(BaseWorker.init_process)


def test_run_accepts_through_the_server_class_and_notifies_while_it_drains() -> None:
    run = _source(GeventWorker.run)
    assert "self.server_class(" in run
    assert "spawn=pool" in run
    assert "Pool(self.worker_connections)" in run
    assert run.count("self.notify()") == 2
    assert run.index("server.close()") < run.rindex("self.notify()")


def test_listener_overrides_methods_that_gevent_calls() -> None:
    accept = _source(gevent.server.StreamServer._do_read)
    assert "self.do_read()" in accept
    assert "if not args:" in accept
    assert Listener.do_read is not gevent.server.StreamServer.do_read
    assert "self.max_accept" in accept
    assert "self.wrap_socket_and_handle" in _source(gevent.server.StreamServer)
    for name in ("stop_accepting", "start_accepting", "is_fatal_error"):
        assert callable(getattr(gevent.server.StreamServer, name)), name
    assert isinstance(gevent.server.StreamServer.started, property)


def test_requests_are_counted_as_gunicorn_counts_them() -> None:
    handle = _source(AsyncWorker.handle_request)
    assert "if self.nr >= self.max_requests:" in handle
    assert "self.cfg.pre_request(self, req)" in handle
    assert "self.log.access(resp, req, environ, request_time)" in handle
    assert "self.cfg.post_request(self, req, environ, resp)" in handle


class _Client:
    """A connection that has sent two requests at once."""

    def __init__(self) -> None:
        self._sent = [
            b"POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\nokGET /b HTTP/1.1\r\n\r\n",
            b"",
        ]

    def recv(self, size: int) -> bytes:
        return self._sent.pop(0)


def test_parser_gives_requests_whose_unread_bytes_can_be_taken_and_put_back() -> None:
    parser = get_parser(Config(), _Client(), ("127.0.0.1", 1))
    first = next(parser)
    assert (first.method, first.path) == ("POST", "/a")
    assert isinstance(first.body, Body)
    assert first.body.read(100) == b"ok"
    rest = parser.unreader.take_buffered()
    assert rest.startswith(b"GET /b")
    parser.unreader.unread(rest)
    assert next(parser).path == "/b"


def test_a_second_master_runs_the_command_that_pre_exec_leaves() -> None:
    reexec = _source(Arbiter.reexec)
    assert reexec.index("self.cfg.pre_exec(self)") < reexec.index("os.execvpe(")
    assert "os.execvpe(self.START_CTX[0], self.START_CTX['args'], environ)" in reexec


def test_environ_has_a_stream_that_ends_with_the_body() -> None:
    client, config = _Client(), Config()
    request = next(get_parser(config, client, ("127.0.0.1", 1)))
    response, environ = create(request, client, ("127.0.0.1", 1), ("127.0.0.1", 80), config)
    assert environ["wsgi.input_terminated"]
    assert environ["wsgi.input"].read(100) == b"ok"
    assert {"status", "headers", "sent"} <= vars(response).keys()


def test_parser_leaves_a_body_of_known_length_to_others() -> None:
    parser = get_parser(Config(), _Client(), ("127.0.0.1", 1))
    request = next(parser)
    assert isinstance(request.body.reader, LengthReader)
    assert request.body.reader.length == 2
    assert parser.unreader.take_buffered().startswith(b"okGET /b")
    request.body.reader.length = 0
    parser.unreader.unread(b"GET /c HTTP/1.1\r\n\r\n")
    request = next(parser)
    assert request.path == "/c"
    assert isinstance(request.body.reader, LengthReader)
    assert not request.should_close()


def test_function_from_another_thread_runs_in_the_event_loop() -> None:
    loop, done = gevent.get_hub().loop, gevent.event.AsyncResult()
    gevent.get_hub().threadpool.spawn(loop.run_callback_threadsafe, done.set, "value")
    assert done.get(timeout=10) == "value"


def test_tls_context_leaves_the_handshake_to_the_worker(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "ssl_context(self.cfg)" in _source(GeventWorker.run)
    assert "self.wrap_socket = ssl_context.wrap_socket" in _source(gevent.server.StreamServer)
    asked: dict[str, object] = {}
    monkeypatch.setattr(
        gevent.ssl.SSLContext, "wrap_socket", lambda _self, *_sock, **options: asked.update(options)
    )
    TlsContext(*certificate).wrap_socket(None, server_side=True)
    assert asked == {"server_side": True, "do_handshake_on_connect": False}
    assert tls_context.__doc__


def test_nothing_is_monkey_patched() -> None:
    assert "monkey.patch_all()" in _source(GeventWorker.patch)
    assert "super().patch" not in _source(Worker)
    assert "monkey" not in _source(Worker)
