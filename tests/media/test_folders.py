"""What a folder stands for."""

from __future__ import annotations

import os
from pathlib import Path

from lithepose.media.image import write_image
from lithepose.media.inputs import expand, skipped


def test_a_folder_gives_images_by_content_too_and_says_what_it_leaves_out(tmp_path, astronaut):
    for name in ("a.jpg", "b", "c.data"):
        write_image(tmp_path / "x.jpg", astronaut)
        (tmp_path / "x.jpg").rename(tmp_path / name)
    for suffix in (".bmp", ".ppm"):
        write_image(tmp_path / f"x{suffix}", astronaut[:8, :8])
        (tmp_path / f"x{suffix}").rename(tmp_path / f"d{suffix[1:]}")
    (tmp_path / "BMI.csv").write_text("BMI, height\n")
    (tmp_path / "P5").write_text("P5. The fifth paragraph")
    (tmp_path / ".hidden").write_text("hidden")
    os.mkfifo(tmp_path / "pipe")  # must not be opened
    assert [Path(i.source).name for i in expand([str(tmp_path)])] == ["a.jpg", "b", "c.data", "dbmp", "dppm"]
    assert skipped(str(tmp_path)) == {".csv": 1, "no suffix": 1}
    assert not skipped(str(tmp_path / "a.jpg"))
