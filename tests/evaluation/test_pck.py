from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from lithepose.data.formats import open_dataset
from lithepose.evaluation.evaluate import evaluate
from lithepose.evaluation.metrics import pck, torso_length
from lithepose.geometry import GREY, MARGIN, cut, letterbox
from lithepose.heads.heatmaps import FLIC_HEAD, heatmaps
from lithepose.heads.outputs import Found, Maps
from lithepose.heads.pafs import COCO_HEAD, PafHead, part_affinity_fields
from lithepose.heads.people import COCO_INSTANCES, FLIC_COORDINATES, LITHE_HEAD, CoordinateHead
from lithepose.inference.predictor import Predictor
from lithepose.runtime.onnx import ModelInfo
from lithepose.skeleton import COCO_17, FLIC_11, LSP_14, Skeleton


def test_by_hand():
    """Two people of three joints; reference lengths 10 and 20; thresholds 0.1 and 0.2."""
    truth = np.array([[[0, 0, 2], [10, 0, 1], [0, 10, 0]], [[0, 0, 2], [30, 0, 2], [0, 30, 2]]], float)
    found = np.array([[[1, 0], [10, 1.5], [0, 10]], [[3, 0], [np.nan, np.nan], [0, 34.1]]], float)
    result = pck(truth, found, np.array([10.0, 20.0]), np.array([0.1, 0.2]))
    # Distances over reference: 0.1, 0.15, not labelled; 0.15, not found, 0.205.
    assert result.count.tolist() == [2, 2, 1]
    assert result.correct.tolist() == [[0.5, 0, 0], [1, 0.5, 0]]
    assert result.at(0.2) == pytest.approx(3 / 5)
    assert result.at(0.1) == pytest.approx(1 / 5)
    assert result.at(0.2, [0, 2]) == pytest.approx(2 / 3)
    assert result.area() == pytest.approx((1 / 5 + 3 / 5) / 2)
    with pytest.raises(ValueError, match=r"0\.15"):
        result.at(0.15)
    left_out = pck(truth, found, np.array([np.nan, 20.0]), np.array([0.2]))
    assert left_out.count.tolist() == [1, 1, 1]


def test_torso_by_hand():
    truth = np.zeros((2, 11, 3))
    truth[0, FLIC_11.joints.index("left_hip")] = 3, 4, 2
    truth[:, FLIC_11.joints.index("right_shoulder")] = 0, 0, 1
    assert torso_length(truth, FLIC_11) == pytest.approx([5, np.nan], nan_ok=True)


class Fixed:
    """A network of one person that answers with the brightest pixel of each colour, or of red for all joints."""

    info = ModelInfo("fixed", CoordinateHead(FLIC_11, FLIC_11), 16, 64)

    def __call__(self, images: np.ndarray) -> list[Found]:
        results = []
        for image in images:
            places = [np.unravel_index(int(image[..., c].argmax()), image.shape[:2])[::-1] for c in (0, 1)]
            # Left joints are marked red, right ones green.
            xy = [places["right" in name] for name in FLIC_11.joints]
            results.append(Found(np.array([xy], np.float32), np.full((1, 11), 0.9, "f4"), np.full(1, 0.9, "f4")))
        return results


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    """Images of one or two people; each person's left joints lie at one red dot and the right ones at a green dot."""
    images, annotations = [], []
    for i, corners in enumerate(([(8, 8)], [(8, 8), (70, 8)])):
        sample = np.zeros((64, 64 * len(corners), 3), np.uint8)
        for x, y in corners:
            red, green = (x + 30, y + 10), (x + 8, y + 36)
            sample[red[1], red[0], 2], sample[green[1], green[0], 1] = 255, 255  # BGR
            joints = [(*(green if "right" in name else red), 2) for name in FLIC_11.joints]
            low, high = np.minimum(red, green), np.maximum(red, green)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i,
                    "keypoints": np.array(joints).ravel().tolist(),
                    "bbox": [*low.tolist(), *(high - low).tolist()],
                    "area": 500,
                }
            )
        cv2.imwrite(str(tmp_path / f"{i}.png"), sample)
        images.append({"id": i, "file_name": f"{i}.png", "width": sample.shape[1], "height": 64})
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"name": "person", "keypoints": list(FLIC_11.joints)}],
    }
    (tmp_path / "val.json").write_text(json.dumps(content))
    return tmp_path


