from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conftest import figure
from hypothesis import given, settings
from hypothesis import strategies as st

from lithepose.data.coco import KeypointSet
from lithepose.geometry import GREY, letterbox
from lithepose.heads.base import DecodeConfig
from lithepose.heads.outputs import Maps
from lithepose.heads.pafs import COCO_HEAD
from lithepose.heads.people import InstanceHead
from lithepose.media.image import read_image
from lithepose.networks import head_of
from lithepose.skeleton import COCO_17, COCO_18, Skeleton
from lithepose.training import augment
from lithepose.training.augment import AugmentConfig
from lithepose.training.config import Source
from lithepose.training.losses import map_loss
from lithepose.training.samples import PoseSamples, read_people

NAMES = COCO_17.joints
INSTANCES = InstanceHead(COCO_18, COCO_17)


def annotation(joints: np.ndarray, **more: object) -> dict[str, object]:
    low, high = joints[:, :2].min(0), joints[:, :2].max(0)
    box = [*low.tolist(), *(high - low).tolist()]
    return {"keypoints": joints.ravel().tolist(), "num_keypoints": int((joints[:, 2] > 0).sum()), "bbox": box} | more


def samples(folder: Path, **config: float) -> PoseSamples:
    return PoseSamples([Source(folder.name)], folder.parent, COCO_HEAD, 128, AugmentConfig(**config), seed=5)


@settings(max_examples=60)
@given(st.integers(0, 1 << 32))
def test_mirroring_twice_is_the_identity(seed):
    rng = np.random.default_rng(seed)
    joints = rng.uniform(0, 100, (2, 18, 3))
    mirror = np.array([[-1.0, 0, 99], [0, 1, 0]])
    order = COCO_HEAD.skeleton.flip_order
    once = augment.move_joints(joints, mirror, order)
    assert not np.allclose(once, joints)
    assert np.allclose(augment.move_joints(once, mirror, order), joints)
    image = rng.integers(0, 255, (40, 100, 3), np.uint8)
    flipped = augment.warp(image, mirror, (100, 40))
    assert (flipped == image[:, ::-1]).all()
    assert (augment.warp(flipped, mirror, (100, 40)) == image).all()


