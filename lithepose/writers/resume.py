"""Result files of interrupted or split runs: how they are read, continued and merged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DatasetError, MissingFileError
from ..media.inputs import ADDRESS
from ..poses import Poses
from ..skeleton import SKELETONS, Skeleton, mirror_pairs
from .parquet_reader import is_parquet, parquet_frames


@dataclass(frozen=True)
class SavedFrame:
    """Where a saved result was found, as a :class:`lithepose.writers.results.Place`."""

    source: str
    index: int | None
    time: float | None
    clock: float | None = None

    @property
    def name(self) -> str:
        """The source, with the number of the frame if there is one."""
        return self.source if self.index is None else f"{self.source} frame {self.index}"


def read_results(
    path: str | Path, skeleton: Skeleton | dict[str, Skeleton] | None = None
) -> Iterator[tuple[SavedFrame, Poses]]:
    """The frames of a ``.jsonl`` or ``.json`` file of lithepose's own format, or of a ``.parquet``, in file order.

    Args:
        path: path of the file, or of a folder that ``lithepose cluster`` wrote.
        skeleton: skeleton of the model, or several by name. By default lithepose's own; others are read from the file,
            without edges.

    Raises:
        MissingFileError: no such file.
        DatasetError: a line that is not a result; the last line may be cut off.
    """
    path = Path(path)
    if is_parquet(path):
        for place, poses in parquet_frames(path, skeleton if isinstance(skeleton, Skeleton) else None):
            yield SavedFrame(*place), poses
        return
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file; pass the poses.jsonl of an earlier run")
    own = skeleton if isinstance(skeleton, dict) else {} if skeleton is None else None
    for number, data in _items(path):
        try:
            frame = SavedFrame(data["source"], data["frame"], data["time"], data.get("clock"))
            if own is not None and data["skeleton"] not in SKELETONS and data["skeleton"] not in own:
                own |= own_skeletons([path])
            known = skeleton if isinstance(skeleton, Skeleton) else (own or {}).get(data["skeleton"])
            yield frame, Poses.from_dict(data, known)
        except (KeyError, TypeError, AttributeError, DatasetError) as error:
            raise DatasetError(f"{path}: line {number}: not a result of lithepose predict ({error})") from error


def own_skeletons(paths: Iterable[Path]) -> dict[str, Skeleton]:
    """Skeletons that are not lithepose's own, by name, with the joints of the first person in the files.

    They have no edges. A skeleton without any person has no joints.
    """
    found: dict[str, Skeleton] = {}
    for path in paths:
        for _, data in () if is_parquet(path) else _items(path):  # a Parquet file names its joints
            name = data.get("skeleton") if isinstance(data, dict) else None
            if not isinstance(name, str) or name in SKELETONS or (name in found and len(found[name])):
                continue
            people = data.get("people") or [{}]
            joints = tuple(people[0].get("joints", ()))
            found[name] = Skeleton(name, joints, flip_pairs=mirror_pairs(joints))
    return found


def _items(path: Path) -> Iterator[tuple[int, Any]]:
    """Parsed lines, or items of one list, with their numbers."""
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        if path.suffix.lower() == ".json":
            try:
                yield from enumerate(json.load(file), 1)
            except ValueError as error:
                raise DatasetError(
                    f"{path}: not a complete JSON list ({error}); the run may have been interrupted"
                ) from error
            return
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                return
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise DatasetError(f"{path}: line {number}: not valid JSON ({error})") from error


def finished_sources(path: Path, again: Set[str] = frozenset()) -> list[str]:
    """Sources with complete results in a ``.jsonl`` file, in its order; the file is cut off after them.

    A video at the end of the file may be incomplete, so its lines are removed if it can be done again. A last line
    without a line end is always removed.

    Args:
        path: path of the file.
        again: videos that can be done again.

    Raises:
        ConfigError: the file is not a ``.jsonl``.
        DatasetError: a line that is not a result.
    """
    if path.suffix.lower() not in (".jsonl", ".ndjson"):
        raise ConfigError(f"--resume: only works with a .jsonl file, not with {path}")
    if not path.exists():
        return []
    sources, end, last, begins = dict[str, None](), 0, "", 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                data = json.loads(line.decode("utf-8", "surrogateescape"))
                source, frame = data["source"], data["frame"]
            except (ValueError, KeyError, TypeError) as error:
                raise DatasetError(f"{path}: line {number}: not a result of lithepose predict ({error})") from error
            video = source if frame is not None else ""
            begins = end if video and video != last else begins
            last, end = video, end + len(line)
            sources[source] = None
    if last in again:
        sources.pop(last)
        end = begins
    with path.open("r+b") as file:
        file.truncate(end)
    return list(sources)


def merged(paths: Iterable[Path], skeleton: Skeleton | None = None) -> Iterator[tuple[SavedFrame, Poses]]:
    """The frames of several result files, one file after the other; if two files have a frame, the first counts.

    Addresses are written without their queries, so two of them may have the same name. Their frames count as the same
    only if they have the same people.

    Args:
        paths: paths of the files.
        skeleton: skeleton of the model; by default read from the files if it is not one of lithepose's own.
    """
    paths = list(paths)
    own_ones = {} if skeleton else own_skeletons(paths)
    seen = set[tuple[str, int | None, str]]()
    if len(paths) == 1:  # nothing to compare: a large result must not fill the memory
        yield from read_results(paths[0], skeleton or own_ones)
        return
    for path in paths:
        own = set[tuple[str, int | None, str]]()
        for frame, poses in read_results(path, skeleton or own_ones):
            people = hashlib.sha1(poses.to_json().encode()).hexdigest() if ADDRESS.match(frame.source) else ""
            key = frame.source, frame.index, people
            own.add(key)
            if key not in seen:
                yield frame, poses
        seen |= own
