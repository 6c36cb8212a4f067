"""Model names and files -> runtimes."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from ..errors import ConfigError, MissingExtraError
from ..resources import WEIGHTS
from ..runtime.base import Runtime
from ..runtime.onnx import OnnxRuntime


def manifest() -> dict[str, dict[str, Any]]:
    """The embedded models by name, as written in ``weights/manifest.toml``."""
    return tomllib.loads((WEIGHTS / "manifest.toml").read_text(encoding="utf-8"))


def open_runtime(model: str | Path, threads: int = 0) -> Runtime:
    """Open a model.

    Args:
        model: name of an embedded model, path of an ``.onnx`` file that ``lithepose export`` wrote or of a
            ``.safetensors`` file that ``lithepose export --to bits`` wrote.
        threads: of the network; 0 takes one a core.

    Raises:
        ConfigError: no such model, or a negative number of threads.
        MissingFileError: no such file.
    """
    if threads < 0:
        raise ConfigError(f"{threads} threads; give 1 or more, or 0 for one a core")
    path = _weights(model)
    if path.suffix.lower() == ".safetensors":
        try:
            from ..binary.runtime import PackedRuntime
        except ImportError as error:  # names the extra
            raise MissingExtraError(str(error), name=error.name) from error
        return PackedRuntime(path, threads)
    return OnnxRuntime(path, threads)


def _weights(model: str | Path) -> Path:
    known = manifest()
    if str(model) in known:
        return WEIGHTS / known[str(model)]["file"]
    if Path(model).suffix.lower() in (".onnx", ".safetensors"):
        return Path(model)
    raise ConfigError(
        f"no model {str(model)!r} with weights here; there are {', '.join(known)}, or train one and give the .onnx file"
        " that `lithepose export` wrote or a .safetensors file that `lithepose export --to bits` wrote"
    )
