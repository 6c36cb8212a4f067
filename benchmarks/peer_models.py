"""Networks of other projects with one interface: from an image to people with COCO's 17 joints.

Each is read from a file of the user; nothing is downloaded. The form of the outputs determines the network.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

import lithepose
from lithepose.errors import ModelError
from lithepose.geometry import apply, crop_matrix, invert
from lithepose.runtime.onnx import open_session
from lithepose.skeleton import COCO_17

Find = Callable[[np.ndarray], lithepose.Poses]

JOINTS = 17
UNSURE = 0.05  # lowest score of a person for average precision
OVERLAP = 0.65  # overlap above which two boxes are one person
GREY = 114
MEAN, STD = np.array([[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]], np.float32)
CROP = 256, 192  # default if the file does not state it
DOUBLED = 2.0  # cells per pixel of coordinate classification (SimCC)


def poses_of(xy: np.ndarray, score: np.ndarray, person: np.ndarray, image: np.ndarray) -> lithepose.Poses:
    """Convert (N, 17, 2) pixels, (N, 17) scores and (N,) scores to poses."""
    shape = (-1, JOINTS)
    xy, score = xy.reshape(*shape, 2).astype(np.float32), score.reshape(shape).astype(np.float32).clip(0, 1)
    size = image.shape[1], image.shape[0]
    return lithepose.Poses(xy, score, person.astype(np.float32).clip(0, 1), COCO_17, size)


def letterboxed(image: np.ndarray, height: int, width: int) -> tuple[np.ndarray, float, float, float]:
    """Place the image in the centre of a grey one; also returns scale, left and top."""
    scale = min(height / image.shape[0], width / image.shape[1])
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    canvas = np.full((height, width, 3), GREY, np.uint8)
    canvas[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return canvas, scale, left, top


def yolo(path: Path, threads: int, side: int) -> Find:
    """YOLO-pose of any version: rows of box, score and joints, before or after removal of duplicates.

    Before it, the output is (1, 56, N) with centres and sizes; after it, (1, N, 57) with corners and a class.
    """
    session = open_session(path, threads)
    asked = session.get_inputs()[0]
    height, width = (n if isinstance(n, int) else side for n in asked.shape[2:4])

    def find(image: np.ndarray) -> lithepose.Poses:
        canvas, scale, left, top = letterboxed(image, height, width)
        x = np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], np.float32) / 255
        (out,) = session.run(None, {asked.name: x})[:1]
        rows = np.asarray(out)[0]
        done = rows.shape[-1] == 6 + 3 * JOINTS
        rows = rows if done else rows.T
        rows = rows[rows[:, 4] >= UNSURE]
        joints = rows[:, 6 if done else 5 :].reshape(-1, JOINTS, 3)
        if not done and len(rows):
            corner = rows[:, :2] - rows[:, 2:4] / 2
            boxes = np.concatenate([corner, rows[:, 2:4]], 1)
            kept = np.asarray(cv2.dnn.NMSBoxes(boxes.tolist(), rows[:, 4].tolist(), UNSURE, OVERLAP), int).ravel()
            rows, joints = rows[kept], joints[kept]
        xy = (joints[..., :2] - (left, top)) / scale
        return poses_of(xy, joints[..., 2], rows[:, 4], image)

    return find


def simcc(path: Path, threads: int, boxes: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Find:
    """RTMPose and other classifiers of coordinates: a crop of each person to scores along x and along y.

    Args:
        path: file of the network.
        threads: threads of the network.
        boxes: finds people: (N, 4) x, y, width, height and their scores (N,).
    """
    session = open_session(path, threads)
    asked = session.get_inputs()[0]
    height, width = (n if isinstance(n, int) else usual for n, usual in zip(asked.shape[2:4], CROP, strict=True))

    def find(image: np.ndarray) -> lithepose.Poses:
        where, sure = boxes(image)
        matrices = [crop_matrix(box, (height, width)).astype(np.float32) for box in where]
        if not matrices:
            return poses_of(np.zeros(0), np.zeros(0), np.zeros(0), image)
        crops = np.stack([cv2.warpAffine(image, m, (width, height), flags=cv2.INTER_LINEAR) for m in matrices])
        x = np.ascontiguousarray(((crops - MEAN) / STD).transpose(0, 3, 1, 2), np.float32)
        along_x, along_y = (np.asarray(out) for out in session.run(None, {asked.name: x})[:2])
        at = np.stack([along_x.argmax(2), along_y.argmax(2)], 2) / DOUBLED
        score = np.minimum(along_x.max(2), along_y.max(2))
        xy = np.stack([apply(invert(matrix), points) for matrix, points in zip(matrices, at, strict=True)])
        return poses_of(xy, score, sure * score.clip(0, 1).mean(1), image)

    return find


def movenet(path: Path, threads: int) -> Find:
    """MoveNet for one person, with LiteRT: (1, 1, 17, 3) of y, x and score, relative to a square.

    Raises:
        ModelError: LiteRT is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ModelError(f"{path}: needs LiteRT: pip install ai-edge-litert ({error})") from error
    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    asked, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    height, width = asked["shape"][1:3]

    def find(image: np.ndarray) -> lithepose.Poses:
        canvas, scale, left, top = letterboxed(image, height, width)
        interpreter.set_tensor(asked["index"], canvas[None].astype(asked["dtype"]))
        interpreter.invoke()
        rows = interpreter.get_tensor(given["index"]).reshape(JOINTS, 3)
        xy = (rows[:, 1::-1] * (width, height) - (left, top)) / scale
        return poses_of(xy[None], rows[None, :, 2], rows[None, :, 2].mean(1), image)

    return find


def open_peer(path: Path, threads: int, side: int = 640, detector: str = "person_detector") -> Find:
    """Open a network by its file: ``.tflite`` is MoveNet, ``.onnx`` is YOLO-pose with one output or RTMPose with two.

    Args:
        path: file of the network.
        threads: threads of the network.
        side: input size of a YOLO with dynamic size.
        detector: person detector for RTMPose.

    Raises:
        ModelError: the outputs have another form.
    """
    if path.suffix.lower() == ".tflite":
        return movenet(path, threads)
    outputs = open_session(path, threads).get_outputs()
    if len(outputs) == 2:
        finder = lithepose.PersonDetector(detector, threads=threads)

        def boxes(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            found = finder(image)
            return found.xywh, found.score

        return simcc(path, threads, boxes)
    wide = [n for n in outputs[0].shape if n in (5 + 3 * JOINTS, 6 + 3 * JOINTS)]
    if not wide:
        raise ModelError(
            f"{path}: outputs of shape {outputs[0].shape} match neither YOLO-pose nor RTMPose with {JOINTS} joints"
        )
    return yolo(path, threads, side)
