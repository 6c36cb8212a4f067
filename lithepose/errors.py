"""Errors that a user can cause and fix. Each message names the file or value and the remedy.

They also derive from the matching built-in errors of Python. Any other exception is a bug in this package.
"""

from __future__ import annotations


class LitheposeError(Exception):
    """Base of all errors of this package."""


class ImageError(LitheposeError, ValueError):
    """A file, array or box that cannot be used as an image."""


class VideoError(ImageError):
    """A video, camera or stream that cannot be read, or ends early."""


class ModelError(LitheposeError, ValueError):
    """A model file or weights that cannot be used."""


class DatasetError(LitheposeError, ValueError):
    """Annotations that cannot be used."""


class ConfigError(LitheposeError, ValueError):
    """An option or recipe that is not valid, or a combination of them that is not possible."""


class TrainingError(LitheposeError, FloatingPointError):
    """A loss or weight that is not a number."""


class OutputError(LitheposeError, OSError):
    """Results that cannot be written."""


class MissingFileError(LitheposeError, FileNotFoundError):
    """A file or folder that does not exist."""


class MissingExtraError(LitheposeError, ImportError):
    """A required package that is not installed."""
