"""Running the server."""

from __future__ import annotations

import logging
from collections.abc import Callable

import uvicorn

from ..inference.load import load
from ..runtime.onnx import cores
from .app import create_app
from .config import LOOPBACK, ServeConfig
from .guard import TimedProtocol

LOG = logging.getLogger(__name__)
SHUTDOWN_SECONDS = 10
CONNECTIONS = 512


def serve(config: ServeConfig, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are answered.

    Args:
        config: limits and permissions.
        ready: told the address once requests are taken.
    """
    threads = max(1, cores() // config.workers)
    models = [load(config.model, threads=threads) for _ in range(config.workers)]
    app = create_app(config, models)
    if config.host not in LOOPBACK and not config.token:
        LOG.warning(
            "%s: other machines can reach this server, and no token is asked for; see --token-file", config.host
        )
    server = _Server(
        uvicorn.Config(
            app,
            host=config.host,
            port=config.port,
            http=TimedProtocol,
            ws_max_size=config.max_bytes,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            server_header=False,
            log_level="warning",
            access_log=False,
        ),
        ready,
    )
    server.run()


class _Server(uvicorn.Server):
    """Says where it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list | None = None) -> None:  # pyright: ignore[reportMissingTypeArgument]
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
