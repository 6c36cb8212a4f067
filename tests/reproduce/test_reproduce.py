"""Items of ``lithepose reproduce`` on generated images: an accuracy table, a table of counts and a figure."""

from __future__ import annotations

import csv
from importlib import import_module
from pathlib import Path

import cv2
import pytest

pytest.importorskip("torch")

from lithepose.cli import main
from lithepose.errors import ConfigError
from lithepose.reproduce.items import ITEMS, matching
from lithepose.reproduce.trained import Form

DOCS = Path(__file__).parents[2] / "docs" / "reproduce.md"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def rows_of(folder: Path, item: str) -> list[dict[str, str]]:
    with (folder / f"{item}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run(tmp_path: Path, item: str, *more: str) -> list[dict[str, str]]:
    assert main(["reproduce", item, "--mini", "--data", str(tmp_path), "--out", str(tmp_path / "out"), *more]) == 0
    page = (tmp_path / "out" / f"{item}.md").read_text(encoding="utf-8")
    assert "mean little" in page
    image = cv2.imread(str(tmp_path / "out" / f"{item}.png"))
    assert image is not None
    assert image.std() > 5
    return rows_of(tmp_path / "out", item)


def test_every_item_has_a_function_and_a_line_in_the_docs():
    text = DOCS.read_text(encoding="utf-8")
    for name, item in ITEMS.items():
        module = import_module(f"lithepose.reproduce.{name.split('/')[0]}")
        assert callable(getattr(module, item.function)), name
        assert f"| `{name}` | {item.title} |" in text, name


def test_every_form_has_recipes_that_name_its_network():
    forms = dict[str, Form]()
    for paper in {name.split("/")[0] for name in ITEMS}:
        module = import_module(f"lithepose.reproduce.{paper}")
        for table in vars(module).values():
            forms |= {k: v for k, v in table.items() if isinstance(v, Form)} if isinstance(table, dict) else {}
    assert len(forms) > 12
    for form in forms.values():
        whole, mini = form.read(False), form.read(True)
        assert whole.network == mini.network
        assert whole.options.get("context") == mini.options.get("context")
        assert form.name(True).startswith(form.mini)
    assert (
        Form("context-cpm", "context-cpm-mini", {}, {"mask_body": 0.0}).name(True) == "context-cpm-mini-mask_body-0.0"
    )


def test_names_are_items_or_papers():
    assert matching(("osokin2019context/table3",)) == ["osokin2019context/table3"]
    hoang = matching(("hoang2020rcnn", "hoang2020rcnn/fig2"))
    assert hoang == [name for name in ITEMS if name.startswith("hoang2020rcnn/")]
    with pytest.raises(ConfigError, match=r"table9: no such item; choose one of hoang2020rcnn/table1"):
        matching(("hoang2020rcnn/table9",))


def test_accuracy_and_a_second_call_that_trains_nothing(tmp_path, capsys):
    item = "debnath2018split/table1"
    (row,) = run(tmp_path, item, "--steps", "2")
    assert row["steps"] == "2"
    assert float(row["last loss"]) > 0
    assert row["paper elbows %"] == "97.6"
    assert 0 <= float(row["elbows %"]) <= 100
    assert "generated" in (tmp_path / "out" / f"{item}.md").read_text(encoding="utf-8")
    (folder,) = (path for path in (tmp_path / "out" / "runs").iterdir() if path.name != "cache")
    before = (folder / "log.jsonl").read_bytes()
    assert run(tmp_path, item, "--steps", "2") == [row]
    assert (folder / "log.jsonl").read_bytes() == before
    assert len(list((folder / "kept").glob("*.safetensors"))) == 2
    folder.rename(tmp_path / "split-stream-mini")
    assert run(tmp_path, item, "--runs", str(tmp_path)) == [row]
    assert [path.name for path in (tmp_path / "out" / "runs").iterdir()] in ([], ["cache"])
    capsys.readouterr()


def test_counts_are_the_papers(tmp_path, capsys):
    rows = {row["module"]: row for row in run(tmp_path, "osokin2019context/table3")}
    assert rows["U-shaped"]["parameters, M"] == "6.440"
    for row in rows.values():
        assert float(row["GMACs"]) == pytest.approx(float(row["paper GFLOPs"]), abs=0.012)
    assert "6.44" in capsys.readouterr().out


def test_augmented_samples_differ_from_the_plain_ones(tmp_path, capsys):
    rows = run(tmp_path, "osokin2019context/fig5")
    assert [row["augmentation"] for row in rows][-1] == "body masking"
    assert all(float(row["share changed"]) > 0.5 for row in rows)
    capsys.readouterr()


def test_unusable_calls(tmp_path, capsys):
    assert main(["reproduce"]) == 2
    assert main(["reproduce", "hoang2020rcnn/table1", "--steps", "3"]) == 2
    assert "--mini" in capsys.readouterr().err
    whole = ["reproduce", "debnath2018split/table1", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(whole) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert main(["reproduce", "--list"]) == 0
    assert "choi2018binarized/bits" in capsys.readouterr().out