def test_one_person_networks_look_at_everybody_alone(marked):
    predictor = Predictor(Fixed())
    assert predictor.single_person
    done = evaluate(predictor, marked)
    assert done.metric == "pck"
    assert done.scores["PCK@0.2"] == 1
    assert len(done.results) == 3
    assert done.joints.keys() == set(FLIC_11.joints)
    assert done.scores["elbows"] == 1


def test_the_crop_around_joints_leaves_out_those_that_the_network_lacks(marked):
    path = marked / "val.json"
    content = json.loads(path.read_text())
    content["categories"][0]["keypoints"].append("left_ankle")
    for person in content["annotations"]:
        person["keypoints"] += [0, 500, 2]
    path.write_text(json.dumps(content))
    sides = []

    class Looking(Predictor):
        def within(self, image, box):
            sides.append(max(box[2:]))
            return super().within(image, box)

    assert evaluate(Looking(Fixed()), marked, crop="joints").scores["PCK@0.2"] == 1
    assert sides == [pytest.approx(26 * MARGIN)] * 3  # from the red dot to the green one
    sides.clear()
    evaluate(Looking(Fixed()), marked)
    assert sides == [64, *[pytest.approx(26 * MARGIN)] * 2]  # the one who is alone in the image: all of it
    with pytest.raises(ValueError, match="crop 'whole'"):
        evaluate(Looking(Fixed()), marked, crop="whole")
    with pytest.raises(ValueError, match="single-person"):
        evaluate(Looking("lithe_paf"), marked, metric="pck", crop="joints")


def test_people_with_few_labelled_joints_can_be_left_out(marked):
    path = marked / "val.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["keypoints"][8::3] = [0] * 9  # two are left, at the same place
    path.write_text(json.dumps(content))
    assert len(evaluate(Predictor(Fixed()), marked, min_joints=3).results) == 2
    assert len(evaluate(Predictor(Fixed()), marked, min_joints=2, crop="joints").results) == 3


def test_a_network_that_errs_is_not_right(marked):
    class Wrong(Fixed):
        def __call__(self, images: np.ndarray) -> list[Found]:
            out = super().__call__(images)
            for result in out:
                result.xy[:, FLIC_11.joints.index("nose")] += 20
            return out

    done = evaluate(Predictor(Wrong()), marked)
    assert done.joints["nose"] == 0
    assert done.joints["left_eye"] == 1
    assert done.scores["PCK@0.2"] == pytest.approx(10 / 11)


def test_metrics_that_do_not_fit_are_refused(marked, model):
    with pytest.raises(ValueError, match="head sizes"):
        evaluate(model, marked, metric="pckh")
    with pytest.raises(ValueError, match="sigmas"):
        evaluate(Predictor(Fixed()), marked, metric="oks")
    with pytest.raises(ValueError, match="mota"):
        evaluate(model, marked, metric="mota")


def test_many_person_networks_are_measured_by_the_nearest(marked):
    class Everybody:
        info = ModelInfo("everybody", COCO_INSTANCES, 64, 64)

        def __call__(self, images: np.ndarray) -> list[Found]:
            truth = [p for record in open_dataset(marked).records for p in record.people]
            xy = np.zeros((len(truth), 17, 2), np.float32)
            for row, person in zip(xy, truth, strict=True):
                joints = np.array(person["keypoints"]).reshape(-1, 3)[:, :2]
                for name, at in zip(FLIC_11.joints, joints, strict=True):
                    row[COCO_HEAD.output.joints.index(name)] = at
            score = np.full((len(truth), 17), 0.9, np.float32)
            return [Found(xy, score, score[:, 0])]

    done = evaluate(Predictor(Everybody(), size=128), marked, metric="pck")
    assert done.scores["PCK@0.2"] > 0.6  # the first image, half as wide, is enlarged and so are its joints


