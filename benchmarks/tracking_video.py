"""Stability of ids in generated videos: people are cut out of photographs and moved past each other.

    python benchmarks/tracking_video.py --data DATA

Each of ten videos of 640x480 shows two to four people from validation images of Leeds Sports Pose Extended in which the
model finds the person (otherwise there is nothing to follow). Their boxes move to and fro over a plain background; near
people cover others. The model runs on every frame. A pose belongs to the person with the largest overlap of boxes. This
runs once with the tracker as it is, and once with a tracker that starts an id for every person found.

Then each person is shown alone: still, in noise, to measure the jitter after smoothing, and moving steadily, to measure
the lag behind the detections. Writes the table to ``--out``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from rich.progress import track

import lithepose
from lithepose.data.formats import open_dataset
from lithepose.media.sources import Frame
from lithepose.poses import Poses
from lithepose.timing import write_table
from lithepose.tracking.tracker import Following, Tracker

ROOT = Path(__file__).parent.parent
WIDTH, HEIGHT, RATE, FRAMES, VIDEOS = 640, 480, 30, 150, 10
HIDDEN = 10  # frames
STILL, START, NOISE = 60, 15, 8.0  # frames of a single person, first frames that do not count, and pixel noise
FIGURES = (
    *("people", "people in frames", "of these found", "of these with a number", "switches"),
    *("without a number for 10 frames or more", "of these with the same number after", "numbers"),
)
LIKE = 0.3  # lowest IoU of a pose's box with a person's


@dataclass
class Walker:
    """A person cut out of an image, who moves to and fro.

    Attributes:
        image: (h, w, 3).
        box: (4,) x, y, width, height of the joints in the image.
        start: initial left edge.
        top: upper edge.
        speed: pixels per frame.
    """

    image: np.ndarray
    box: np.ndarray
    start: float
    top: float
    speed: float

    def left(self, frame: int) -> int:
        """Left edge; the direction reverses at the sides."""
        room = WIDTH - self.image.shape[1]
        return round(room - abs((self.start + self.speed * frame) % (2 * room) - room))

    def place(self, frame: int) -> np.ndarray:
        """The person's box in the video."""
        return self.box + np.array([self.left(frame), self.top, 0, 0])


def overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of (N, 4) with (M, 4) boxes: (N, M)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], (others[:, :2] + others[:, 2:])[None])
    shared = np.prod((high - low).clip(0), 2)
    return shared / (np.prod(boxes[:, 2:], 1)[:, None] + np.prod(others[:, 2:], 1)[None] - shared)


def scene_of(walkers: list[Walker], frame: int) -> np.ndarray:
    """Draw a frame; the last person is the nearest."""
    scene = np.full((HEIGHT, WIDTH, 3), 114, np.uint8)
    for walker in walkers:
        h, w = walker.image.shape[:2]
        x, y = walker.left(frame), round(walker.top)
        scene[y : y + h, x : x + w] = walker.image
    return scene


