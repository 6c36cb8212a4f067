"""Configuration of the server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, MissingFileError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ServeConfig:
    """Limits and permissions of the server.

    Attributes:
        host: address to listen on.
        port: port to listen on; 0 selects a free port.
        model: name or file of the model.
        workers: threads that run the model; each has its own copy of the model.
        token: token that requests must send; empty if none is needed.
        browser_runtime: folder ``dist`` of npm's onnxruntime-web, to run the model in the browser; None if it is not
            offered.
        origins: web pages of other servers that may use this one (CORS), such as https://example.org.
        waiting: maximum number of requests that wait for a worker.
        streams: maximum number of streams that are open at once.
        max_bytes: largest size of a request's body, or of a frame of a stream.
        max_pixels: largest number of pixels of an image.
        max_images: largest number of images in a request.
        seconds: time limit for receiving a request, and for its response.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    model: str = "lithe"
    workers: int = 1
    token: str = ""
    browser_runtime: Path | None = None
    origins: tuple[str, ...] = ()
    waiting: int = 64
    streams: int = 64
    max_bytes: int = 20_000_000
    max_pixels: int = 40_000_000
    max_images: int = 16
    seconds: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port {self.port}: must be 0 to 65535")
        for name in ("workers", "waiting", "streams", "max_bytes", "max_pixels", "max_images"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name.replace('_', '-')} {getattr(self, name)}: must be 1 or more")
        if not self.seconds > 0:
            raise ConfigError(f"seconds {self.seconds}: must be above 0")
        if wrong := [o for o in self.origins if not o.startswith(("http://", "https://")) or o.endswith("/")]:
            raise ConfigError(
                f"origin {wrong[0]}: must start with http:// or https:// and not end with /, such as https://example.org"
            )

        if self.browser_runtime and not (self.browser_runtime / "ort.wasm.min.mjs").is_file():
            message = "contains no ort.wasm.min.mjs; pass the dist folder of npm's onnxruntime-web"
            raise ConfigError(f"--browser-runtime {self.browser_runtime}: {message}")

    @property
    def hosts(self) -> frozenset[str]:
        """Host names that requests may use for the server; empty for any.

        On a loopback address, other names are refused, so that a web page cannot reach the server by its own host name.
        """
        return frozenset(LOOPBACK) if self.host in LOOPBACK else frozenset()


def read_token(path: Path) -> str:
    """The first line of a token file.

    Raises:
        MissingFileError: no such file.
        ConfigError: a token of fewer than 16 characters, or with characters other than letters, digits and ``-._~``.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MissingFileError(f"--token-file {path}: cannot be read ({error})") from error
    token = (text.splitlines() or [""])[0].strip()
    plain = token.isascii() and all(c.isalnum() or c in "-._~" for c in token)
    if len(token) < 16 or not plain:
        raise ConfigError(
            f"--token-file {path}: the first line must contain 16 or more characters, only letters, digits and -._~"
        )
    return token
