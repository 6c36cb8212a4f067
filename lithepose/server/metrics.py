"""Prometheus counters of one server."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

KNOWN = ("/", "/v1/poses", "/v1/draw", "/v1/stream", "/v1/models", "/healthz", "/readyz", "/metrics", "/openapi.json")


class Metrics:
    """The counters.

    Args:
        waiting: returns the number of requests that wait for a worker.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._all = CollectorRegistry()
        self.requests = Counter("lithepose_requests", "Requests", ("path", "status"), registry=self._all)
        self.seconds = Histogram("lithepose_request_seconds", "Time of requests", ("path",), registry=self._all)
        sizes = (1, 2, 4, 8)
        self.batches = Histogram("lithepose_batch_images", "Images run together", buckets=sizes, registry=self._all)
        self.people = Counter("lithepose_people", "People found", registry=self._all)
        self.frames = Counter("lithepose_stream_frames", "Frames of streams", ("outcome",), registry=self._all)
        self.streams = Gauge("lithepose_streams", "Open streams", registry=self._all)
        Gauge("lithepose_waiting", "Requests that wait", registry=self._all).set_function(waiting)

    def text(self) -> bytes:
        """The counters in Prometheus' format."""
        return generate_latest(self._all)


class Counted:
    """ASGI middleware that counts requests by path and status, and measures their times."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in KNOWN else "other"
        began, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - began)
