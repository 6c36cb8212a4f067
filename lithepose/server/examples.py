"""Request bodies and responses for the OpenAPI description."""

from __future__ import annotations

from typing import Any

from ..skeleton import COCO_17

BINARY = {"type": "string", "format": "binary"}
FILES = {"type": "object", "properties": {"files": {"type": "array", "items": BINARY}}, "required": ["files"]}
IMAGES = {f"image/{kind}": {"schema": BINARY} for kind in ("jpeg", "png", "webp", "gif", "bmp", "tiff", "avif")}
FORM = {"multipart/form-data": {"schema": FILES}}

PERSON = {
    "score": 0.83,
    "box": [112.0, 40.5, 96.2, 311.0],
    "joints": {joint: [160.0 + i, 60.0 + 15 * i, 0.9] for i, joint in enumerate(COCO_17.joints)},
}
ANSWER = {"width": 640, "height": 480, "skeleton": "coco17", "people": [PERSON]}
ERROR = {"error": {"status": 413, "message": "the image has 10000x10000 pixels, more than 40,000,000; reduce it"}}


def _json(description: str, example: Any) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"example": example}}}


_REASONS = {
    400: "A parameter or a form that cannot be read.",
    401: "The token is missing or wrong.",
    408: "The body did not arrive in time.",
    413: "A body or an image that is too large.",
    415: "Not an image of a known kind.",
    421: "A host name that is not allowed.",
    422: "An image that cannot be decoded.",
    429: "All workers are busy; Retry-After says when to try again.",
    503: "No worker finished in time, or the server is shutting down.",
}
ERRORS: dict[int | str, dict[str, Any]] = {status: _json(reason, ERROR) for status, reason in _REASONS.items()}

POSES = {"requestBody": {"required": True, "content": IMAGES | FORM}}
POSES_ANSWERS = {
    200: _json("People of one image; for a form: results and errors, one item per image.", ANSWER),
    406: _json("Accept contains no known format.", ERROR),
    **ERRORS,
}
DRAW = {"requestBody": {"required": True, "content": IMAGES | FORM}}
DRAW_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The drawn image.", "content": {"image/jpeg": {"schema": BINARY}, "image/png": {}}},
    **ERRORS,
}
MODELS_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: _json(
        "The model.",
        {"loaded": {"name": "lithe", "joints": ["nose"], "edges": [[0, 1]]}, "embedded": ["lithe", "lithe_paf"]},
    )
}
FILE_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "An ONNX file.", "content": {"application/octet-stream": {"schema": BINARY}}},
    404: _json("No such file.", ERROR),
}
HEALTH_ANSWERS: dict[int | str, dict[str, Any]] = {200: _json("Yes.", {"status": "ok"}), 503: _json("No.", ERROR)}
