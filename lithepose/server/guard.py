"""Checks who may send requests, sets headers of all responses, and closes slow connections."""

from __future__ import annotations

import json
import secrets
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from .config import ServeConfig
from .errors import body

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; style-src 'self';"
        " img-src 'self' blob: data:; media-src blob:; connect-src 'self'; manifest-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",  # with the line before, allows threads in the browser
    "Cache-Control": "no-store",
}
OPEN = ("/healthz", "/readyz", "/openapi.json", "/", "/static/", "/ort/")  # without a token
HEADER_SECONDS = 10.0  # for all headers of a request


class Guard:
    """ASGI middleware that checks host names, tokens and origins of streams, and sets :data:`HEADERS`."""

    def __init__(self, app: ASGIApp, config: ServeConfig) -> None:
        self.app, self.config = app, config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        status, message = self._objection(scope, Headers(scope=scope))
        if not status:
            await self.app(scope, receive, protected)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": message})
        else:
            content = json.dumps(body(status, message)).encode()
            found = [(b"content-type", b"application/json"), (b"connection", b"close")]
            found += [(b"www-authenticate", b"Bearer")] if status == 401 else []
            await protected({"type": "http.response.start", "status": status, "headers": found})
            await protected({"type": "http.response.body", "body": content})

    def _objection(self, scope: Scope, headers: Headers) -> tuple[int, str]:
        """Status and message of a refusal; 0 for none."""
        host = _host(headers.get("host", ""))
        if self.config.hosts and host not in self.config.hosts:
            return 421, f"host {host!r} is not allowed; use one of {', '.join(sorted(self.config.hosts))}"
        if scope["type"] == "websocket" and not self._is_own(headers):
            return 403, "pages of this origin may not open streams; allow the origin with --origin"
        path = scope["path"]
        free = any(path == known or (known.endswith("/") and known != "/" and path.startswith(known)) for known in OPEN)
        # A browser's preflight request has no token; its response holds no data.
        asks = scope.get("method") == "OPTIONS"
        if (
            self.config.token
            and not free
            and not asks
            and not secrets.compare_digest(_token(headers), self.config.token)
        ):
            return 401, "missing or wrong token; send the server's token as Authorization: Bearer TOKEN"
        return 0, ""

    def _is_own(self, headers: Headers) -> bool:
        """Whether a stream is opened by this server's own page, by an allowed page, or by no page."""
        origin = headers.get("origin")
        return origin is None or origin in self.config.origins or origin.split("://", 1)[-1] == headers.get("host")


def _host(header: str) -> str:
    """The name in a ``Host`` header, without the port."""
    name = header.partition("]")[0] + "]" if header.startswith("[") else header.partition(":")[0]
    return name.strip("[]").lower()


def _token(headers: Headers) -> str:
    """The token of a request: from Authorization or, for streams of browsers, from the protocol ``bearer.TOKEN``."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip().encode("ascii", "replace").decode()
    asked = [name.strip() for name in headers.get("sec-websocket-protocol", "").split(",")]
    found = next((name.removeprefix("bearer.") for name in asked if name.startswith("bearer.")), "")
    return found.encode("ascii", "replace").decode()


class TimedProtocol(H11Protocol):
    """HTTP/1.1 with a time limit of :data:`HEADER_SECONDS` for the headers of a request."""

    _late: Any = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before and self._late:
            self._late.cancel()

    def on_response_complete(self) -> None:
        before = self.cycle
        super().on_response_complete()
        if self.cycle is before:  # else the next request has already begun
            self._wait()

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._late.cancel()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        self._late.cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._late:
            self._late.cancel()
        self._late = self.loop.call_later(HEADER_SECONDS, self.transport.close)
