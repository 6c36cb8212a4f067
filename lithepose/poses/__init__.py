"""The result type: the people of one image, as arrays, persons, tables and json."""

from .poses import Poses

__all__ = ["Poses"]
