from __future__ import annotations

import contextlib
import gzip
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from lithepose.cli import main
from lithepose.data.coco import KeypointSet
from lithepose.data.formats import open_dataset
from lithepose.errors import DatasetError
from lithepose.evaluation.evaluate import evaluate, evaluate_boxes
from lithepose.evaluation.metrics import oks
from lithepose.heads.base import DecodeConfig
from lithepose.heads.boxes import BoxHead
from lithepose.heads.outputs import Boxes, Found
from lithepose.heads.people import LITHE_HEAD
from lithepose.inference.detector import PersonDetector
from lithepose.inference.load import load
from lithepose.inference.predictor import Predictor
from lithepose.inference.top_down import TopDown
from lithepose.poses import Poses
from lithepose.runtime.base import ModelInfo
from lithepose.skeleton import COCO_17, LSP_14


def perfect(record, shift: float = 0.0) -> list[dict]:
    """Results that repeat the labels, moved by ``shift`` pixels."""
    people = [a for a in record.people if a["num_keypoints"]]
    joints = np.array([a["keypoints"] for a in people], np.float32).reshape(-1, 17, 3)
    xy = joints[..., :2] + np.float32([shift, 0])
    n = len(people)
    return Poses(xy, np.ones((n, 17), "f4"), np.full(n, 0.9, "f4"), COCO_17, (200, 160)).to_coco(record.id)


def test_perfect_results_have_ap_1_and_shifted_ones_the_ap_of_their_oks(stick_images):
    records = KeypointSet.open(stick_images).records
    scores = oks(records, [r for p in records for r in perfect(p)])
    assert scores["AP"] == pytest.approx(1)
    assert scores["AR"] == pytest.approx(1)
    shift = 6.0
    a = records[0].people[0]
    # Lin et al., COCO keypoint evaluation: mean of exp(-d^2 / (2 area (2 sigma)^2)).
    sigmas = np.array(COCO_17.sigmas)
    similarity = np.exp(-(shift**2) / (2 * a["area"] * (2 * sigmas) ** 2)).mean()
    shifted = oks(records, [r for p in records for r in perfect(p, shift)])
    passed = (np.arange(0.5, 1, 0.05) <= similarity).mean()
    assert 0 < passed < 1
    assert shifted["AP"] == pytest.approx(passed, abs=0.01)


