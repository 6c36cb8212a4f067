"""Tensors of public checkpoint files: PyTorch's pickles, Caffe's binary weights, safetensors."""

from __future__ import annotations

import hashlib
import pickle
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import MissingFileError, ModelError, OutputError

INSIDE = "state_dict", "model", "model_state_dict", "net"  # keys of the tensors in files of training scripts
WRAPPER = "module."  # prefix of torch's DataParallel
UNREADABLE = (  # torch's errors for truncated or other files
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    EOFError,
    RuntimeError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
)
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types of protocol buffers

TORCHVISION = "https://download.pytorch.org/models/"
DOWNLOADS = {  # each name ends with the beginning of the file's SHA-256
    "keypointrcnn_resnet50_fpn_coco-fc266e95.pth": TORCHVISION,
    "vgg19-dcbb9e9d.pth": TORCHVISION,
    "mobilenet_v3_large-8738ca79.pth": TORCHVISION,
    "mobilenet_v3_large-5c1a4163.pth": TORCHVISION,
}


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file by name.

    Pickles are read without running their code. A prefix of a multi-GPU wrapper is removed from names.

    Args:
        path: ``.pth``, ``.pt`` or ``.tar`` of PyTorch, ``.caffemodel`` or ``.safetensors``.

    Raises:
        MissingFileError: the file does not exist.
        ModelError: it cannot be read, or has no tensors.
    """
    if not path.is_file():
        known = f", or use --download for {', '.join(DOWNLOADS)}" if path.suffix == ".pth" else ""
        raise MissingFileError(f"{path}: no such file; download it from its authors{known}")
    kind = path.suffix.lower()
    state = _caffe(path) if kind == ".caffemodel" else _safetensors(path) if kind == ".safetensors" else _torch(path)
    if not state:
        raise ModelError(f"{path}: contains no tensors; expected a PyTorch, Caffe or safetensors checkpoint")
    if all(name.startswith(WRAPPER) for name in state):
        state = {name.removeprefix(WRAPPER): tensor for name, tensor in state.items()}
    return state


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelError(f"{path}: not a safetensors file, or truncated ({error})") from error


def _torch(path: Path) -> dict[str, Tensor]:
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{path}: not a PyTorch checkpoint of tensors only, or truncated ({line})") from error
    for key in INSIDE:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping):
        raise ModelError(f"{path}: contains a {type(found).__name__}; expected tensors by name")
    return {str(name): tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}


def _caffe(path: Path) -> dict[str, Tensor]:
    """Read weights and biases of a NetParameter's layers, fields 100 (layers) and 2 (layers before 2014)."""
    state: dict[str, Tensor] = {}
    try:
        data = memoryview(path.read_bytes())
        for number, layer in _fields(data):
            if number not in (2, 100) or not isinstance(layer, memoryview):
                continue
            name, blobs = "", list[Tensor]()
            named, held = (1, 7) if number == 100 else (4, 6)
            for field, value in _fields(layer):
                if field == named and isinstance(value, memoryview):
                    name = bytes(value).decode()
                elif field == held and isinstance(value, memoryview):
                    blobs.append(_blob(value))
            for kind, blob in zip(("weight", "bias"), blobs, strict=False):
                state[f"{name}.{kind}"] = blob.flatten() if kind == "bias" else blob
    except (ValueError, IndexError, OverflowError) as error:
        raise ModelError(f"{path}: not a Caffe weights file, or truncated ({error})") from error
    return state


def _blob(data: memoryview) -> Tensor:
    """Read a BlobProto: values of field 5, packed or single, with the shape of field 7 or of fields 1 to 4."""
    old, shape, parts = dict[int, int](), list[int](), list[bytes]()
    for field, value in _fields(data):
        if field == 5:
            parts.append(bytes(value) if isinstance(value, memoryview) else value.to_bytes(4, "little"))
        elif field == 7 and isinstance(value, memoryview):
            for _, dims in _fields(value):
                shape += list(_varints(dims)) if isinstance(dims, memoryview) else [dims]
        elif field in (1, 2, 3, 4) and isinstance(value, int):
            old[field] = value
    values = np.frombuffer(b"".join(parts), "<f4")
    return torch.from_numpy(values.reshape(shape or [old[i] for i in sorted(old)]).copy())


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield numbers and values of a message's fields.

    Raises:
        ValueError: the message ends within a field, or is not valid.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind not in (FIXED64, BYTES, FIXED32):
            raise ValueError(f"unknown type {kind} at byte {at}")
        size, at = _varint(data, at) if kind == BYTES else (8 if kind == FIXED64 else 4, at)
        if at + size > len(data):
            raise ValueError(f"the file ends {at + size - len(data)} bytes early")
        piece = data[at : at + size]
        yield tag >> 3, piece if kind == BYTES else int.from_bytes(piece, "little")
        at += size


def _varints(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError(f"invalid number at byte {at}")


def download(name: str, folder: Path) -> Path:
    """Download one of :data:`DOWNLOADS` and check it.

    Returns:
        the file, which may have existed before.

    Raises:
        ModelError: the name is unknown, or the file does not match its digest.
        OutputError: it cannot be downloaded or written.
    """
    if name not in DOWNLOADS:
        raise ModelError(f"{name}: not available for --download; choose one of {', '.join(DOWNLOADS)}")
    path, digest = folder / name, Path(name).stem.rpartition("-")[2]
    if not path.is_file():
        beside = path.with_suffix(".part")
        try:
            torch.hub.download_url_to_file(DOWNLOADS[name] + name, str(beside), progress=True)
        except (OSError, RuntimeError) as error:
            beside.unlink(missing_ok=True)
            raise OutputError(f"{DOWNLOADS[name]}{name}: download failed ({error})") from error
        beside.replace(path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(digest):
        raise ModelError(
            f"{path}: SHA-256 starts with {found[:8]}, expected {digest}; remove the file and download it again"
        )
    return path
