"""Runs the server."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from ..errors import ConfigError
from ..inference.load import load
from ..runtime.onnx import cores
from .app import create_app
from .config import LOOPBACK, ServeConfig
from .guard import TimedProtocol

LOG = logging.getLogger(__name__)
SHUTDOWN_SECONDS = 10
CONNECTIONS = 512


def serve(config: ServeConfig, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; requests in progress are answered.

    Args:
        config: limits and permissions.
        ready: called with the address once requests are accepted.

    Raises:
        ConfigError: the address cannot be used, or there is no such model.
    """
    with _listen(config) as listening:  # before the models, which take longer
        threads = max(1, cores() // config.workers)
        models = [load(config.model, threads=threads) for _ in range(config.workers)]
        _server(create_app(config, models), config, ready).run(sockets=[listening])


def _server(app: FastAPI, config: ServeConfig, ready: Callable[[str], None]) -> uvicorn.Server:
    if config.host not in LOOPBACK and not config.token:
        LOG.warning("%s: other machines can reach this server without a token; set one with --token-file", config.host)
    return _Server(
        uvicorn.Config(
            app,
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


def _listen(config: ServeConfig) -> socket.socket:
    """A socket that listens at the address.

    Raises:
        ConfigError: the address is in use, or does not belong to this machine.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        return socket.create_server((config.host, config.port), family=family, backlog=CONNECTIONS)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {config.host}, port {config.port} ({error.strerror}); choose another host or port"
        ) from error


class _Server(uvicorn.Server):
    """Reports the address that it listens on."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list | None = None) -> None:  # pyright: ignore[reportMissingTypeArgument]
        await super().startup(sockets)
        if self.started:
            host, port = (sockets or [])[0].getsockname()[:2]
            self._ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