def test_mirrored_maps_are_the_maps_of_the_mirror_image():
    rng = np.random.default_rng(0)
    heatmaps, pafs = rng.random((18, 6, 8)).astype("f4"), rng.normal(size=(38, 6, 8)).astype("f4")
    maps = Maps.from_arrays(heatmaps, pafs, 48)
    once = COCO_HEAD.unmirror(maps, 64)
    twice = COCO_HEAD.unmirror(once, 64)
    assert np.array_equal(twice.heatmaps, heatmaps)
    assert np.array_equal(twice.pafs, pafs)
    left, right = (COCO_HEAD.skeleton.joints.index(f"{side}_wrist") for side in ("left", "right"))
    assert np.array_equal(once.heatmaps[left], heatmaps[right][:, ::-1])
    i = COCO_HEAD.limbs.index((COCO_HEAD.skeleton.joints.index("left_elbow"), left))
    j = COCO_HEAD.limbs.index((COCO_HEAD.skeleton.joints.index("right_elbow"), right))
    assert np.array_equal(once.pafs[2 * i], -pafs[2 * j][:, ::-1])
    assert np.array_equal(once.pafs[2 * i + 1], pafs[2 * j + 1][:, ::-1])


@pytest.mark.parametrize("skeleton", [COCO_17, LSP_14], ids=lambda s: s.name)
def test_maps_of_mirrored_people_are_the_mirrored_maps(skeleton):
    """Also where an edge joins left to right, as hips, and where one side's edges run upwards and the other's down."""
    head = PafHead(skeleton, skeleton, limbs=skeleton.edges)
    assert -1 in head.limb_flip_sign
    rng = np.random.default_rng(0)
    joints = np.concatenate([rng.uniform(0, 64, (2, len(skeleton), 2)), np.full((2, len(skeleton), 1), 2)], 2)
    mirrored = joints[:, list(skeleton.flip_order)] * [-1, 1, 1] + [63, 0, 0]

    def maps(joints: np.ndarray) -> Maps:
        return Maps.from_arrays(heatmaps(joints, head, 8, 8), part_affinity_fields(joints, head, 8, 8), 64)

    back = head.unmirror(maps(mirrored), 64)
    assert isinstance(back, Maps)
    assert np.allclose(back.heatmaps, maps(joints).heatmaps, atol=1e-5)
    assert np.allclose(back.pafs, maps(joints).pafs, atol=1e-5)


def test_a_limb_without_its_mirror_image_is_named():
    skeleton = Skeleton("hat", ("top", "left_rim", "right_rim"), ((0, 1), (1, 2)), ((1, 2),))
    head = PafHead(skeleton, skeleton, limbs=skeleton.edges)
    with pytest.raises(
        ValueError, match="hat has a limb from top to left_rim, but no mirrored limb from top to right_rim"
    ):
        head.limb_flip_order  # noqa: B018


def test_mirrored_coordinates():
    xy = np.random.default_rng(0).uniform(0, 63, (1, 11, 2)).astype("f4")
    score = np.linspace(0.1, 1, 11, dtype="f4")[None]
    once = FLIC_COORDINATES.unmirror(Found(xy, score, score[:, 0]), 64)
    left, right = FLIC_11.joints.index("left_wrist"), FLIC_11.joints.index("right_wrist")
    assert once.xy[0, left] == pytest.approx([63 - xy[0, right, 0], xy[0, right, 1]])
    assert once.score[0, left] == score[0, right]
    fitted = letterbox(np.zeros((64, 64, 3), np.uint8), 64, 16)[1]
    both = FLIC_COORDINATES.average([(Found(xy, score, score[:, 0]), fitted), (once, fitted)])
    # The surer view of a joint counts more.
    one, other = score[..., None], once.score[..., None]
    assert both.xy == pytest.approx((xy * one + once.xy * other) / (one + other), abs=1e-3)
    assert both.score == pytest.approx((score + once.score) / 2)


def test_places_of_a_joint_that_lie_far_apart_are_not_averaged():
    """Between a left and a right ankle there is no ankle."""
    xy = np.full((1, 17, 2), 100, "f4")
    near, far = xy + np.float32(8), xy + np.float32(40)
    score = np.full((1, 17), 0.4, "f4")
    surest = np.where(np.arange(17) == 3, 0.9, 0.5).astype("f4")[None]
    fitted = letterbox(np.zeros((256, 192, 3), np.uint8), 256, 32)[1]
    views = [(Found(where, s, s[:, 0]), fitted) for where, s in ((xy, score), (near, score), (far, surest))]
    merged = LITHE_HEAD.average(views)
    assert merged.xy == pytest.approx(far), "the surest view"
    views[2] = (Found(far, score / 2, score[:, 0]), fitted)
    assert LITHE_HEAD.average(views).xy == pytest.approx(xy + 4, abs=1e-3)


