"""The page of `medscroll watch --web` and the Prometheus endpoint, by the standard library's server.

    GET /                page with the newest snapshot inside         GET /data?after=N    newer snapshot, or 204
    GET /metrics         Prometheus text (the server of `--prometheus`)

Only these; every other method is refused, nothing is written and nothing outside is asked. The server binds to
localhost; bound elsewhere it asks for a token. Requests that name a foreign host (DNS rebinding) are refused.
"""

from __future__ import annotations

import errno
import gzip
import hmac
import ipaddress
import json
import secrets
import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from medscroll.errors import ConfigError
from medscroll.monitor.follow import Follower
from medscroll.monitor.page_html import page, policy

DEFAULT_PORT, TRIES = 8765, 20
PLAIN = "text/plain; charset=utf-8"
Answer = tuple[int, str, bytes]
Route = Callable[[dict[str, list[str]]], Answer]


class Server(ThreadingHTTPServer):
    """An HTTP server that knows whom it answers.

    Attributes:
        token: what a request must bring; None where the server is bound to this machine only.
        routes: path -> what answers it, given the query.
    """

    daemon_threads = True
    token: str | None = None
    routes: dict[str, Route]
    hosts: frozenset[str] = frozenset()

    @property
    def url(self) -> str:
        """The address to open, with the token where one is needed."""
        return self.address("")

    def address(self, path: str) -> str:
        """The address of a path of this server."""
        host = str(self.server_address[0])
        shown = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self.server_port}/{path}" + (f"?token={self.token}" if self.token else "")


class _Server6(Server):
    address_family = socket.AF_INET6


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD from the server's routes."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "medscroll"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        """Answer, if the request may ask."""
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        refused = self._refused(query)
        if refused is not None:
            self._send(refused)
            return
        route = self.server.routes.get(parts.path)
        self._send(route(query) if route else (404, PLAIN, b"no such page\n"))

    do_HEAD = do_GET

    def _refused(self, query: dict[str, list[str]]) -> Answer | None:
        if self.server.token is None:
            host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
            if host not in self.server.hosts and not is_loopback(host):
                return 403, PLAIN, b"this server answers to localhost only\n"
            return None
        header = self.headers.get("Authorization", "")
        given = header[7:] if header.startswith("Bearer ") else (query.get("token") or [""])[0]
        if hmac.compare_digest(given.encode(), self.server.token.encode()):
            return None
        return 401, PLAIN, b"give the token: the address that was printed ends in ?token=...\n"

    def _send(self, answer: Answer) -> None:
        status, kind, body = answer
        packed = len(body) > 1024 and "gzip" in self.headers.get("Accept-Encoding", "")
        body = gzip.compress(body, 1) if packed else body
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        if packed:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", policy(connect=True))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a request may carry the token."""


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def make_server(follower: Follower, host: str, port: int | None, token: str | None = None) -> Server:
    """The server of the page; it listens when this returns. See `listen` for the arguments and errors."""

    def index(query: dict[str, list[str]]) -> Answer:
        view = follower.view()
        assert view is not None
        return 200, "text/html; charset=utf-8", page(view, live=True).encode()

    def data(query: dict[str, list[str]]) -> Answer:
        after = (query.get("after") or [""])[0]
        view = follower.view(int(after) if after.isascii() and after.isdigit() else -1)
        if view is None:
            return 204, "", b""
        body = json.dumps({**view, "live": True}, allow_nan=False, separators=(",", ":"))
        return 200, "application/json", body.encode()

    return listen(host, port, {"/": index, "/data": data}, token, flag="--port")


def listen(host: str, port: int | None, routes: dict[str, Route], token: str | None, flag: str) -> Server:
    """A server on `host`.

    Args:
        host: an address of this machine.
        port: the port, 0 for any; None takes the first free one from `DEFAULT_PORT` on.
        routes: path -> answer.
        token: asked for on every request; None makes one up where `host` can be reached from elsewhere.
        flag: the flag that gives the port, for the message.

    Raises:
        ConfigError: the port is in use or not allowed, or the address is none of this machine.
    """
    for candidate in range(DEFAULT_PORT, DEFAULT_PORT + TRIES) if port is None else [port]:
        try:
            server = (_Server6 if ":" in host else Server)((host, candidate), Handler)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and port is None:
                continue
            what = f"cannot listen on {host} port {candidate}: {error.strerror or error}"
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                raise ConfigError(what, where=flag, remedy=f"another {flag}, from 1024 on") from None
            remedy = "an address of this machine, such as 127.0.0.1 or 0.0.0.0"
            raise ConfigError(what, where="--bind", remedy=remedy) from None
        server.routes = routes
        server.token = token or (None if is_loopback(host) else secrets.token_urlsafe(18))
        server.hosts = frozenset({host})
        return server
    last = DEFAULT_PORT + TRIES - 1
    raise ConfigError(f"ports {DEFAULT_PORT} to {last} are all in use", where=flag, remedy=f"give a free one: {flag} N")