@pytest.mark.parametrize("noise", [0.0, 2.0, 6.0])
def test_oks_is_that_of_pycocotools(stick_images, noise):
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    records, rng = KeypointSet.open(stick_images).records, np.random.default_rng(0)
    results = [r for p in records for r in perfect(p)] * 2
    for i, result in enumerate(results):
        joints = np.array(result["keypoints"]).reshape(17, 3)
        joints[:, :2] += rng.normal(0, noise, (17, 2))
        results[i] = result | {"keypoints": joints.ravel().tolist(), "score": float(rng.random())}
    truth = coco.COCO()
    truth.dataset = json.loads((stick_images / "val.json").read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found = truth.loadRes([{k: v for k, v in r.items() if k != "bbox"} for r in results])
        oracle = cocoeval.COCOeval(truth, found, "keypoints")
        oracle.evaluate()
        oracle.accumulate()
        oracle.summarize()
    assert list(oks(records, results).values()) == pytest.approx(oracle.stats.tolist(), abs=1e-6)
    assert 0.01 < oracle.stats[0] < 1


def test_nothing_found_scores_zero_and_sigmas_are_needed(stick_images):
    records = KeypointSet.open(stick_images).records
    assert set(oks(records, []).values()) == {0.0}
    with pytest.raises(ValueError, match="lsp14"):
        oks(records, [], LSP_14)


def test_evaluate_reads_folders_and_archives_alike(stick_images, tmp_path):
    # Stick figures are hardly people: whatever looks a little like a joint shall do.
    model = Predictor("lithe_paf", threads=2, config=DecodeConfig(peak=0.02, joints=2))
    archive = tmp_path / "sticks.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(stick_images, "sticks")
    one, two = evaluate(model, stick_images), evaluate(model, archive)
    assert one.scores == two.scores
    assert one.results == two.results
    assert one.results, "nobody is found, so nothing is compared"
    with tarfile.open(tmp_path / "packed.tar.gz", "w:gz") as tar:
        tar.add(stick_images, "sticks")
    with pytest.raises((ValueError, FileNotFoundError), match="packed"):
        KeypointSet.open(tmp_path / "packed.tar.gz")


def test_wrong_data_sets_are_named(stick_images, model):
    with pytest.raises(FileNotFoundError, match=r"test\.json"):
        KeypointSet.open(stick_images, "test")
    content = json.loads((stick_images / "val.json").read_text())
    content["categories"][0]["keypoints"] = list(LSP_14.joints)
    for annotation in content["annotations"]:
        annotation["keypoints"] = annotation["keypoints"][: 3 * 14]
    (stick_images / "lsp.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="neck, head_top"):
        evaluate(model, stick_images, "lsp", "oks")
    (stick_images / "bad.json").write_text('{"images": []}')
    with pytest.raises(ValueError, match=r"bad\.json"):
        KeypointSet.open(stick_images, "bad")
    whole = gzip.compress((stick_images / "val.json").read_bytes())
    (stick_images / "cut.json.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.json\.gz: not a COCO-keypoint json \(EOFError"):
        KeypointSet.open(stick_images / "cut.json.gz")
    (stick_images / "latin.json").write_bytes(b'{"images": "M\xfcller' + b" " * 10000 + b'"}')
    with pytest.raises(ValueError, match=r"latin\.json") as caught:
        KeypointSet.open(stick_images, "latin")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("keypoints", [[1, 2, 2] * 16, [1, 2, None] * 17])
def test_annotations_with_wrong_keypoints_are_named(stick_images, keypoints):
    content = json.loads((stick_images / "val.json").read_text())
    content["annotations"][3]["keypoints"] = keypoints
    (stick_images / "odd.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"odd\.json.*annotation {content['annotations'][3]['id']}: .* 51 finite"):
        KeypointSet.open(stick_images, "odd")


def test_an_archive_that_is_cut_off_is_told_from_a_packed_one(stick_images, tmp_path):
    archive = tmp_path / "sticks.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(stick_images, "sticks")
    archive.write_bytes(archive.read_bytes()[:-20000])
    with pytest.raises(ValueError, match="truncated"):
        KeypointSet.open(archive)
    with tarfile.open(tmp_path / "sticks.tar.gz", "w:gz") as tar:
        tar.add(stick_images, "sticks")
    with pytest.raises(ValueError, match=r"sticks\.tar\.gz: compressed archive"):
        open_dataset(tmp_path / "sticks.tar.gz")


@pytest.mark.parametrize(("option", "name"), [("--json", "val.json"), ("--curve", "image")])
def test_evaluate_writes_over_nothing_that_it_reads(stick_images, capsys, option, name):
    sample = open_dataset(stick_images).records[0].file_name
    path = next(stick_images.rglob(sample)) if name == "image" else stick_images / name
    before = path.read_bytes()
    call = ["evaluate", "lithe_paf", "--data", str(stick_images), "--metric", "pck", option, str(path)]
    assert main(call) == 2
    assert "is one of the input files" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_the_split_decides_between_images_of_the_same_name(stick_images):
    content = json.loads((stick_images / "val.json").read_text())
    name = Path(content["images"][0]["file_name"]).name
    content["images"][0]["file_name"] = name
    (stick_images / "other.json").write_text(json.dumps(content))
    for split, grey in (("train", 10), ("other", 200)):
        (stick_images / split).mkdir()
        cv2.imwrite(str(stick_images / split / name), np.full((8, 8, 3), grey, np.uint8))
    files = KeypointSet.open(stick_images, "other").files
    assert (files.image(name) == 200).all()
    (stick_images / "third.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=name):
        KeypointSet.open(stick_images, "third").files.read(name)


def test_keypoints_are_counted_where_the_number_is_missing(stick_images):
    content = json.loads((stick_images / "val.json").read_text())
    for annotation in content["annotations"]:
        del annotation["num_keypoints"]
    (stick_images / "bare.json").write_text(json.dumps(content))
    counted, said = (KeypointSet.open(stick_images, s).records for s in ("bare", "val"))
    assert [[a["num_keypoints"] for a in p.people] for p in counted] == [
        [a["num_keypoints"] for a in p.people] for p in said
    ]


def test_a_skeleton_that_names_no_joint_is_told_with_its_file(stick_images):
    content = json.loads((stick_images / "val.json").read_text())
    content["categories"][0]["skeleton"] = [[1, 99]]
    (stick_images / "odd.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"odd\.json"):
        KeypointSet.open(stick_images, "odd")


class Labels:
    """A detector's runtime that predicts the labels of a data set, image after image, and ``more`` boxes."""

    info = ModelInfo("labels", BoxHead(), 8, 200)

    def __init__(self, dataset, first=0, more=()):
        self.people = [[p["bbox"] for p in record.people if not p.get("iscrowd")][first:] for record in dataset.records]
        self.more, self.calls = list(more), 0

    def __call__(self, images):
        boxes = np.array([*self.people[self.calls], *self.more], np.float32).reshape(-1, 4)
        self.calls += 1
        score = np.linspace(0.9, 0.5, len(boxes)).astype(np.float32)
        return [Boxes(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1), score)]


def test_boxes_that_repeat_the_labels_are_perfect(stick_images):
    dataset = KeypointSet.open(stick_images)
    scores = evaluate_boxes(PersonDetector(Labels(dataset)), dataset).scores
    assert scores["AP"] == pytest.approx(1)
    assert scores["recall, 96 to 192"] == 1
    assert scores["recall, 24 to 48"] == 1  # the one without keypoints
    assert scores["false boxes an image"] == 0


def test_missing_boxes_and_boxes_of_nobody_are_counted(stick_images):
    dataset = KeypointSet.open(stick_images)
    scores = evaluate_boxes(PersonDetector(Labels(dataset, first=1, more=[(2, 140, 15, 15)])), dataset).scores
    assert scores["false boxes an image"] == 1
    assert scores["recall, 96 to 192"] == pytest.approx(4 / 12)
    assert 0 < scores["AP"] < 0.6
    nothing = evaluate_boxes(PersonDetector(Labels(dataset, first=9)), dataset).scores
    assert nothing["AP"] == 0


def test_boxes_in_a_crowd_are_neither_right_nor_wrong(stick_images):
    dataset = KeypointSet.open(stick_images)
    dataset = replace(dataset, records=dataset.records[:1])  # whose crowd is at 150, 0, 40 x 40
    scores = evaluate_boxes(PersonDetector(Labels(dataset, more=[(150, 0, 40, 40)])), dataset).scores
    assert scores["false boxes an image"] == 0


def test_annotated_boxes_in_place_of_the_detectors(stick_images):
    class Middle:
        """All joints in the middle of the crop."""

        info = ModelInfo("middle", LITHE_HEAD, 32, 256, crop=(256, 192))

        def __call__(self, images):
            xy = np.full((1, 17, 2), (95.5, 127.5), np.float32)
            return [Found(xy, np.full((1, 17), 0.9, "f4"), np.full(1, 0.9, "f4"))] * len(images)

    dataset = KeypointSet.open(stick_images)
    detector = PersonDetector(Labels(dataset, first=9))  # which finds nobody
    model = TopDown(Predictor(Middle()), detector)
    assert evaluate(model, dataset).results == []
    done = evaluate(model, dataset, crop="boxes")
    people = [p for record in dataset.records for p in record.people if p["num_keypoints"]]
    assert len(done.results) == len(people)
    for result, person in zip(done.results, people, strict=True):
        x, y, w, h = person["bbox"]
        assert result["keypoints"][:2] == pytest.approx([x + w / 2, y + h / 2], abs=0.02)
    with pytest.raises(ValueError, match="behind a person detector"):
        evaluate(Predictor("lithe_paf"), dataset, crop="boxes")


def changed(stick_images: Path, tmp_path: Path, change) -> Path:
    """The annotations of the sticks with a change, in a folder of their own."""
    data = json.loads((stick_images / "val.json").read_text())
    change(data)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(data))
    return path


def no_labels(data) -> None:
    for annotation in data["annotations"]:
        annotation.update(keypoints=[0] * 51, num_keypoints=0)


def other_size(data) -> None:
    for image in data["images"]:
        image["width"], image["height"] = image["height"], image["width"]


@pytest.mark.parametrize(("change", "why"), [(no_labels, "no labelled person"), (other_size, "before EXIF rotation")])
def test_what_says_nothing_is_not_measured(stick_images, tmp_path, change, why):
    dataset = open_dataset(changed(stick_images, tmp_path, change), "val", (stick_images,))
    with pytest.raises(DatasetError, match=why):
        evaluate(load("lithe_paf", size=64, threads=1), dataset)


def test_a_score_of_nothing_is_doubted(stick_images):
    dataset = KeypointSet.open(stick_images)
    done = evaluate(load("lithe_paf", size=64, threads=1).with_config(peak=0.99), dataset)
    assert done.scores["AP"] == 0
    assert "AP is 0: no person was found in any image" in done.doubt
    assert f"people with labelled joints in {len(dataset)} images, found in full images" in done.basis
    assert "no person was found where people are labelled" in replace(done, results=[{}]).doubt
    assert not replace(done, scores={"AP": 0.1}).doubt
