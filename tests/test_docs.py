"""What the documentation shows is what there is: help texts, links, images.

`LITHEPOSE_WRITE_DOCS=1 pytest tests/test_docs.py` writes the help texts anew.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from lithepose.cli import main
from lithepose.skeleton import SKELETONS

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
COMMANDS = ROOT / "docs" / "commands.md"
HELP = {"lithepose --help": ["--help"], "lithepose predict --help": ["predict", "--help"]}


@pytest.mark.parametrize("title", HELP)
def test_the_help_of_the_docs_is_that_of_the_command(monkeypatch, capsys, title):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    assert main(HELP[title]) == 0
    text = capsys.readouterr().out.strip()
    assert max(map(len, text.splitlines())) <= 80
    written = COMMANDS.read_text(encoding="utf-8")
    found = re.search(rf"(?<=## {title}\n\n```text\n).*?(?=\n```\n)", written, re.DOTALL)
    assert found, title
    if os.environ.get("LITHEPOSE_WRITE_DOCS"):
        COMMANDS.write_text(written[: found.start()] + text + written[found.end() :], encoding="utf-8")
        return
    assert found[0] == text, "write it anew: LITHEPOSE_WRITE_DOCS=1 pytest tests/test_docs.py"


@pytest.mark.parametrize("path", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]), ids=lambda p: p.name)
def test_links_to_files_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
        assert "://" in link or (path.parent / link).exists(), link


def test_tests_that_the_docs_name_exist():
    for path in (ROOT / "docs").glob("*.md"):
        for file, name in re.findall(r"\]\(\.\./(tests/[\w/]+\.py)\) `(test_\w+)`", path.read_text(encoding="utf-8")):
            assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), name


@pytest.mark.parametrize(("name", "size"), [("styles.jpg", (1024, 564)), ("angles.jpg", (1140, 420))])
def test_drawn_images(name, size):
    path = ROOT / "docs" / "images" / name
    assert path.stat().st_size < 200_000
    image = cv2.imread(str(path))
    assert image.shape[1::-1] == size
    assert image.std() > 20


def test_drawings_are_those_of_the_code(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "draw_docs.py", "--out", tmp_path], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    drawn = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.svg"))
    assert len(drawn) == 2 + len(SKELETONS)
    for path in drawn:
        assert (IMAGES / path).read_bytes() == (tmp_path / path).read_bytes(), f"python scripts/draw_docs.py: {path}"


def test_readme_is_one_screen():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 60
