"""A server whose estimator needs no model: one person, whose joints tell the image's mean colour."""

import copy
import threading

import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient

from lithepose.errors import ImageError
from lithepose.heads.pafs import COCO_HEAD
from lithepose.inference.estimator import Estimator, Pipeline
from lithepose.poses import Poses
from lithepose.server.app import create_app
from lithepose.server.config import ServeConfig
from lithepose.skeleton import COCO_17


class Stub(Estimator):
    """Waits for ``gate`` before it answers; images of pure red fail, pure blue ones break the model.

    ``begun`` is set when the first call has begun.
    """

    head = COCO_HEAD
    single_person = False
    guessed = 0.0
    lowest = 0.3

    def __init__(self) -> None:
        self.gate, self.begun, self.calls, self.peak = threading.Event(), threading.Event(), [], 0.9
        self.gate.set()

    def estimate(self, images):
        self.begun.set()
        self.gate.wait(20)
        self.calls.append(len(images))
        return [self._one(image) for image in images]

    def _one(self, image):
        colour = image.reshape(-1, 3).mean(0)
        if colour[2] > 250 and colour[:2].max() < 5:
            raise RuntimeError("secret detail")
        if colour[0] > 250 and colour[1:].max() < 5:
            raise ImageError("too red")
        height, width = image.shape[:2]
        xy = np.full((1, 17, 2), colour.mean(), np.float32) + np.arange(17, dtype=np.float32)[:, None]
        score = np.full((1, 17), self.peak, np.float32)
        return Poses(xy, score, np.array([0.5], np.float32), COCO_17, (width, height))

    def pipeline(self):
        return Pipeline.whole(lambda frame: self.estimate([frame.image])[0])

    def with_config(self, **changes):
        other = copy.copy(self)
        other.peak = changes["peak"]
        return other


def encoded(value=(90, 90, 90), size=(64, 48), suffix=".png"):
    """An image of one colour, RGB."""
    image = np.full((size[1], size[0], 3), value[::-1], np.uint8)
    return cv2.imencode(suffix, image)[1].tobytes()


@pytest.fixture
def start():
    """Makes a client of a server with a stub; the configuration is named."""
    clients = []

    def make(model=None, **config):
        client = TestClient(create_app(ServeConfig(**config), [model or Stub()]), base_url="http://127.0.0.1:8000")
        client.__enter__()
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.__exit__(None, None, None)
