from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cluster_samples import images_of


@pytest.fixture
def people(tmp_path, monkeypatch, astronaut) -> Path:
    """A folder of small images, below the current folder."""
    monkeypatch.chdir(tmp_path)
    return images_of(astronaut, tmp_path / "images")
