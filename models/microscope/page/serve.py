"""The live microscope: a local server that runs the model again with other sentences or weights.

It listens on loopback only. Any page in the user's browser could send requests to it, so it refuses requests whose Host
header names another machine (as after DNS rebinding), and runs the model only for requests with the token of its own
page.
"""

from __future__ import annotations

import json
import secrets
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ...console.errors import CommandError
from ...data import DataError
from ...interface import Translator
from ...runs.folder import Run
from ..record.arrays import as_json
from ..record.build import build
from ..record.schema import Data, Rerun
from .render import render

__all__ = ["MicroscopeServer"]

_LARGEST_BODY = 100_000
"""The most bytes of a request."""


class MicroscopeServer(ThreadingHTTPServer):
    """Serves the page of one run, and runs its model again on request.

    Args:
        run, model: the run and its model.
        first: the request that the page opens with.
        port: the port on 127.0.0.1; 0 for any free one.

    Raises:
        CommandError, DataError: the first request cannot be run.
        OSError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, run: Run, model: Translator, first: Rerun, port: int = 0) -> None:
        self.run, self.model = run, model
        self.token = secrets.token_urlsafe(24)
        self._turn = threading.Lock()  # one pass at a time: each takes all cores
        self.page = render(dict(self.rerun(first))).encode()
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def address(self) -> str:
        """The page's address."""
        return f"http://127.0.0.1:{self.server_port}/"

    def rerun(self, request: Rerun) -> Data:
        """The data for a request (see `models.microscope.record.schema.Rerun`).

        Raises:
            CommandError, DataError: the request cannot be run; the message says why.
        """
        source, target = request.get("source"), request.get("target")
        if not isinstance(source, str):
            raise CommandError(f"source must be a text, got {type(source).__name__}")
        if target is not None and not isinstance(target, str):
            raise CommandError(f"target must be a text or null, got {type(target).__name__}")
        nudge = request.get("nudge")
        if nudge is not None and not isinstance(nudge, dict):
            raise CommandError(f"nudge must be an object or null, got {type(nudge).__name__}")
        with self._turn:
            return build(self.model, source, target, run=self.run, nudge=nudge, served={"token": self.token})


class _Handler(BaseHTTPRequestHandler):
    server: MicroscopeServer

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
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "the request has no Content-Length")
            return
        if not 0 <= length <= _LARGEST_BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request has at most {_LARGEST_BODY} bytes")
            return
        try:
            request = json.loads(self.rfile.read(length))
            if not isinstance(request, dict):
                raise CommandError(f"expected an object, got {type(request).__name__}")
            found: Any = self.server.rerun(request)  # type: ignore[arg-type]
        except (CommandError, DataError, ValueError) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        self._answer(HTTPStatus.OK, "application/json", as_json(found).encode())

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
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing to the terminal."""
