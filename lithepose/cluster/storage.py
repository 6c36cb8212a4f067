"""The folder of results, on a disk or an object store: every file is complete or does not exist."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import ConfigError, MissingExtraError, OutputError

WHOLE_PUTS = frozenset("s3 s3a gs gcs az abfs abfss adl oss memory".split())  # a file appears when its upload ends


def open_fs(address: str) -> tuple[Any, str]:
    """The fsspec file system of a path or address, and the path in it.

    Raises:
        MissingExtraError: the package for this kind of address is not installed.
        ConfigError: unknown kind of address.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise MissingExtraError(f"{address}: {error}") from error
    except ValueError as error:
        raise ConfigError(
            f"{address}: {error}; use a path, or an address that fsspec supports, such as s3://..."
        ) from error


class Store:
    """Files under one path or address.

    Args:
        out: path or address; a relative path is relative to this process's folder.
    """

    def __init__(self, out: str) -> None:
        from fsspec.implementations.local import LocalFileSystem

        self.fs, self.root = open_fs(out)
        self.local = isinstance(self.fs, LocalFileSystem)
        protocol = self.fs.protocol if isinstance(self.fs.protocol, str) else self.fs.protocol[0]
        self._whole = protocol in WHOLE_PUTS

    def path(self, name: str) -> str:
        """The path of a file in its file system."""
        return f"{self.root}/{name}"

    def temporary(self) -> Path:
        """A path on this machine for a new file, which :meth:`commit` then puts in its place."""
        if not self.local:
            return Path(tempfile.gettempdir()) / f"lithepose-{uuid.uuid4().hex}"
        folder = Path(self.root) / "tmp"  # of the same file system, for the rename
        folder.mkdir(parents=True, exist_ok=True)
        return folder / uuid.uuid4().hex

    def commit(self, file: Path, name: str) -> None:
        """Put a complete file in its place; it replaces a file of the same name.

        Raises:
            OutputError: it cannot be written.
        """
        path = self.path(name)
        try:
            if self.local:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                with file.open("rb+") as written:
                    os.fsync(written.fileno())
                file.replace(path)
                return
            if self._whole:
                self.fs.put_file(str(file), path)
            else:
                beside = f"{path}.{uuid.uuid4().hex}.part"
                self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
                self.fs.put_file(str(file), beside)
                self.fs.mv(beside, path)
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be written ({error}); free some space, or choose another --out"
            ) from error
        file.unlink(missing_ok=True)

    def write_text(self, name: str, text: str) -> None:
        """Write a small file."""
        file = self.temporary()
        try:
            file.write_text(text, encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise OutputError(
                f"{self.path(name)}: cannot be written ({error}); free some space, or choose another --out"
            ) from error
        self.commit(file, name)

    def write_lines(self, name: str, items: Iterable[dict[str, Any]]) -> None:
        """Write one json per line; without items, remove an earlier file."""
        text = "".join(json.dumps(item) + "\n" for item in items)
        self.write_text(name, text) if text else self.remove(name)

    def read_text(self, name: str) -> str | None:
        """The content of a small file; None if it does not exist."""
        try:
            return self.fs.cat_file(self.path(name)).decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            return None

    def exists(self, name: str) -> bool:
        """Whether a file exists."""
        self.fs.invalidate_cache()
        return self.fs.isfile(self.path(name))

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with what it holds; do nothing if it does not exist."""
        try:
            self.fs.rm(self.path(name), recursive=True)
        except FileNotFoundError:
            pass
        except OSError as error:
            if self.fs.exists(self.path(name)):
                raise OutputError(f"{self.path(name)}: cannot be removed ({error})") from error

    def names(self, folder: str, suffix: str) -> Iterator[str]:
        """``part=.../NAME`` of the files under a folder, without the suffix."""
        self.fs.invalidate_cache()
        try:
            parts = self.fs.ls(self.path(folder), detail=False)
        except FileNotFoundError:
            return
        for part in parts:
            if not part.rstrip("/").rpartition("/")[2].startswith("part="):
                continue
            for path in self.fs.ls(part, detail=False):
                if path.endswith(suffix):
                    yield "/".join(path.removesuffix(suffix).split("/")[-2:])
