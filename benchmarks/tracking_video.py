"""How well people keep their ids in videos of pixels: photographed people cut out and moved past each other.

    python benchmarks/tracking_video.py --data DATA

Ten videos of 640x480 with two to four people each, from the validation images of Leeds Sports Pose Extended in which
the model finds the person (where it does not there is nothing to follow): their boxes slide to and fro over a plain
ground, the nearer ones before the others. The model looks at every frame; a pose belongs to the person whose box it
overlaps most. Once with the tracker as it is, once with one that begins a number for everybody.

Then everybody alone: standing still in noise, for the jitter that smoothing leaves, and sliding steadily, for its lag
behind what the model found. Writes the table to ``--out``.
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
STILL, START, NOISE = 60, 15, 8.0  # frames of somebody alone, of which the first do not count, and the noise of pixels
FIGURES = (
    *("people", "people in frames", "of these found", "of these with a number", "switches"),
    *("without a number for 10 frames or more", "of these with the same number after", "numbers"),
)
LIKE = 0.3  # least overlap, intersection over union, of a pose's box with a person's


@dataclass
class Walker:
    """Somebody cut out of an image, who slides to and fro.

    Attributes:
        image: (h, w, 3).
        box: (4,) x, y, width, height of the joints in it.
        start: left edge at first.
        top: upper edge.
        speed: pixels a frame.
    """

    image: np.ndarray
    box: np.ndarray
    start: float
    top: float
    speed: float

    def left(self, frame: int) -> int:
        """Left edge; it turns back at the sides."""
        room = WIDTH - self.image.shape[1]
        return round(room - abs((self.start + self.speed * frame) % (2 * room) - room))

    def place(self, frame: int) -> np.ndarray:
        """Its box in the video."""
        return self.box + np.array([self.left(frame), self.top, 0, 0])


def overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of (N, 4) with (M, 4): (N, M)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], (others[:, :2] + others[:, 2:])[None])
    shared = np.prod((high - low).clip(0), 2)
    return shared / (np.prod(boxes[:, 2:], 1)[:, None] + np.prod(others[:, 2:], 1)[None] - shared)


def scene_of(walkers: list[Walker], frame: int) -> np.ndarray:
    """A frame; the last is the nearest."""
    scene = np.full((HEIGHT, WIDTH, 3), 114, np.uint8)
    for walker in walkers:
        h, w = walker.image.shape[:2]
        x, y = walker.left(frame), round(walker.top)
        scene[y : y + h, x : x + w] = walker.image
    return scene


def cut_outs(
    model: lithepose.Predictor | lithepose.TopDown, data: Path, wanted: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images of people whom the model finds, and the boxes of their joints; all 200 to 300 pixels high."""
    dataset = open_dataset(data / "lspet-1.tar", "val", (data / "lspet-2.tar",))
    rng, found = np.random.default_rng(0), []
    for record in dataset.records:
        box = np.array(record.people[0]["bbox"])
        if box[3] < 1.5 * box[2]:  # standing, more or less
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
    """The joints of somebody alone, found in every frame and smoothed: (T, K, 2) each, NaN where not found."""
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
    """Medians over people: what is left of the jitter, and lags."""
    left, step_left, lags = [], [], []
    for image, box in track(people):
        found, smooth = alone(model, Walker(image, box, 300, 100, 0), NOISE)
        steady = np.isfinite(found).all((0, 2))  # joints that are found in every frame
        if steady.any():
            left.append(smooth[:, steady].std(0).mean() / found[:, steady].std(0).mean())
            step_left.append(np.diff(smooth[:, steady], axis=0).std() / np.diff(found[:, steady], axis=0).std())
        speed = 0.3 * box[3] / RATE
        found, smooth = alone(model, Walker(image, box, 640, 100, speed), NOISE)
        steady = np.isfinite(found).all((0, 2))
        if steady.any():  # it slides to the left
            lags.append((smooth - found)[:, steady, 0].mean() / speed)
    names = "jitter left, about the mean", "jitter left, from frame to frame", "lag in frames at 0.3 lengths a second"
    return {k: round(float(np.median(v)), 2) for k, v in zip(names, (left, step_left, lags), strict=True)}


def main(data: Path, out: Path, model: str = "lithe_paf", size: int = 384) -> None:
    """Make the videos, follow the people and write the table.

    Args:
        data: folder that holds ``lspet-1.tar`` and ``lspet-2.tar``.
        model: that finds the people.
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
