"""Request bodies: read within limits, and kept only in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from ..errors import ImageError
from .config import ServeConfig
from .errors import RETRY, RequestError
from .images import image_size


class Budget:
    """Limits the bytes of request bodies that are in memory at once.

    Args:
        limit: limit for all requests together.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.held = limit, 0

    @contextmanager
    def hold(self) -> Iterator[Callable[[int], None]]:
        """A function that counts the bytes of one request, until it is answered.

        Raises:
            RequestError: there are too many bytes.
        """
        own = 0

        def take(count: int) -> None:
            nonlocal own
            if self.held + count > self.limit:
                raise RequestError(429, "too many request bodies are in memory; try again", RETRY)
            own, self.held = own + count, self.held + count

        try:
            yield take
        finally:
            self.held -= own


async def read_images(
    request: Request, config: ServeConfig, take: Callable[[int], None]
) -> tuple[list[tuple[str, bytes]], bool]:
    """The images of a request: its body, or the files of a form.

    Returns:
        (name, encoded image) of each; and whether the body is a form, which may hold several.

    Raises:
        RequestError: too large, too slow, empty, or not a readable form.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    try:
        data = await asyncio.wait_for(_read(request, config.max_bytes, take), config.seconds)
    except TimeoutError as error:
        raise RequestError(
            408, f"the body did not arrive within {config.seconds:g} s", {"Connection": "close"}
        ) from error
    except ClientDisconnect as error:
        raise RequestError(400, "the client disconnected") from error
    if kind != b"multipart/form-data":
        if not data:
            raise RequestError(400, "the body is empty; send the bytes of an image, or a form with files")
        return [("", data)], False
    files = await asyncio.to_thread(form_files, data, options.get(b"boundary", b""), config.max_images)
    if not files:
        raise RequestError(400, "the form contains no file; send at least one image")
    return files, True


async def _read(request: Request, limit: int, take: Callable[[int], None]) -> bytes:
    stated = request.headers.get("content-length", "")
    refusal = RequestError(413, f"the body is larger than {limit:,} bytes; reduce the images", {"Connection": "close"})
    if stated.isdecimal() and int(stated) > limit:
        raise refusal
    parts, size = list[bytes](), 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise refusal
        take(len(part))
        parts.append(part)
    return b"".join(parts)


def form_files(data: bytes, boundary: bytes, most: int) -> list[tuple[str, bytes]]:
    """The files of a ``multipart/form-data`` body: (name, content) of each, at most ``most``.

    Raises:
        RequestError: not a form, or too many parts or files.
    """
    files, header, field = list[tuple[str, bytearray]](), bytearray(), bytearray()
    disposition, parts = b"", 0
    into: bytearray | None = None

    def begin() -> None:
        nonlocal disposition, into
        disposition, into = b"", None

    def end_header() -> None:
        nonlocal disposition
        if field.lower() == b"content-disposition":
            disposition = bytes(header)
        field.clear()
        header.clear()

    def end_headers() -> None:
        nonlocal into
        nonlocal parts
        parts += 1
        if parts > 4 * most:
            raise RequestError(413, f"the form has more than {4 * most} parts; send at most {most} images")
        _, options = parse_options_header(disposition)
        if b"filename" in options:
            if len(files) == most:
                raise RequestError(413, f"the form contains too many files; send at most {most}")
            into = bytearray()
            files.append((options[b"filename"].decode("utf-8", "replace"), into))

    def content(chunk: bytes, start: int, end: int) -> None:
        if into is not None:
            into.extend(chunk[start:end])

    callbacks: Any = {
        "on_part_begin": begin,
        "on_header_field": lambda chunk, start, end: field.extend(chunk[start:end]),
        "on_header_value": lambda chunk, start, end: header.extend(chunk[start:end]),
        "on_header_end": end_header,
        "on_headers_finished": end_headers,
        "on_part_data": content,
    }
    ended = False

    def finish() -> None:
        nonlocal ended
        ended = True

    callbacks["on_end"] = finish
    try:
        parser = MultipartParser(boundary, callbacks)
        parser.write(data)
        parser.finalize()
    except RequestError:
        raise
    except Exception as error:  # the parser has its own errors, and also lets others through
        raise RequestError(400, f"the form cannot be read ({error}); send multipart/form-data") from error
    if not ended:
        raise RequestError(400, "the form ends early; send it again")
    return [(name, bytes(file)) for name, file in files]


def checked_pixels(data: bytes, config: ServeConfig) -> int:
    """Number of pixels of an encoded image, from its header.

    Raises:
        RequestError: not an image of a known kind, or too large.
    """
    if not data:
        raise RequestError(422, "the image is empty; send the complete file")
    try:
        width, height = image_size(data)
    except ImageError as error:
        raise RequestError(415, str(error)) from error
    if width * height > config.max_pixels:
        message = f"the image has {width}x{height} pixels, more than {config.max_pixels:,}; reduce it"
        raise RequestError(413, message)
    return width * height
