"""Top-down estimation in videos: boxes follow people, the detector runs only when it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .frames import Frame
from .poses import Poses

if TYPE_CHECKING:
    from .topdown import TopDown

LOST = 0.35  # mean score of the joints below which a person counts as lost
RESIZE = 1.3  # largest change of a box's size since it was detected, either way


class BoxFollower:
    """Finds the people of a video frame after frame.

    The finder runs on the first frame, at least every ``top_down.detect_every`` frames, and on the frame after somebody
    was lost. Between, a person's crop is around the last detected box, moved and scaled as the joints have moved and
    spread since that frame.

    Args:
        top_down: what to run.

    Attributes:
        detections: how often the finder ran.
    """

    def __init__(self, top_down: TopDown) -> None:
        self.top_down, self.detections = top_down, 0
        self._source, self._since = "", 0
        self._detected: Poses | None = None  # people of the frame in which the finder ran last; None: run it
        self._boxes = np.zeros((0, 4), np.float32)  # for the next frame, one for each of the detected
        self._scores = np.zeros(0, np.float32)

    def estimate(self, frame: Frame) -> Poses:
        """People of the next frame of a call; every video begins anew, and an image uses nothing before it."""
        if frame.index is None:
            return self.top_down.estimate([frame.image])[0]
        if frame.index == 0 or frame.source != self._source:
            self._detected, self._source = None, frame.source
        return self(frame.image)

    def __call__(self, image: np.ndarray) -> Poses:
        """People of the next frame, (H, W, 3) uint8 RGB."""
        if self._detected is None or self._since >= self.top_down.detect_every:
            self.detections += 1
            boxes, scores = self.top_down.find(image)
            poses, number = self.top_down.on_boxes(image, boxes, scores)
            self._detected, self._scores = poses, scores[number]
            self._boxes, self._since = boxes[number], 1
            return poses
        poses, number = self.top_down.on_boxes(image, self._boxes, self._scores)
        self._since += 1
        kept = number[mean_score(poses) >= LOST]
        if len(kept) < len(self._boxes):  # somebody was lost, or two boxes follow one person
            self._since = self.top_down.detect_every
        follow = dict(zip(number.tolist(), range(len(poses)), strict=True))
        before = self._detected
        assert before.box is not None
        self._boxes = np.array(
            [
                moved_box(before.box[i], before.xy[i], before.score[i], poses.xy[follow[i]], poses.score[follow[i]])
                for i in sorted(kept.tolist())
            ],
            np.float32,
        ).reshape(-1, 4)
        self._detected, self._scores = before[sorted(kept.tolist())], self._scores[np.sort(kept)]
        return poses


def mean_score(poses: Poses) -> np.ndarray:
    """(N,) mean score of the joints found of each person."""
    return poses.score.sum(1) / np.maximum(poses.found.sum(1), 1)


def moved_box(
    box: np.ndarray, before: np.ndarray, before_score: np.ndarray, now: np.ndarray, now_score: np.ndarray
) -> np.ndarray:
    """A box moved and scaled as the joints in it.

    Args:
        box: (4,) x, y, width, height in which the joints ``before`` were found.
        before: (K, 2) joints, NaN where not found.
        before_score: (K,), 0 where not found.
        now: (K, 2) likewise, in a later frame.
        now_score: (K,).

    Returns:
        (4,) x, y, width, height; at least around all joints found now.
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
