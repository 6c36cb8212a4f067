"""Paths of the files that come with the package."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
SAMPLE = Path(__file__).parent / "samples" / "astronaut.jpg"
