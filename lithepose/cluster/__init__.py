"""Prediction on many machines: any number of images and videos -> partitioned Parquet, with Ray.

:func:`predict` is what ``lithepose cluster`` calls.
"""

from __future__ import annotations

from .config import Machines, Options
from .run import Progress, Summary, predict

__all__ = ["Machines", "Options", "Progress", "Summary", "predict"]
