"""The live microscope: a local server that runs the model again with other sentences or weights.

It listens on loopback only. Any page in the user's browser could send requests to it, so it refuses requests whose Host
header names another machine (as after DNS rebinding), and runs the model only for requests with the token of its own
page. Other pages may not show it in a frame. A connection that is silent is closed, and so are connections beyond a
number.
"""

from __future__ import annotations

import json
import secrets
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ...console.errors import CommandError, UserError
from ...interface import LanguageModel
from ...runs.folder import Run
from ...runs.jsons import parse_json
from ..record.arrays import as_json
from ..record.build import build
from ..record.drawn import Given
from ..record.rerun import Rerun
from ..record.schema import Data
from ..record.sentences import Once
from .render import render

__all__ = ["MicroscopeServer"]

_LARGEST_BODY = 100_000
"""The most bytes of a request."""
_SILENCE = 10.0
"""Seconds after which a connection that says nothing is closed."""
_MOST_CONNECTIONS = 32
_SAFE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class MicroscopeServer(ThreadingHTTPServer):
    """Serves the page of one run, and runs its model again on request.

    Args:
        run, model: the run and its model.
        first: the request that the page opens with.
        port: the port on 127.0.0.1; 0 for any free one.
        sentences: those to take averages over, followed once for the weights of the run, and again for every request
            that changes them.
        beside, broken: see `models.microscope.view.microscope`.

    Raises:
        CommandError, DataError: the first request cannot be run, or the port cannot be used.
    """

    daemon_threads = True

    def __init__(
        self, run: Run, model: LanguageModel, first: Rerun, port: int = 0, *, sentences: Given | None = None,
        beside: tuple[Run, LanguageModel] | None = None, broken: str | None = None,
    ) -> None:  # fmt: skip
        self.run, self.model, self.beside, self.broken = run, model, beside, broken
        self.sentences = None if sentences is None else Once(sentences)
        self.token = secrets.token_urlsafe(24)
        self._turn = threading.Lock()  # one pass at a time: each takes all cores
        self._connections = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise CommandError(f"port {port} cannot be used: {error.strerror}; choose another with --port") from error
        try:
            self.page = render(dict(self.rerun(first))).encode()
        except BaseException:
            self.server_close()
            raise

    @property
    def address(self) -> str:
        """The page's address."""
        return f"http://127.0.0.1:{self.server_port}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection in a thread of its own, if there are not too many."""
        if self._connections.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Handle a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say in one line what went wrong; that a browser has closed its connection is nothing wrong."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            print(f"error: a request failed: {type(error).__name__}: {error}", file=sys.stderr)

    def rerun(self, request: Rerun) -> Data:
        """The data for a request (see `models.microscope.record.rerun.Rerun`).

        Raises:
            CommandError, DataError: the request cannot be run; the message says why.
        """
        source, target = request.get("source"), request.get("target")
        if not isinstance(source, str):
            raise CommandError(f"source must be a text, got {type(source).__name__}")
        if target is not None and not isinstance(target, str):
            raise CommandError(f"target must be a text or null, got {type(target).__name__}")
        if any("\ud800" <= character <= "\udfff" for character in source + (target or "")):
            raise CommandError("source and target must be text: they have half a surrogate pair")
        nudge, step = request.get("nudge"), request.get("step")
        for name, change in (("nudge", nudge), ("step", step)):
            if change is not None and not isinstance(change, dict):
                raise CommandError(f"{name} must be an object or null, got {type(change).__name__}")
        changed = nudge is not None or step is not None
        sentences = self.sentences.given if self.sentences and changed else self.sentences
        options: Any = {"sentences": sentences, "beside": self.beside, "broken": self.broken}
        with self._turn:
            return build(
                self.model,
                source,
                target,
                run=self.run,
                nudge=nudge,
                step=step,
                served={"token": self.token},
                **options,
            )


class _Handler(BaseHTTPRequestHandler):
    server: MicroscopeServer
    timeout = _SILENCE
    server_version, sys_version = "tinygrad_attn", ""

    def do_HEAD(self) -> None:
        """The headers of the page."""
        self.do_GET()

    def do_GET(self) -> None:
        """The page."""
        if not self._is_from_here():
            return
        if self.path not in ("/", "/index.html"):
            self._refuse(HTTPStatus.NOT_FOUND, f"there is no {self.path}; the page is /")
            return
        self._answer(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page)

    def do_POST(self) -> None:
        """Run the model again."""
        if not self._is_from_here():
            return
        if self.path != "/run":
            self._refuse(HTTPStatus.NOT_FOUND, f"there is no {self.path}; requests go to /run")
        elif not secrets.compare_digest(
            self.headers.get("X-Microscope-Token", "").encode(), self.server.token.encode()
        ):
            self._refuse(HTTPStatus.FORBIDDEN, "the token is not that of this server; open the page again")
        else:
            self._run()

    def _run(self) -> None:
        body = self._body()
        if body is None:
            return
        try:
            request = parse_json(body)
            if not isinstance(request, dict):
                raise CommandError(f"expected an object, got {type(request).__name__}")
            found: Any = self.server.rerun(request)  # type: ignore[arg-type]
        except (UserError, ValueError) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except Exception:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "the request failed; the terminal of the server says how")
            raise
        else:
            self._answer(HTTPStatus.OK, "application/json", as_json(found).encode())

    def _body(self) -> bytes | None:
        """The request's body; None if it cannot be had, and the request is answered."""
        stated = self.headers.get("Content-Length", "")
        if not stated.isdecimal():
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "the request has no Content-Length")
            return None
        length = int(stated) if len(stated) <= len(str(_LARGEST_BODY)) else _LARGEST_BODY + 1
        if length > _LARGEST_BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request has at most {_LARGEST_BODY} bytes")
            return None
        try:
            body = self.rfile.read(length)
        except TimeoutError:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"no more of the request came within {_SILENCE:g} seconds")
            return None
        if len(body) < length:
            self._refuse(HTTPStatus.BAD_REQUEST, f"the request ends after {len(body)} of {length} bytes")
            return None
        return body

    def _is_from_here(self) -> bool:
        port = self.server.server_port
        if self.headers.get("Host") in (f"127.0.0.1:{port}", f"localhost:{port}"):
            return True
        self._refuse(HTTPStatus.FORBIDDEN, f"this server answers to 127.0.0.1:{port} and localhost:{port} only")
        return False

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self._answer(status, "application/json", json.dumps({"error": message}, ensure_ascii=False).encode())

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in _SAFE_HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no request, or none that this server knows."""
        self.close_connection = True
        self.request_version = "HTTP/1.0"  # a request whose version is not known is taken for one without headers
        status = HTTPStatus(code)
        self._refuse(status, message or status.phrase)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing to the terminal."""
