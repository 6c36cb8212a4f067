"""lithepose serve"""

from __future__ import annotations

import contextlib
from pathlib import Path

from ..errors import ConfigError
from .calls.console import OK, err_console, missing


def serve(
    host: str = "127.0.0.1",
    port: int = 8000,
    model: str = "lithe",
    workers: int = 1,
    token_file: Path | None = None,
    origin: tuple[str, ...] = (),
    browser_runtime: Path | None = None,
    max_megabytes: float = 20.0,
    max_megapixels: float = 40.0,
    waiting: int = 64,
    seconds: float = 30.0,
) -> int:
    """Serve a web page and an endpoint that find people in images, until Ctrl-C or SIGTERM.

    Images stay in memory and are never written to a disk or log. docs/serving.md describes the endpoints.

    Examples:
        lithepose serve
        lithepose serve --port 9000 --workers 2
        lithepose serve --host 0.0.0.0 --token-file token.txt

    Args:
        host: address to listen on. Other machines can reach the server unless it is a loopback address.
        port: port to listen on; 0 selects a free port.
        model: name or file of the model.
        workers: threads that run the model; they share the processor's cores.
        token_file: file with a token in its first line, which requests must send (Authorization: Bearer TOKEN).
        origin: web pages of other servers that may use this one, such as https://example.org.
        browser_runtime: folder dist of npm's onnxruntime-web, so that the page can run the model in the browser.
        max_megabytes: largest request, in megabytes.
        max_megapixels: largest image, in megapixels.
        waiting: number of requests that may wait; further ones are refused (429).
        seconds: time limit for receiving a request, and for its response.
    """
    try:
        from ..server.config import ServeConfig, read_token
        from ..server.serve import serve as run
    except ImportError as error:
        raise missing("serve", "serve", error) from error
    if not (0 < max_megabytes <= 1000 and 0 < max_megapixels <= 1000):
        raise ConfigError(
            f"--max-megabytes {max_megabytes}, --max-megapixels {max_megapixels}: must be above 0 and at most 1000"
        )
    config = ServeConfig(
        host=host,
        port=port,
        model=model,
        workers=workers,
        token=read_token(token_file) if token_file else "",
        origins=origin,
        browser_runtime=browser_runtime,
        waiting=waiting,
        max_bytes=round(max_megabytes * 1e6),
        max_pixels=round(max_megapixels * 1e6),
        seconds=seconds,
    )
    with contextlib.suppress(KeyboardInterrupt):  # the usual way to end a server
        run(config, lambda address: err_console.print(f"lithepose serves at {address}", highlight=False))
    return OK
