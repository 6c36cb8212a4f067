"""Errors that a user can cause and mend; each message names the file or value and the remedy.

They are also the built-in errors that Python programs expect in their place. Anything else that is raised is a fault of
this package.
"""

from __future__ import annotations


class LitheposeError(Exception):
    """Base of all errors of this package."""


class ImageError(LitheposeError, ValueError):
    """A file, array or box that is no image we can use."""


class VideoError(ImageError):
    """A video, camera or stream that cannot be read, or ends early."""


class ModelError(LitheposeError, ValueError):
    """A model file or weights that cannot be used."""


class DatasetError(LitheposeError, ValueError):
    """Annotations that cannot be used."""


class ConfigError(LitheposeError, ValueError):
    """An option, recipe or combination of them that cannot be carried out."""


class TrainingError(LitheposeError, FloatingPointError):
    """A loss or weight that is not a number."""


class OutputError(LitheposeError, OSError):
    """Results that cannot be written."""


class MissingFileError(LitheposeError, FileNotFoundError):
    """A file or folder that is not there."""


class MissingExtraError(LitheposeError, ImportError):
    """A package that is needed and not installed."""