@settings(max_examples=60)
@given(seed=st.integers(0, 1 << 32), stretch=st.floats(0.7, 1.5))
def test_image_and_joints_move_together(seed, stretch):
    """A bright dot under a joint is under it still after any placement."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(30, 90, 2)
    dx, dy = np.arange(120) - place[0], np.arange(120) - place[1]
    image = np.repeat((np.exp(-(dx[None] ** 2 + dy[:, None] ** 2) / 32) * 255)[..., None], 3, 2).astype(np.uint8)
    box = np.array([*(place - 25), 50, 50])
    matrix = augment.placement(rng, AugmentConfig(), (120, 120), box, (128, 128), stretch, (40, 120))
    x, y = augment.move_joints(np.array([[[*place, 2.0]]]), matrix, (0,))[0, 0, :2]
    assert 0 < x < 127
    assert 0 < y < 127
    weight = np.abs(augment.warp(image, matrix, (128, 128))[..., 0].astype(float)) ** 3
    weight[weight < 160**3] = 0  # the grey beside the image
    if weight.any():
        rows, columns = np.mgrid[:128, :128]
        found = (columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()
        assert np.hypot(found[0] - x, found[1] - y) < 1


def test_samples_depend_on_their_number_alone(stick_images):
    one, two = samples(stick_images), samples(stick_images)
    first, again = one[3], two[3]
    assert first.keys() == again.keys()
    assert all(torch.equal(first[k], again[k]) for k in first if k != "number")
    assert not torch.equal(first["image"], one[4]["image"])
    shapes = [tuple(t.shape) for t in first.values() if isinstance(t, torch.Tensor)]
    assert shapes == [(3, 128, 128), (18, 16, 16), (18, 16, 16), (38, 16, 16), (19, 16, 16)]


def test_samples_decode_to_people_in_the_image(stick_images):
    """Through placement, mirroring and maps: what decode finds lies on the white figures."""
    data = samples(stick_images, mosaic=0, mask_body=0, colour=0, blur=0, grey=0, rotate_share=0, whole=1)
    hits, people = [], 0
    for i in range(12):
        item = data[i]
        image, maps = item["image"], Maps.from_arrays(item["heatmaps"].numpy(), item["pafs"].numpy())
        xy, score, _ = COCO_HEAD.decode(maps, DecodeConfig())
        people += len(xy)
        for x, y in xy[:, 5:][score[:, 5:] > 0]:
            window = image[:, max(int(y) - 2, 0) : int(y) + 4, max(int(x) - 2, 0) : int(x) + 4]
            hits.append(bool((window.min(0).values > 170).any()))
    assert people >= 12
    assert np.mean(hits) > 0.95


def test_masks_cover_what_is_not_annotated():
    known = annotation(figure(10, 10, 100))
    crowd = annotation(figure(160, 10, 90), iscrowd=1)
    unlabelled = {"keypoints": [0] * 51, "num_keypoints": 0, "bbox": [160, 160, 60, 60]}
    people = read_people((known, crowd, unlabelled), NAMES, COCO_HEAD)
    assert len(people.joints) == 1
    assert len(people.ignore) == 2
    _, heat_mask, _, paf_mask = COCO_HEAD.encode(people, 256).values()
    for mask in (heat_mask, paf_mask):
        assert mask[:, :14, :14].all()
        assert not mask[:, 3:10, 24:27].any()
        assert not mask[:, 21:27, 21:27].any()


def test_what_a_teacher_left_out_is_masked_inside_the_person():
    joints = figure(40, 40, 150)
    joints[9] = 0  # left wrist
    wrist, nose = 9, 0
    for more, masked in (({"source": "teacher"}, True), ({"source": "annotated"}, False)):
        people = read_people((annotation(joints, **more) | {"bbox": [40, 40, 150, 150]},), NAMES, COCO_HEAD)
        heat, heat_mask, _, paf_mask = COCO_HEAD.encode(people, 256).values()
        limb = COCO_HEAD.limbs.index((7, 9))
        assert heat_mask[wrist, 10, 20] != masked
        assert paf_mask[limb, 10, 20] != masked
        assert heat_mask[nose].all()
        assert heat_mask[wrist, 30, 30]
        assert heat[nose].max() > 0.5


def test_joints_that_a_data_set_lacks_are_masked():
    names = tuple(n for n in NAMES if "ear" not in n)
    joints = figure(40, 40, 150)[[NAMES.index(n) for n in names]]
    people = read_people((annotation(joints),), names, COCO_HEAD)
    heat_mask = COCO_HEAD.encode(people, 256)["heatmap_mask"]
    assert not heat_mask[NAMES.index("left_ear"), 8, 14]
    assert heat_mask[NAMES.index("nose")].all()


def test_masked_cells_and_channels_do_not_count():
    rng = np.random.default_rng(0)
    heat, pafs = torch.from_numpy(rng.random((2, 3, 4, 4))), torch.from_numpy(rng.random((2, 4, 4, 4)))
    stages = [(heat.clone().requires_grad_(), (pafs + 1).requires_grad_())]
    heat_mask, paf_mask = torch.ones(2, 3, 4, 4, dtype=torch.bool), torch.zeros(2, 2, 4, 4, dtype=torch.bool)
    assert map_loss(stages, heat, pafs, heat_mask, paf_mask)["total"] < 1e-12
    paf_mask[:, 1] = True
    loss = map_loss(stages, heat, pafs, heat_mask, paf_mask)
    loss["total"].backward()
    assert loss["total"].item() == pytest.approx(2)  # 2 of 4 channels are off by one in every cell
    gradient = stages[0][1].grad
    assert (gradient[:, :2] == 0).all()
    assert (gradient[:, 2:] != 0).all()


def test_one_person_samples_show_one_person(stick_images):
    head = head_of("split_stream", COCO_17)
    config = AugmentConfig(
        whole=0, person=(90.0, 90.0), jitter=0, flip=0, rotate_share=0, colour=0, mask_body=0, blur=0
    )
    data = PoseSamples([Source("sticks")], stick_images.parent, head, 128, config, 3)
    for i in range(8):
        item = data[i]
        assert item.keys() == {"number", "image", "heatmaps", "heatmap_mask"}
        for heatmap in item["heatmaps"]:
            _, blobs = cv2.connectedComponents((heatmap.numpy() > 0.1).astype(np.uint8))
            assert blobs.max() == 1
    regression = head_of("joint_regression", COCO_17)
    coordinates = PoseSamples([Source("sticks")], stick_images.parent, regression, 128, config, 3)
    item, maps = coordinates[5], data[5]
    y, x = divmod(int(maps["heatmaps"][0].argmax()), 32)
    assert (item["xy"][0] * 32 - 0.5).tolist() == pytest.approx([x, y], abs=0.51)
    assert item["visible"].all()


def test_boxes_of_a_detector(stick_images):
    config = AugmentConfig(whole=1).still()
    data = PoseSamples([Source("sticks")], stick_images.parent, INSTANCES, 192, config, 1)
    items = {data.image_names(i)[0]: data[i] for i in range(40)}
    assert {len(item["boxes"]) for item in items.values()} == {1, 2}
    # Image 2 has one person with and one without keypoints; image 0's second box is a crowd.
    assert (items["2.png"]["keypoints"][..., 2] > 0).any(1).tolist() == [True, False]
    assert len(items["0.png"]["boxes"]) == 1
    item = items["1.png"]
    assert item["keypoints"].shape[1:] == (18, 3)
    for box, joints in zip(item["boxes"], item["keypoints"], strict=True):
        assert (joints[:17, :2] >= box[:2] - 0.6).all()
        assert (joints[:17, :2] <= box[2:] + 0.6).all()


def test_validation_looks_as_prediction_does(stick_images):
    """Without chance a whole image lies where lithepose.geometry.letterbox lays it."""
    config = AugmentConfig(whole=1.0).still()
    data = PoseSamples([Source("sticks")], stick_images.parent, COCO_HEAD, 192, config, 0)
    sample = read_image(stick_images / "images" / data.image_names(2)[0].split("/")[-1])
    fitted, _ = letterbox(sample, 192, 64)
    sample = data[2]["image"].permute(1, 2, 0).numpy()
    assert np.abs(sample[: fitted.shape[0]].astype(float) - fitted)[2:150, 2:190].mean() < 12
    joints = torch.from_numpy(data._view(np.random.default_rng((0, 2)))[1].joints)
    truth = next(p for p in KeypointSet.open(stick_images).records if p.file_name == data.image_names(2)[0]).people[0]
    expected = (np.array(truth["keypoints"]).reshape(-1, 3)[:, :2] + 0.5) * (192 / 200) - 0.5
    assert np.allclose(joints[0, :17, :2], expected, atol=1e-3)


def test_masked_joints_and_permuted_channels():
    rng, image = np.random.default_rng(0), np.full((64, 64, 3), (10, 20, 30), np.uint8)
    joints = np.array([[[20, 30, 2], [50, 50, 2], [5, 60, 0]]], float)
    masked = augment.mask_joints(rng, AugmentConfig(mask_joints=1.0), image, joints)
    covered = (masked == GREY).all(2)
    assert 0 < covered.sum() < 150
    assert covered[30, 20] or covered[50, 50]
    assert not covered[60, 5]
    orders = {tuple(augment.permute_channels(rng, AugmentConfig(permute=1.0), image)[0, 0]) for _ in range(60)}
    assert orders == set(itertools.permutations((10, 20, 30)))


def test_joints_that_nobody_shares_are_told(stick_images):
    head = head_of("context_cpm", Skeleton("star", ("core", "left_arm", "right_arm")))
    with pytest.raises(ValueError, match='skeleton = "data"'):
        PoseSamples([Source("sticks")], stick_images.parent, head, 128, AugmentConfig())


def test_images_that_are_not_there_or_of_another_size_are_named(stick_images):
    records = sorted(stick_images.rglob("*.png"))
    image = cv2.imread(str(records[0]))
    for record in records:
        cv2.imwrite(str(record), image[::2, ::2])
    with pytest.raises(ValueError, match=rf"png: has .*, but {image.shape[1]}x{image.shape[0]} in sticks"):
        _ = samples(stick_images)[0]
    for record in records[2:]:
        record.unlink()
    with pytest.raises(FileNotFoundError, match=r"images are missing, for example .*images"):
        samples(stick_images)


def test_weights_of_sources_that_are_none(stick_images):
    with pytest.raises(ValueError, match="weight = 0, 0: must be 0 or more"):
        PoseSamples([Source("sticks", weight=0)] * 2, stick_images.parent, COCO_HEAD, 128, AugmentConfig())


def test_a_mosaic_keeps_everybody_to_their_tile(stick_images):
    """A box that reached over another image would teach a detector people who are not there."""
    some = PoseSamples(
        [Source(stick_images.name)],
        stick_images.parent,
        INSTANCES,
        128,
        AugmentConfig(person=(90.0, 200.0)),
    )
    for number in range(40):
        tile = (50, 70)
        _, people = some._tile(np.random.default_rng(number), tile, some.shares, 1.0)
        for boxes in (people.boxes, people.ignore, people.bare):
            assert (boxes[:, :2] >= 0).all()
            assert (boxes[:, :2] + boxes[:, 2:] <= np.array(tile) + 1e-3).all()
            assert (boxes[:, 2:] > 0).all()
        assert len(people.joints) == len(people.boxes) == len(people.unsure)


def test_a_neck_is_absent_only_where_there_are_shoulders():
    joints = np.concatenate([np.random.default_rng(0).uniform(0, 90, (2, 2)), np.full((2, 1), 2)], 1)
    neck = COCO_HEAD.skeleton.joints.index("neck")
    assert read_people((annotation(joints),), ("nose", "left_eye"), COCO_HEAD).unsure[0, neck]
    assert not read_people((annotation(joints),), ("left_shoulder", "right_shoulder"), COCO_HEAD).unsure[0, neck]


def test_a_detector_learns_peoples_own_boxes():
    joints = np.concatenate([np.random.default_rng(0).uniform(0, 90, (17, 2)), np.full((17, 1), 2)], 1)
    one = annotation(joints, centre_box=[0, 0, 500, 500])
    boxes = [read_people((one,), NAMES, head).boxes[0].tolist() for head in (COCO_HEAD, INSTANCES)]
    assert boxes == [[0, 0, 500, 500], pytest.approx(one["bbox"])]


def test_sources_choose_images_and_people(stick_images):
    def names(**options: object) -> list[str]:
        return (
            PoseSamples([Source("sticks", **options)], stick_images.parent, COCO_HEAD, 128, AugmentConfig())
            .sets[0]
            .names
        )

    assert len(names()) == 8
    assert names(first=3) == ["0.png", "1.png", "2.png"]
    assert len(names(people=True, joints=18)) == 8  # with the neck
    for nobody in ({"people": True, "joints": 19}, {"people": True, "large": 0.9}):
        with pytest.raises(ValueError, match="no image"):
            names(**nobody)
