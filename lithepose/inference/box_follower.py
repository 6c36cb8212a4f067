"""Top-down estimation in videos: boxes follow people, and the detector runs only when it is needed."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np

from ..poses import Poses

LOST = 0.35  # mean score of the joints below which a person counts as lost
LIKELY = 0.9  # share of the lowest person score; detected people below it are not followed
RESIZE = 1.3  # largest change of a box's size since its detection, in either direction
# Least frames between two runs of the finder for a change outside of all boxes: a moving camera changes everything.
REST = 5
CELLS = 80  # along the longer side of the image; frames are compared cell by cell
CHANGE, CHANGED = 12.0, 4  # least change of a cell's mean colour, of 255; least number of changed cells
AROUND = 0.25  # margin around a box, relative to its size, in which changes are due to its person


class CropEstimator(Protocol):
    """The part of :class:`~lithepose.inference.top_down.TopDown` that :class:`BoxFollower` uses."""

    detect_every: int
    person: float

    @property
    def least(self) -> float:
        """Lowest score of a joint."""
        ...

    def find(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes and scores of people."""
        ...

    def on_boxes(
        self, image: np.ndarray, boxes: np.ndarray, scores: np.ndarray, small: bool = False
    ) -> tuple[Poses, np.ndarray]:
        """People in boxes, and the index of each person's box."""
        ...

    def sure(self, poses: Poses) -> Poses:
        """The people with a score that is high enough."""
        ...

    def estimate(self, images: list[np.ndarray]) -> list[Poses]:
        """People of images."""
        ...


class BoxFollower:
    """Finds the people in a video, frame by frame.

    The finder runs on every frame with a number that is a multiple of ``top_down.detect_every``, and on the frame after
    a person was lost. Later results depend only on that frame, so a video that is cut at such frames gives the same
    people as the whole video. If ``detect_every`` is above :data:`REST`, the finder also runs when the image changes
    outside of the people's boxes. In between, a person's crop is taken around the last detected box, moved and scaled
    as the joints have moved and spread since then. If the network was also trained on smaller crops, it gets those.

    Args:
        top_down: estimator to run.

    Attributes:
        detections: number of times the finder ran.
    """

    def __init__(self, top_down: CropEstimator) -> None:
        self.top_down, self.detections = top_down, 0
        self._since = self._index = 0
        self._lost = False
        self._detected: Poses | None = None  # people of the last detection; None: run the finder
        self._boxes = np.zeros((0, 4), np.float32)  # for the next frame, one per detected person
        self._scores, self._sure = np.zeros(0, np.float32), np.zeros(0, bool)
        self._cells = np.zeros((0, 0, 3), np.float32)  # reduced frame of the last detection
        self._known, self._longest = np.zeros((0, 4), np.float32), CELLS  # boxes and longer side of that frame

    def __call__(self, image: np.ndarray) -> Poses:
        """People of the next frame, (H, W, 3) uint8 RGB."""
        cells = _reduced(image)
        due = self._detected is None or self._lost or self._index % self.top_down.detect_every == 0
        self._index += 1
        if due or (self._since >= REST and self._changed(cells)):
            self.detections, self._lost = self.detections + 1, False
            boxes, scores = self.top_down.find(image)
            poses, number = self.top_down.on_boxes(image, boxes, scores)
            likely = np.flatnonzero(poses.person_score >= LIKELY * self.top_down.person)
            poses, number = poses[likely], number[likely]
            self._detected, self._scores = poses, scores[number]
            self._sure = self._mean_score(poses) >= LOST
            self._boxes, self._since = boxes[number], 1
            self._cells, self._known, self._longest = cells, boxes, max(image.shape[:2])
            return self.top_down.sure(poses)
        assert self._detected is not None
        poses, number = self.top_down.on_boxes(image, self._boxes, self._scores, small=True)
        self._since += 1
        # A person with a low score from the start is also followed, and cannot be lost.
        kept = number[(self._mean_score(poses) >= LOST) | ~self._sure[number]]
        if len(kept) < len(self._boxes):  # a person was lost, or two boxes follow one person
            self._lost = True
        follow = dict(zip(number.tolist(), range(len(poses)), strict=True))
        before = self._detected
        assert before.box is not None
        self._boxes = np.array(
            [
                moved_box(before.box[i], before.xy[i], before.score[i], poses.xy[follow[i]], poses.score[follow[i]])
                for i in np.sort(kept).tolist()
            ],
            np.float32,
        ).reshape(-1, 4)
        kept = np.sort(kept)
        self._detected, self._scores, self._sure = before[kept], self._scores[kept], self._sure[kept]
        return self.top_down.sure(poses)

    def _mean_score(self, poses: Poses) -> np.ndarray:
        """(N,) mean score of each person's found joints; guesses do not count."""
        score = np.where(poses.score >= self.top_down.least, poses.score, 0)
        return score.sum(1) / np.maximum((score > 0).sum(1), 1)

    def _changed(self, cells: np.ndarray) -> bool:
        """Whether the image has changed since the detection, outside of the current and the detected boxes."""
        if cells.shape != self._cells.shape:
            return True
        changed = np.abs(cells - self._cells).max(2) > CHANGE
        scale = CELLS / self._longest
        for x, y, w, h in np.concatenate([self._known, self._boxes]).tolist():
            left, top = int(max((x - AROUND * w) * scale, 0)), int(max((y - AROUND * h) * scale, 0))
            right, bottom = (max(int(end * scale) + 1, 0) for end in (x + (1 + AROUND) * w, y + (1 + AROUND) * h))
            changed[top:bottom, left:right] = False
        return int(changed.sum()) >= CHANGED


def _reduced(image: np.ndarray) -> np.ndarray:
    """(h, w, 3) float32 mean colours of an image's cells."""
    scale = CELLS / max(image.shape[:2])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)


def moved_box(
    box: np.ndarray, before: np.ndarray, before_score: np.ndarray, now: np.ndarray, now_score: np.ndarray
) -> np.ndarray:
    """Move and scale a box like the joints in it.

    Args:
        box: (4,) x, y, width, height in which the joints ``before`` were found.
        before: (K, 2) joints, NaN where not found.
        before_score: (K,), 0 where not found.
        now: (K, 2) likewise, in a later frame.
        now_score: (K,).

    Returns:
        (4,) x, y, width, height; the box contains all joints found now.
    """
    weight = np.minimum(before_score, now_score)[:, None]
    if not weight.any():
        return box
    first, second = (np.nan_to_num(xy) for xy in (before, now))
    centres = [(xy * weight).sum(0) / weight.sum() for xy in (first, second)]
    spreads = [
        float(np.sqrt((((xy - centre) ** 2) * weight).sum() / weight.sum()))
        for xy, centre in zip((first, second), centres, strict=True)
    ]
    scale = min(max(spreads[1] / spreads[0], 1 / RESIZE), RESIZE) if min(spreads) > 1 else 1.0
    middle = centres[1] + scale * (box[:2] + box[2:] / 2 - centres[0])
    low, high = middle - scale * box[2:] / 2, middle + scale * box[2:] / 2
    found = now[now_score > 0]
    low, high = np.minimum(low, found.min(0)), np.maximum(high, found.max(0))
    return np.concatenate([low, high - low])
