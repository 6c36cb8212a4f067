"""ONNX Runtime, the embedded engine."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from ..decode import Found, Maps
from ..skeleton import Head, Skeleton

MAPS = ("heatmaps", "fields", "peak_score", "peak_cell")  # fields are missing where a head has no limbs
FOUND = ("xy", "score", "person_score")  # of networks without maps


@dataclass(frozen=True)
class ModelInfo:
    """What an exported file says about itself, kept in its metadata under ``lithepose``.

    Attributes:
        name: of the network.
        head: what its maps mean.
        multiple: height and width of the input must be multiples of it.
        size: longer side of the input that its scores were measured at, the default.
        single: it takes one picture at a time (the number of people varies, so pictures do not stack).
        fixed: its input is always ``size`` x ``size``.
    """

    name: str
    head: Head
    multiple: int
    size: int
    single: bool = False
    fixed: bool = False

    def to_json(self) -> str:
        head = asdict(self.head)
        del head["output_order"]
        return json.dumps(asdict(self) | {"head": head})

    @classmethod
    def from_json(cls, text: str) -> ModelInfo:
        data = json.loads(text)
        head = data["head"]
        skeletons = {k: _skeleton(head.pop(k)) for k in ("skeleton", "output")}
        limbs = tuple((a, b) for a, b in head.pop("limbs"))
        return cls(**data | {"head": Head(limbs=limbs, **skeletons, **head)})


def _skeleton(data: dict[str, Any]) -> Skeleton:
    pairs = {k: tuple((a, b) for a, b in data[k]) for k in ("edges", "flip_pairs")}
    return Skeleton(data["name"], tuple(data["joints"]), sigmas=tuple(data["sigmas"]), **pairs)


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_session(path: str | Path, threads: int) -> onnxruntime.InferenceSession:
    """A session on the CPU; its threads wait awake for each other only where ``threads`` leave a core for all else.

    Without one they starve what works beside the network, decoding and drawing a video: on two cores that costs more
    than sleeping does (``benchmarks/throughput.py``). So by default, one thread a core, they sleep. Between calls no
    thread stays awake.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if 0 < threads < cores() else "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class OnnxRuntime:
    """A network exported by ``lithepose export``.

    Args:
        path: of the ``.onnx`` file.
        threads: of one inference; 0 takes one a core.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no ONNX file, or one that lithepose did not write.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such model file; `lithepose models` lists the embedded ones")
        try:
            self.session = open_session(path, threads)
            self.info = ModelInfo.from_json(self.session.get_modelmeta().custom_metadata_map["lithepose"])
        except KeyError as error:
            raise ValueError(
                f"{path}: an ONNX file without lithepose's metadata; make one by `lithepose export`"
            ) from error
        except Exception as error:  # ONNX Runtime raises a dozen types of its own
            why = str(error).splitlines()[0]
            raise ValueError(f"{path}: ONNX Runtime cannot load it ({why}); export or copy it again") from error

    def __call__(self, images: np.ndarray) -> list[Maps | Found]:
        """Run a batch.

        Args:
            images: (N, H, W, 3) uint8 RGB, H and W multiples of ``info.multiple``.

        Returns:
            Maps of every picture, or the people in it where the network has no maps.

        Raises:
            ValueError: a size that the network does not take.
        """
        names = [output.name for output in self.session.get_outputs()]
        try:
            if self.info.single:
                outputs = [self.session.run(names, {"image": image[None]}) for image in images]
            else:
                outputs = zip(*map(np.asarray, self.session.run(names, {"image": images})), strict=True)
        except Exception as error:  # ONNX Runtime raises a dozen types of its own
            line = str(error).splitlines()[0]
            raise ValueError(f"{self.info.name}: ONNX Runtime cannot run it at {images.shape[1:3]} ({line})") from error
        return [to_result(dict(zip(names, output, strict=True))) for output in outputs]


def to_result(output: dict[str, np.ndarray]) -> Maps | Found:
    """Named outputs of one picture -> what the decoder reads."""
    if "xy" in output:
        return Found(*(output[name] for name in FOUND))
    heatmaps = output["heatmaps"]
    fields = output.get("fields", np.empty((0, *heatmaps.shape[1:]), np.float32))
    return Maps(heatmaps, fields, output["peak_score"], output["peak_cell"])
