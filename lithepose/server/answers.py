"""Results as response bodies."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np

from ..drawing import draw
from ..errors import ConfigError
from ..media.image import encode_image
from ..poses import Poses
from .errors import RequestError

Format = Literal["lithepose", "coco", "openpose"]
TYPES = {
    "application/json": "lithepose",
    "application/vnd.coco+json": "coco",
    "application/vnd.openpose+json": "openpose",
}


def chosen_format(asked: str | None, accept: str) -> str:
    """The format of a response: from the query, else from the header ``Accept``, else lithepose's own.

    Raises:
        RequestError: unknown format.
    """
    if asked:
        if asked not in get_args(Format):
            raise RequestError(400, f"unknown format={asked}; choose one of {', '.join(get_args(Format))}")
        return asked
    kinds = [part.split(";", 1)[0].strip().lower() for part in accept.split(",") if part.strip()]
    for kind in kinds:
        if kind in TYPES:
            return TYPES[kind]
        if kind in ("*/*", "application/*"):
            return "lithepose"
    if kinds:
        raise RequestError(406, f"Accept: {accept}: unknown type; choose one of {', '.join(TYPES)}")
    return "lithepose"


def as_json(format: str, number: int, name: str) -> Callable[[np.ndarray, Poses], Any]:
    """A function that turns the people of an image into plain values.

    Args:
        format: one of :data:`Format`.
        number: number of the image in its request, from 1; COCO's ``image_id``.
        name: name of the image, in COCO's results.
    """

    def finish(image: np.ndarray, poses: Poses) -> Any:
        if format == "openpose":
            try:
                return poses.to_openpose()
            except ConfigError as error:
                raise RequestError(400, f"format=openpose: {error}") from error
        if format == "coco":
            return [result | {"file_name": name} for result in poses.to_coco(number)]
        return poses.to_dict()

    return finish


def as_drawing(kind: str) -> Callable[[np.ndarray, Poses], bytes]:
    """A function that draws the people on their image and encodes it as ``.jpg`` or ``.png``."""
    return lambda image, poses: encode_image(kind, draw(image, poses, copy=False))


def joined(format: str, answers: list[tuple[str, Any]]) -> Any:
    """The response to a form: several images, each with its people or its error.

    Args:
        format: one of :data:`Format`.
        answers: (name of the image, people or RequestError) of each.
    """
    errors = [
        {"image": i, "name": name, "status": error.status, "message": error.message}
        for i, (name, error) in enumerate(answers, 1)
        if isinstance(error, RequestError)
    ]
    if format == "coco":
        whole = [result for _, found in answers if not isinstance(found, RequestError) for result in found]
        return {"annotations": whole, "errors": errors}
    results = [
        {"image": i, "name": name, **found}
        for i, (name, found) in enumerate(answers, 1)
        if not isinstance(found, RequestError)
    ]
    return {"results": results, "errors": errors}


def encoded(value: Any) -> bytes:
    """A value as json."""
    return json.dumps(value, separators=(",", ":")).encode()
