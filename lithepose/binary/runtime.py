"""Runtime of a packed binary_paf: ONNX Runtime for the real-valued part, ``bits`` for the refinement; without torch.

``lithepose export --to bits`` writes a safetensors file. It has the signs of the weights, their scales, the intervals
of the activations' signs, and the float 1x1 layers. The part that is real-valued in the paper, backbone and first
stage, is an ONNX file beside it, named in its metadata.
"""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import UInt8
from ..errors import MissingExtraError, MissingFileError, ModelError

try:
    from safetensors import SafetensorError, safe_open
    from threadpoolctl import ThreadpoolController
except ImportError as error:
    name = error.name
    raise MissingExtraError(
        f"packed networks need {name}: pip install 'lithepose[binary]' ({error})", name=name
    ) from error

from ..heads.outputs import TOP, Maps, Output
from ..heads.pafs import PafHead
from ..runtime.base import ModelInfo
from ..runtime.onnx import cores, open_session, threads_of
from .stages import Branch, Stage, Tensors, Workers, below, refine

FORMAT = 2  # version of the file format


class _OneThread:
    """Limits numpy's matrix products to one thread inside the block, because the branches already run in threads.

    The limit applies to the whole process, so the first to enter sets it and the last to leave restores it.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._controller = ThreadpoolController()
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._limit = self._controller.limit(limits=1, user_api="blas")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._limit.restore_original_limits()


one_thread = _OneThread()


def metadata(info: ModelInfo, stages: list[Stage], float_part: Path) -> dict[str, str]:
    """Make the metadata of a packed file."""
    metadata = {
        "format": FORMAT,
        "info": json.loads(info.to_json()),
        "joined": stages[0].limbs.chains[0].joined,
        "chains": [[len(branch.chains) for branch in (stage.limbs, stage.joints)] for stage in stages],
        "float_part": float_part.name,
        "sha256": hashlib.sha256(float_part.read_bytes()).hexdigest(),
    }
    return {"lithepose-packed": json.dumps(metadata)}


def tensors_of(stages: list[Stage]) -> Tensors:
    """Return the tensors by name, for the file."""
    return {f"{i}.{name}": tensor for i, stage in enumerate(stages) for name, tensor in stage.tensors().items()}


def _read(path: Path) -> tuple[ModelInfo, list[Stage], Path, str]:
    """Read the content of a file, the path of its real-valued part and that file's digest.

    Raises:
        KeyError: the file is not a packed network, or a part is missing.
        TypeError, ValueError: the file is damaged.
    """
    with safe_open(path, "np") as file:
        metadata = json.loads((file.metadata() or {})["lithepose-packed"])
        if metadata["format"] != FORMAT:
            raise ModelError(f"file format {metadata['format']}; expected {FORMAT}")
        tensors: Tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    info, stages = ModelInfo.from_json(json.dumps(metadata["info"])), list[Stage]()
    heatmaps, pafs = _head(info).channels
    for i, counts in enumerate(metadata["chains"]):
        branches = []
        for side, count, width in zip(("limbs", "joints"), counts, (pafs, heatmaps), strict=True):
            branch = Branch.from_tensors(below(tensors, f"{i}.{side}."), metadata["joined"])
            if (len(branch.chains), branch.width) != (count, width):
                raise ModelError(
                    f"stage {i}, {side}: {len(branch.chains)} chains with {branch.width} output maps; expected {count}"
                    f" with {width}"
                )
            branches.append(branch)
        stages.append(Stage(*branches))
    if not stages or tensors_of(stages).keys() != tensors.keys():
        raise ModelError(f"its tensors do not match {len(stages)} stages")
    return info, stages, path.with_name(metadata.get("float_part") or metadata["front"]), metadata["sha256"]


def _head(info: ModelInfo) -> PafHead:
    if not isinstance(info.head, PafHead):
        raise ModelError(f"{info.name} has no part affinity fields")
    return info.head


class PackedRuntime:
    """Runs a network written by ``lithepose export --to bits``, with the interface of all runtimes.

    Args:
        path: the ``.safetensors`` file; the file of the real-valued part lies beside it.
        threads: number of threads; 0 uses one per core.

    Raises:
        MissingFileError: the file or its real-valued part does not exist.
        ModelError: the file is not a packed network, or the real-valued part belongs to another one.

    Attributes:
        about: description of what runs.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        path = Path(path)
        if not path.is_file():
            raise MissingFileError(f"{path}: no such model file; `lithepose models` lists the embedded ones")
        try:
            self.info, self.stages, float_part, digest = _read(path)
        except SafetensorError as error:
            raise ModelError(f"{path}: not a safetensors file ({error})") from error
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise ModelError(f"{path}: damaged, or packed by another version ({error}); export it again") from error
        except KeyError as error:
            raise ModelError(
                f"{path}: not a packed network ({error} is missing); use `lithepose export --to bits` for a trained"
                " binary_paf, or `lithepose export` to write an .onnx of any network"
            ) from error
        if not float_part.is_file():
            raise MissingFileError(f"{float_part}: no such file; {path.name} needs it in the same folder")
        if hashlib.sha256(float_part.read_bytes()).hexdigest() != digest:
            raise ModelError(
                f"{float_part}: belongs to another network than {path.name}; use two files that were packed together"
            )
        try:
            self.session = open_session(float_part, threads)
        except Exception as error:  # ONNX Runtime raises many types of its own
            raise ModelError(f"{float_part}: ONNX Runtime cannot load it ({str(error).splitlines()[0]})") from error
        self._workers = Workers(threads or cores())
        self.about = f"bits, the real-valued part by ONNX Runtime, {threads_of(threads)}"

    def __call__(self, images: UInt8[np.ndarray, "n h w 3"]) -> list[Output]:
        """Run a batch.

        Args:
            images: (N, H, W, 3) uint8 RGB, H and W multiples of ``info.multiple``.

        Raises:
            ModelError: the network does not support the size.
        """
        try:
            (x,) = self.session.run(["stage"], {"image": images})
        except Exception as error:  # ONNX Runtime raises many types of its own
            line = str(error).splitlines()[0]
            raise ModelError(f"{self.info.name}: ONNX Runtime cannot run it at {images.shape[1:3]} ({line})") from error
        with one_thread:
            maps = refine(np.asarray(x), self.stages, self._workers)
        pafs, joints = _head(self.info).channels[1], len(self.info.joints_head.skeleton)
        top = min(TOP, maps.shape[2] * maps.shape[3])
        return [Maps.from_arrays(one[pafs : pafs + joints], one[:pafs], top) for one in maps]
