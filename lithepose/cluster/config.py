"""Options of a call on a cluster, and its machines."""

from __future__ import annotations

import glob
import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError


@dataclass(frozen=True)
class Options:
    """The options that determine the rows. A second call with the same OUT must have the same options.

    Attributes:
        model: name of an embedded model, or a model file.
        size: longer side of the input, in pixels; 0 is the model's own.
        runtime: auto, onnx, openvino or torch.
        precision: fp32, bf16 or int8; empty is the file's own.
        threshold: lowest score of a joint; None is the model's own.
        min_person: lowest score of a person; None is the model's own.
        detect_every: in a video, run the person detector at least every N frames.
        track: assign ids to the people in videos.
        block: images per task, and per file of rows.
        segment: minimum seconds of video per task.
        column: column of Parquet sources with the encoded images; empty is the first column of bytes.
    """

    model: str = "lithe"
    size: int = 0
    runtime: str = "auto"
    precision: str = ""
    threshold: float | None = None
    min_person: float | None = None
    detect_every: int = 5
    track: bool = True
    block: int = 500
    segment: float = 20.0
    column: str = ""

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ConfigError(f"threshold {self.threshold}: must be above 0 and below 1")
        if self.min_person is not None and not 0 <= self.min_person < 1:
            raise ConfigError(f"min_person {self.min_person}: must be 0 or more and below 1")
        if self.detect_every < 1:
            raise ConfigError(f"detect_every {self.detect_every}: must be 1 or more")
        if self.block < 1:
            raise ConfigError(f"block {self.block}: must be 1 or more images")
        if self.segment <= 0:
            raise ConfigError(f"segment {self.segment}: must be above 0 seconds")

    def model_files(self) -> list[Path]:
        """The model file, then the files next to it that belong to it; empty for an embedded model."""
        if not os.path.isfile(self.model):
            return []
        file = Path(self.model)
        if file.suffix == ".safetensors":  # a network in bits has a float part
            return [file, *sorted(file.parent.glob(f"{glob.escape(file.stem)}-*.onnx"))]
        beside = file.with_suffix({".xml": ".bin", ".onnx": ".safetensors"}.get(file.suffix, file.suffix))
        needed = file.suffix == ".xml" or self.runtime == "torch"
        return [file, beside] if needed and beside != file and beside.is_file() else [file]

    def saved(self) -> dict[str, Any]:
        """The values for OUT/call.json; a model file is identified by its content."""
        values = asdict(self)
        if files := self.model_files():
            digest = hashlib.sha256()
            for file in files:
                digest.update(file.read_bytes())
            values["model"] = f"sha256 {digest.hexdigest()}"
        return values

    def check(self, before: dict[str, Any], out: str) -> None:
        """Refuse to continue the results of other options.

        Raises:
            ConfigError: options differ; the message names them.
        """
        now = self.saved()
        other = [
            f"{name} was {before.get(name)!r}, is now {now[name]!r}" for name in now if before.get(name) != now[name]
        ]
        if other:
            raise ConfigError(
                f"{out}: contains results made with other options ({'; '.join(other)}); choose another --out"
            )


@dataclass(frozen=True)
class Machines:
    """Where the work is done.

    Attributes:
        address: address of a Ray cluster: ``auto``, ``ray://host:port`` or ``host:port``; empty starts Ray on this
            machine.
        cpus: CPUs per worker; each worker loads one model.
        workers: maximum number of workers; 0 starts as many as fit on the machines of the cluster, including those that
            join later.
        retry_failed: process tasks with failed inputs again.
    """

    address: str = ""
    cpus: int = 2
    workers: int = 0
    retry_failed: bool = False

    def __post_init__(self) -> None:
        if self.cpus < 1 or self.workers < 0:
            raise ConfigError(
                f"{self.cpus} CPUs per worker, {self.workers} workers: CPUs must be 1 or more, and workers 0 or more"
            )