def cut_outs(
    model: lithepose.Predictor | lithepose.TopDown, data: Path, wanted: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return images of people found by the model, and the boxes of their joints; all 200 to 300 pixels high."""
    dataset = open_dataset(data / "lspet-1.tar", "val", (data / "lspet-2.tar",))
    rng, found = np.random.default_rng(0), []
    for record in dataset.records:
        box = np.array(record.people[0]["bbox"])
        if box[3] < 1.5 * box[2]:  # roughly standing
            continue
        image = dataset.files.image(record.file_name)
        margin = 0.12 * box[3]
        x0, y0 = np.maximum(box[:2] - margin, 0).astype(int)
        x1, y1 = np.minimum(box[:2] + box[2:] + margin, image.shape[1::-1]).astype(int)
        scale = rng.uniform(200, 300) / (y1 - y0)
        image = cv2.resize(image[y0:y1, x0:x1], None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        box = np.concatenate([(box[:2] - (x0, y0)) * scale, box[2:] * scale])
        scene = np.full((HEIGHT, WIDTH, 3), 114, np.uint8)
        scene[100 : 100 + image.shape[0], 200 : 200 + image.shape[1]] = image
        poses = model(scene)
        if len(poses) and overlap(poses.boxes, (box + np.array([200, 100, 0, 0]))[None]).max() > 0.5:
            found.append((image, box))
        if len(found) == wanted:
            break
    return found


def follow(tracker: Tracker, video: list[Poses], walkers: list[Walker], count: dict[str, int]) -> None:
    """Add one video to the counts."""
    known, seen, ids = dict[int, int](), dict[int, int](), set[int]()
    for frame, found in enumerate(video):
        poses = tracker(found, frame / RATE)
        assert poses.id is not None
        ids |= set(poses.id[poses.id >= 0].tolist())
        like = overlap(poses.boxes, np.array([walker.place(frame) for walker in walkers]))
        count["people in frames"] += len(walkers)
        for _ in range(min(like.shape)):
            row, number = np.unravel_index(like.argmax(), like.shape)
            if like[row, number] < LIKE:
                break
            like[row], like[:, number] = -1, -1
            number, id = int(number), int(poses.id[row])
            count["of these found"] += 1
            if id < 0:
                continue
            count["of these with a number"] += 1
            if number in known:
                count["switches"] += known[number] != id
                if frame - seen[number] > HIDDEN:
                    count["without a number for 10 frames or more"] += 1
                    count["of these with the same number after"] += known[number] == id
            known[number], seen[number] = id, frame
    count["people"] += len(walkers)
    count["numbers"] += len(ids)


def alone(model: lithepose.Predictor, walker: Walker, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return joints of a single person, found in every frame and smoothed: (T, K, 2) each, NaN where not found."""
    rng, following, found, smooth = np.random.default_rng(0), Following(smooth=True), [], []
    for index in range(STILL):
        scene = scene_of([walker], index).astype(float)
        scene = (scene + rng.normal(0, noise, scene.shape)).clip(0, 255).astype(np.uint8)
        poses = model(scene)[:1]
        after = following(Frame(scene, "video", index, index / RATE, RATE), poses)
        nobody = np.full((len(poses.skeleton), 2), np.nan)
        found.append(poses.xy[0] if len(poses) else nobody)
        smooth.append(after.xy[0] if len(after) else nobody)
    return np.array(found)[START:], np.array(smooth)[START:]


def smoothing(model: lithepose.Predictor, people: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Return medians over people of the remaining jitter and of lags."""
    left, step_left, lags = [], [], []
    for image, box in track(people):
        found, smooth = alone(model, Walker(image, box, 300, 100, 0), NOISE)
        steady = np.isfinite(found).all((0, 2))  # joints found in every frame
        if steady.any():
            left.append(smooth[:, steady].std(0).mean() / found[:, steady].std(0).mean())
            step_left.append(np.diff(smooth[:, steady], axis=0).std() / np.diff(found[:, steady], axis=0).std())
        speed = 0.3 * box[3] / RATE
        found, smooth = alone(model, Walker(image, box, 640, 100, speed), NOISE)
        steady = np.isfinite(found).all((0, 2))
        if steady.any():  # the person moves to the left
            lags.append((smooth - found)[:, steady, 0].mean() / speed)
    names = "jitter left, about the mean", "jitter left, from frame to frame", "lag in frames at 0.3 lengths a second"
    return {k: round(float(np.median(v)), 2) for k, v in zip(names, (left, step_left, lags), strict=True)}


def main(data: Path, out: Path, model: str = "lithe_paf", size: int = 384) -> None:
    """Make the videos, follow the people and write the table.

    Args:
        data: folder with ``lspet-1.tar`` and ``lspet-2.tar``.
        model: model that finds the people.
        size: longer side of its input.
    """
    finder = lithepose.Predictor(model, size=size, threads=2)
    rng = np.random.default_rng(0)
    numbers = rng.integers(2, 5, VIDEOS)
    people = cut_outs(finder, data, int(numbers.sum()))
    everybody = list(people)
    trackers = {"as it is": {}, "begins with everybody": {"sure": 0.0, "certain": 0.0}}
    counts = {name: dict.fromkeys(FIGURES, 0) for name in trackers}
    for number in track(numbers):
        walkers = []
        for image, box in (people.pop() for _ in range(min(number, len(people)))):
            speed = rng.uniform(2, 7) * rng.choice([-1, 1])
            top = HEIGHT - image.shape[0] - rng.uniform(0, 100)
            walkers.append(Walker(image, box, rng.uniform(0, 2 * WIDTH), top, speed))
        video = [finder(scene_of(walkers, frame)) for frame in range(FRAMES)]
        for name, options in trackers.items():
            follow(Tracker(**options), video, walkers, counts[name])
    rows = [{"figure": figure} | {name: counts[name][figure] for name in trackers} for figure in FIGURES]
    rows += [
        {"figure": k, "as it is": v, "begins with everybody": ""} for k, v in smoothing(finder, everybody[:10]).items()
    ]
    write_table(out, rows)
    for row in rows:
        print(*row.values(), sep="  ")


if __name__ == "__main__":
    tyro.cli(main)
