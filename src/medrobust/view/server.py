"""A server on loopback that shows every case of a run: it sends the page, and single images.

An image is named by four numbers. No part of a request is ever used as a path.
"""

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from medrobust.analysis.results import Results
from medrobust.errors import MedrobustError, RunError
from medrobust.report.page import EXPLORER, allowed, environment, script_texts
from medrobust.running.plan import make_plan
from medrobust.running.setup import choose_device, set_up
from medrobust.storage import RunFolder
from medrobust.study.config import Study
from medrobust.view.gallery import Gallery

LOOPBACK = "127.0.0.1"
NUMBERS = ("scan", "frame", "set", "target")
LONGEST_NUMBER = 9
"""Digits of the largest number that is read; `int` is slow on thousands of digits."""


def open_viewer(
    study: Study,
    folder: RunFolder,
    results: Results,
    *,
    data_dir: Path | None = None,
    device: str = "auto",
    port: int = 0,
) -> "Server":
    """A server on loopback that shows every case of a finished run; `serve_forever` starts it.

    Args:
        study: The study of the run.
        folder: The run folder.
        results: The rows of the run.
        data_dir: Folder that the `root` of the study's data is relative to.
        device: "cpu", "cuda", "cuda:1" or "mps"; "auto" takes the best available.
        port: Port to listen on; 0 takes a free one.

    Raises:
        MedrobustError: The data are missing or have changed, or the device or port is not available.
    """
    setup = set_up(study, folder, data_dir=data_dir, device=choose_device(device))
    gallery = Gallery(make_plan(setup), results)
    return Server(gallery, f"{setup.dataset.name}, image by image", port=port)


class Server(ThreadingHTTPServer):
    """Serves a gallery to this machine only."""

    daemon_threads = True

    def __init__(self, gallery: Gallery, title: str, *, port: int = 0) -> None:
        """Listen on a port; see `open_viewer`."""
        self.gallery = gallery
        self.page, self.policy = page(title, gallery.index())
        try:
            super().__init__((LOOPBACK, port), Handler)
        except OSError as error:
            raise RunError(
                f"--port: {port} is not available ({error.strerror}). Leave it out to use a free one."
            ) from error

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{LOOPBACK}:{self.server_port}/"

    @property
    def hosts(self) -> frozenset[str]:
        """Hosts that a request may name; any other comes from a foreign page that tries to read this one."""
        return frozenset(f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost"))


def page(title: str, index: Mapping[str, Any]) -> tuple[bytes, str]:
    """The page and its content security policy."""
    scripts = script_texts(*EXPLORER)
    text = environment().get_template("view.html.j2").render(title=title, index=index, scripts=scripts)
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; connect-src 'self'; "
        f"frame-ancestors 'none'; script-src {allowed(scripts)}"
    )
    return text.encode(), policy


class Handler(BaseHTTPRequestHandler):
    """Answers GET only."""

    server: Server
    server_version, sys_version = "medrobust", ""

    def do_GET(self) -> None:
        """Send the page or an image."""
        if self.headers.get("Host") not in self.server.hosts:
            self._say(HTTPStatus.FORBIDDEN, "This page is for this machine only.")
            return
        asked = urlsplit(self.path)
        if asked.path == "/":
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page)
        elif asked.path == "/frame":
            self._send_frame(asked.query)
        else:
            self._say(HTTPStatus.NOT_FOUND, "There is nothing here.")

    def _send_frame(self, query: str) -> None:
        try:
            shown = self.server.gallery.frame(**numbers(query))
        except (ValueError, IndexError) as error:
            self._say(HTTPStatus.BAD_REQUEST, str(error))
        except MedrobustError as error:
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        else:
            self._send(HTTPStatus.OK, "application/json", json.dumps(shown).encode())

    def _say(self, status: HTTPStatus, text: str) -> None:
        self._send(status, "text/plain; charset=utf-8", text.encode())

    def _send(self, status: HTTPStatus, media: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", media),
            ("Content-Length", str(len(content))),
            ("Content-Security-Policy", self.server.policy),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *values: Any) -> None:  # noqa: A002
        """Log nothing: nobody who looks at images wants a list of requests."""


def numbers(query: str) -> dict[str, int]:
    """The four numbers of a query.

    Raises:
        ValueError: One is missing, given twice, or not a number.
    """
    given = parse_qs(query, max_num_fields=len(NUMBERS))
    if given.keys() != set(NUMBERS):
        raise ValueError(f"asked for {', '.join(sorted(given)) or 'nothing'}; needs {', '.join(NUMBERS)}")
    for name, values in given.items():
        if len(values) != 1 or not re.fullmatch(rf"[0-9]{{1,{LONGEST_NUMBER}}}", values[0]):
            raise ValueError(f"{name} must be one whole number")
    return {name: int(values[0]) for name, values in given.items()}