def test_scales_are_averaged_where_they_lie():
    """A Gaussian seen at three sizes of the input keeps its place in the image."""
    sample = np.zeros((96, 128, 3), np.uint8)
    at = np.array([70.3, 41.8])
    results = []
    for size in (128, 96, 192):
        pixels, back = letterbox(sample, size, 16)
        h, w = pixels.shape[0] // 4, pixels.shape[1] // 4
        cells = (back.to_input(at) - 1.5) / 4
        rows, columns = np.mgrid[:h, :w]
        blob = np.exp(-((columns - cells[0]) ** 2 + (rows - cells[1]) ** 2) / (2 * (1.5 * size / 128) ** 2))
        heatmaps = np.repeat(blob[None].astype("f4"), 11, 0)
        results.append((Maps.from_arrays(heatmaps, np.empty((0, h, w), "f4")), back))
    merged = FLIC_HEAD.average(results)
    assert merged.heatmaps.shape == results[0][0].heatmaps.shape
    weight = np.maximum(merged.heatmaps[0] - 0.3, 0)
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]]
    centre = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
    assert results[0][1].to_image(centre * 4 + 1.5) == pytest.approx(at, abs=0.4)


def test_flip_test_of_the_default_network_helps_or_does_little(astronaut):
    one, two = (
        Predictor("lithe_paf", threads=2)(astronaut),
        Predictor("lithe_paf", threads=2, flip=True, scales=(1.0, 0.8))(astronaut),
    )
    nose = one.joints.index("nose")
    assert np.hypot(*(one.xy[0, nose] - two.xy[0, nose])) < 5


@pytest.mark.parametrize("box", [[10, 5, 20, 10], [-7, -3, 30, 30], [50, 30, 40, 40], [200, 200, 5, 5]])
def test_cut_and_its_corner(box):
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    crop, corner = cut(image, box)
    assert crop.shape == (box[3], box[2], 3)
    for y, x in ((0, 0), (box[3] - 1, box[2] - 1), (box[3] // 2, box[2] // 2)):
        row, column = int(y + corner[1]), int(x + corner[0])
        inside = 0 <= row < 40 and 0 <= column < 60
        assert (crop[y, x] == (image[row, column] if inside else GREY)).all()


def test_lsp_measures_what_both_know(marked):
    """A model of eleven joints on data of fourteen: the eight in common."""
    content = json.loads((marked / "val.json").read_text())
    for annotation in content["annotations"]:
        joints = dict(zip(FLIC_11.joints, np.array(annotation["keypoints"]).reshape(-1, 3).tolist(), strict=True))
        annotation["keypoints"] = [v for name in LSP_14.joints for v in joints.get(name, [1, 1, 2])]
    content["categories"] = [{"name": "person", "keypoints": list(LSP_14.joints)}]
    (marked / "lsp.json").write_text(json.dumps(content))
    done = evaluate(Predictor(Fixed()), marked, "lsp")
    assert len(done.joints) == 8
    assert done.scores["PCK@0.2"] == 1


@pytest.mark.parametrize("scales", [(1.0, 0.75), (0.75,), [0.75]])
def test_scales_apply_to_boxes_as_to_full_images(astronaut, scales):
    height, width = astronaut.shape[:2]
    one, several = (Predictor("split_stream", threads=2, **o) for o in ({}, {"scales": scales}))
    full, box = several(astronaut), [0, 0, width, height]
    assert several.within(astronaut, box).xy == pytest.approx(full.xy, abs=1, nan_ok=True)
    assert one(astronaut).xy != pytest.approx(full.xy, abs=1, nan_ok=True)
    around = [predictor.around(astronaut, [[60, 60, 300, 300]])[0].xy for predictor in (one, several)]
    assert around[0] != pytest.approx(around[1], abs=1, nan_ok=True)
    both = ~np.isnan(around).any(0)  # a joint near the threshold may be found at one scale alone
    assert both.mean() > 0.5
    assert around[0][both] == pytest.approx(around[1][both], abs=60)
