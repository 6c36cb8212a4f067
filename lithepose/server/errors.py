"""Error responses: a status, and json that says what is wrong and what to do."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..errors import ImageError, OutputError

LOG = logging.getLogger(__name__)
RETRY = {"Retry-After": "1"}


class RequestError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: HTTP status.
        message: what is wrong and what to do.
        headers: headers of the response.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


def as_refused(error: BaseException) -> RequestError:
    """The error as it is sent to a client."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, (ImageError, OutputError)):
        return RequestError(422, f"the image cannot be used: {error}")
    LOG.error("failed to process an image", exc_info=error)
    return RequestError(500, "the server failed to process this image; see its log")


def body(status: int, message: str) -> dict[str, dict[str, int | str]]:
    """The json of every error."""
    return {"error": {"status": status, "message": message}}


async def refused(_: Request, error: Exception) -> Response:
    """Handler of :class:`RequestError`."""
    assert isinstance(error, RequestError)
    return JSONResponse(body(error.status, error.message), error.status, error.headers)


async def not_served(request: Request, error: Exception) -> Response:
    """Handler of unknown endpoints and methods."""
    assert isinstance(error, HTTPException)
    known = "GET / is the web page; /openapi.json lists POST /v1/poses, POST /v1/draw, GET /v1/models and others"
    reason = {404: f"{request.url.path}: not found; {known}", 405: f"method {request.method} is not allowed here"}
    message = reason.get(error.status_code, str(error.detail))
    return JSONResponse(body(error.status_code, message), error.status_code, dict(error.headers or {}))
