"""Poses: the one result type."""

from __future__ import annotations

import sys
import tempfile
import webbrowser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Bool, Float, Int, UInt8
from ..drawing import DrawStyle, draw
from ..errors import ConfigError, DatasetError, MissingExtraError
from ..guesses import POSES, no_attribute, with_hints
from ..media.image import encode_image, write_image
from ..skeleton import MIDPOINTS, Skeleton
from .interchange import AsJson
from .person import Person
from .tables import AsTables

if TYPE_CHECKING:
    import supervision


@dataclass(frozen=True, eq=False)
class Poses(AsJson, AsTables):
    """The people of one image, best first.

    Attributes:
        xy: (N, K, 2) float32 joints in pixels of the image, the centre of the top left pixel being (0, 0);
            NaN where a joint was not found.
        score: (N, K) float32 in [0, 1]; 0 where a joint was not found.
        person_score: (N,) float32 in [0, 1].
        skeleton: names and order of the K joints, and their connections.
        size: (width, height) of the image.
        id: (N,) int64, the same number for the same person in all frames of a video, -1 if unknown; None without
            tracking.
        box: (N, 4) float32 x, y, width, height of the box in which each person was found, from a person detector, from
            following people in a video, or from the caller; None for models on whole images.
        image: (H, W, 3) uint8 RGB in which they were found, for :meth:`plot`; kept by a call with one image.
    """

    xy: Float[np.ndarray, "n k 2"]
    score: Float[np.ndarray, "n k"]
    person_score: Float[np.ndarray, " n"]
    skeleton: Skeleton
    size: tuple[int, int]
    id: Int[np.ndarray, " n"] | None = None
    box: Float[np.ndarray, "n 4"] | None = None
    image: UInt8[np.ndarray, "h w 3"] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        n, k = len(self.person_score), len(self.skeleton)
        if self.xy.shape != (n, k, 2) or self.score.shape != (n, k):
            raise DatasetError(
                f"{n} people of {k} joints: xy is {self.xy.shape} and score {self.score.shape}; expected {(n, k, 2)}"
                f" and {(n, k)}"
            )
        if self.id is not None and len(self.id) != n:
            raise DatasetError(f"{len(self.id)} ids for {n} people")
        if self.box is not None and self.box.shape != (n, 4):
            raise DatasetError(f"boxes of shape {self.box.shape} for {n} people; must be {(n, 4)}")

    if not TYPE_CHECKING:  # type checkers would accept every name

        def __getattr__(self, name: str) -> Any:
            raise no_attribute("Poses", name, POSES, dir(type(self)))

    @classmethod
    def empty(cls, skeleton: Skeleton, size: tuple[int, int]) -> Poses:
        """The result of an image without people."""
        k = len(skeleton)
        return cls(
            np.zeros((0, k, 2), np.float32), np.zeros((0, k), np.float32), np.zeros(0, np.float32), skeleton, size
        )

    def __repr__(self) -> str:
        people, (width, height) = len(self), self.size
        ids = "" if self.id is None else f", ids {', '.join(map(str, self.id))}"
        return f"<{people} {'person' if people == 1 else 'people'}, {self.skeleton.name}, {width}x{height}{ids}>"

    def __len__(self) -> int:
        return len(self.person_score)

    def __getitem__(self, which: int | slice | np.ndarray | Sequence[int]) -> Poses:
        """Some of the people; an integer selects one person, still as Poses."""
        if isinstance(which, str):
            raise TypeError(
                f"{which!r} belongs to one person; use person[{which!r}] for a person in poses, or poses.xy in the"
                " order of poses.joints"
            )
        if isinstance(which, (int, np.integer)):
            which = [range(len(self))[which]]
        number, box = (None if values is None else values[which] for values in (self.id, self.box))
        scores = self.score[which], self.person_score[which]
        return Poses(self.xy[which], *scores, self.skeleton, self.size, number, box, self.image)

    def __iter__(self) -> Iterator[Person]:
        ids = [None] * len(self) if self.id is None else self.id.tolist()
        for row in zip(self.xy, self.score, self.person_score.tolist(), self.boxes, ids, strict=True):
            yield Person(*row[:4], self.skeleton, row[4])

    def sorted_by(self, key: str, descending: bool = True) -> Poses:
        """The same people in another order.

        Args:
            key: score, area (of the box), x or y (of its centre), or id.
            descending: the largest first.

        Raises:
            ConfigError: no such key, or no ids to sort by.
        """
        boxes = self.boxes
        keys = {"score": self.person_score, "area": boxes[:, 2] * boxes[:, 3]}
        keys |= {"x": boxes[:, 0] + boxes[:, 2] / 2, "y": boxes[:, 1] + boxes[:, 3] / 2}
        keys |= {} if self.id is None else {"id": self.id}
        if key not in keys:
            raise ConfigError(f"sorted_by({key!r}): unknown key; choose one of {', '.join(keys)}")
        return self[np.argsort(-keys[key] if descending else keys[key], kind="stable")]

    @property
    def joints(self) -> tuple[str, ...]:
        """Names of the K joints."""
        return self.skeleton.joints

    @property
    def found(self) -> Bool[np.ndarray, "n k"]:
        """(N, K) bool: which joints were found."""
        return self.score > 0

    @property
    def boxes(self) -> Float[np.ndarray, "n 4"]:
        """(N, 4) float32 x, y, width, height of each person: the detector's box, or the box around the found joints."""
        if self.box is not None:
            return self.box
        if not len(self):
            return np.zeros((0, 4), np.float32)
        found = self.found[..., None]
        low = np.where(found, self.xy, np.inf).min(1)
        high = np.where(found, self.xy, -np.inf).max(1)
        return np.where(found.any(1), np.concatenate([low, high - low], 1), 0).astype(np.float32)

    @property
    def xyxy(self) -> Float[np.ndarray, "n 4"]:
        """(N, 4) float32: :attr:`boxes` as x0, y0, x1, y1."""
        boxes = self.boxes
        return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)

    @property
    def xywh(self) -> Float[np.ndarray, "n 4"]:
        """(N, 4) float32: :attr:`boxes`; x and y are those of the upper left corner."""
        return self.boxes

    @property
    def xyn(self) -> Float[np.ndarray, "n k 2"]:
        """(N, K, 2) float32 joints as fractions of the image's width and height."""
        return ((self.xy + 0.5) / np.array(self.size, np.float32)).astype(np.float32)

    @with_hints
    def plot(
        self, image: np.ndarray | None = None, *, threshold: float = 0.0, style: DrawStyle | None = None
    ) -> np.ndarray:
        """The people drawn on a copy of the image, (H, W, 3) uint8 RGB.

        Args:
            image: image to draw on; by default the one in which they were found, or grey.
            threshold: joints with a lower score are left out.
            style: colours and other options.
        """
        image = self.image if image is None else image
        if image is None:
            image = np.full((self.size[1], self.size[0], 3), 127, np.uint8)
        return draw(image, self, threshold=threshold, style=style)

    @with_hints
    def save(self, path: str | Path, image: np.ndarray | None = None, *, style: DrawStyle | None = None) -> None:
        """Write :meth:`plot` as an image, by the suffix of the path.

        Raises:
            ConfigError: the suffix is not that of an image.
            OutputError: it cannot be written.
        """
        write_image(Path(path), self.plot(image, style=style))

    def show(self, image: np.ndarray | None = None) -> None:
        """Show :meth:`plot`, in the notebook or in the system's image viewer."""
        notebook = sys.modules.get("IPython")
        if notebook and hasattr(notebook.get_ipython(), "kernel"):  # a terminal has none
            notebook.display.display(notebook.display.Image(data=encode_image(".png", self.plot(image))))
            return
        with tempfile.NamedTemporaryFile(suffix=".png", delete=False) as file:
            path = Path(file.name)
        self.save(path, image)
        webbrowser.open(path.as_uri())

    def _repr_png_(self) -> bytes:
        """The PNG that a notebook shows."""
        return encode_image(".png", self.plot())

    def to_skeleton(self, skeleton: Skeleton) -> Poses:
        """The same people in another skeleton: joints are matched by name; a neck or mid-hip may be a midpoint."""
        if skeleton == self.skeleton:
            return self
        xy = np.full((len(self), len(skeleton), 2), np.nan, np.float32)
        score = np.zeros((len(self), len(skeleton)), np.float32)
        index = {joint: i for i, joint in enumerate(self.joints)}
        for k, joint in enumerate(skeleton.joints):
            if joint in index:
                xy[:, k], score[:, k] = self.xy[:, index[joint]], self.score[:, index[joint]]
            elif joint in MIDPOINTS and set(MIDPOINTS[joint]) <= index.keys():
                ends = [index[end] for end in MIDPOINTS[joint]]
                xy[:, k], score[:, k] = self.xy[:, ends].mean(1), self.score[:, ends].min(1)
        return Poses(xy, score, self.person_score, skeleton, self.size, self.id, self.box, self.image)

    def to_supervision(self) -> supervision.KeyPoints:
        """As ``supervision.KeyPoints``, for its annotators and trackers (zeros where not found).

        Raises:
            MissingExtraError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise MissingExtraError("to_supervision needs supervision: pip install 'supervision>=0.29'") from error
        return supervision.KeyPoints(
            xy=np.nan_to_num(self.xy), keypoint_confidence=self.score, class_id=np.zeros(len(self), dtype=int)
        )
