"""Checks of files before a command writes them, and options as json."""

from __future__ import annotations

import json
import re
from collections.abc import Set
from pathlib import Path
from typing import Any

from ...errors import ConfigError, MissingFileError, OutputError
from ...writers.overwrite import is_one_of


def check_output(path: Path, option: str) -> None:
    """Refuse a file that cannot be written, before the work starts.

    Raises:
        ConfigError: it is a folder.
        OSError: its folder does not exist, or cannot be written to.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; choose a file")
    if not path.parent.is_dir():
        raise MissingFileError(f"{path.parent}: no such folder; create it, or choose another {option}")
    try:
        try:
            path.open("xb").close()
        except FileExistsError:
            if path.is_file():  # neither a device nor a pipe, which would wait for its reader
                path.open("ab").close()
        else:
            path.unlink()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another {option}") from error


def refuse_existing(path: Path, overwrite: bool, resume: str = "") -> None:
    """Refuse to replace the results of an earlier call.

    Args:
        path: file, or folder of files.
        overwrite: allow replacing them.
        resume: text on another way to continue, for the message.

    Raises:
        ConfigError: it exists and is not empty.
    """
    if overwrite or str(path) == "-":
        return
    there = any(path.iterdir()) if path.is_dir() else path.is_file() and path.stat().st_size > 0
    if there:
        raise ConfigError(f"{path}: already exists; use --overwrite to replace it{resume}, or choose another file")


def keep_inputs(path: Path, option: str, read: tuple[Path, ...], names: Set[str] = frozenset()) -> None:
    """Refuse to overwrite a file that is read.

    Args:
        path: file to write.
        option: option that names it.
        read: files, and folders from which annotations (a json object; results are a list) and images are read.
        names: names of these images.

    Raises:
        ConfigError: it is one of them.
    """
    if not path.is_file():
        return
    inputs = list(read)
    if any(source.is_dir() and source.resolve() in path.resolve().parents for source in read):
        with path.open("rb") as file:
            annotations = file.read(100).lstrip()[:1] == b"{"
        inputs += [path] if annotations or path.name in names else []
    if is_one_of(path, inputs):
        raise ConfigError(f"{option} {path}: is one of the input files; choose another file")


def keep_sources(json: Path, sources: list[str]) -> None:
    """Refuse to overwrite an image or a file that is read.

    Raises:
        ConfigError: it is such a file.
    """
    from ...media.inputs import IMAGES, VIDEOS

    if json.suffix.lower() in IMAGES | VIDEOS:
        raise ConfigError(f"{json}: has the suffix of an image or video; use .json, .jsonl or .csv for the results")
    if str(json) != "-" and is_one_of(json, sources):
        raise ConfigError(f"{json}: is one of the input files; choose another file for the results")


def parse_options(text: str) -> dict[str, Any]:
    """Options of a network from json; lists become tuples, as in its config."""
    try:
        return {k: tuple(v) if isinstance(v, list) else v for k, v in dict(json.loads(text)).items()}
    except (ValueError, TypeError) as error:
        raise ConfigError(f"--options {text!r}: must be a JSON object, such as '{{\"width\": 128}}'") from error


def parse_size(text: str) -> tuple[int, int]:
    """Height and width from ``HEIGHTxWIDTH``.

    Raises:
        ConfigError: it has another form.
    """
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise ConfigError(f"--size {text}: must be HEIGHTxWIDTH, such as 256x384")
    return int(match[1]), int(match[2])
