"""Samples of person crops and of whole images for the detector: repeatable, and labels where the pixels are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lithepose.data.image_cache import ImageCache
from lithepose.errors import ConfigError
from lithepose.heads.people import LITHE_HEAD, CropHead
from lithepose.networks import build
from lithepose.skeleton import COCO_17, Skeleton
from lithepose.training.augment import AugmentConfig
from lithepose.training.config import Recipe, Source
from lithepose.training.crops import ABSENT, CropSamples, joint_weights
from lithepose.training.detection import DetectionSamples
from lithepose.training.samples import prefetched
from lithepose.training.setup import make_samples

STILL = AugmentConfig().still()
SHAPES = [((128, 96), 1.0)]
LIVELY = AugmentConfig(half_body=0.5, rotate_share=1.0)


def crops(folder, config=STILL, **options):
    return CropSamples([Source("sticks", **options)], folder, LITHE_HEAD, SHAPES, config, 3, folder / "cache")


@pytest.mark.parametrize("config", [STILL, LIVELY])
def test_joints_lie_on_the_drawn_figure(stick_images, config):
    """Stick figures are white lines on grey noise: at labelled joints the crop is bright."""
    config = replace(config, colour=0.0, grey=0.0, blur=0.0, mask_body=0.0)
    samples = crops(stick_images.parent, config)
    batch = samples.batch(range(24))
    assert batch.images.shape == (24, 3, 128, 96)
    seen = batch.targets["visible"] > 0
    assert seen.float().mean() > 0.5
    at = batch.targets["joints"][seen].round().long()
    number = torch.arange(24)[:, None].expand(24, 17)[seen]
    bright = torch.nn.functional.max_pool2d(batch.images.float(), 5, 1, 2).amin(1)
    assert (bright[number, at[:, 1], at[:, 0]] > 175).float().mean() > 0.95


def test_a_sample_depends_on_its_number_alone(stick_images):
    one, two = crops(stick_images.parent, LIVELY), crops(stick_images.parent, LIVELY)
    a, b = one.batch([5, 6, 7]), two.batch([7])
    assert torch.equal(a.images[2], b.images[0])
    for name in ("joints", "visible", "weight"):
        assert torch.equal(a.targets[name][2], b.targets[name][0]), name
    assert not torch.equal(a.images[0], a.images[1])


def test_batches_come_in_order_and_are_split_between_processes(stick_images):
    samples = crops(stick_images.parent)
    numbers = [batch.numbers for batch in samples.batches(0, 10, 4)]
    assert numbers == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    shares = [[batch.numbers for batch in samples.batches(0, 8, 4, rank, 2)] for rank in (0, 1)]
    assert shares == [[[0, 2], [4, 6]], [[1, 3], [5, 7]]]


def test_some_batches_have_smaller_crops_and_processes_agree_on_them(stick_images):
    shapes = [((128, 96), 0.5), ((96, 64), 0.5)]
    source = [Source("sticks")]
    samples = CropSamples(source, stick_images.parent, LITHE_HEAD, shapes, STILL, 3, stick_images.parent / "cache")
    sides = [[tuple(b.images.shape[2:]) for b in samples.batches(0, 40, 4, rank, 2)] for rank in (0, 1)]
    assert sides[0] == sides[1]
    assert set(sides[0]) == {(128, 96), (96, 64)}


def test_an_error_in_a_thread_reaches_the_caller():
    def fail(numbers):
        if 4 in numbers:
            raise OSError("image 4 is gone")
        return numbers

    parts = prefetched(fail, range(10), 2)
    assert [list(next(parts)) for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(OSError, match="image 4 is gone"):
        next(parts)


def test_weights_of_joints():
    joints = np.zeros((17, 3), np.float32)
    joints[:6, 2] = 2
    none = np.zeros(17, bool)
    weight = joint_weights({}, joints, none, COCO_17.joints, LITHE_HEAD)
    assert weight.tolist() == [1.0] * 6 + [ABSENT] * 11
    unsure = np.ones(17, bool)
    unsure[:6] = False
    assert joint_weights({}, joints, unsure, COCO_17.joints, LITHE_HEAD).tolist() == [1.0] * 6 + [0.0] * 11
    sure = {"reliability": [0.6, 0.3, 0.0, 0.9, 0.6, 0.6] + [0.0] * 11}
    assert joint_weights(sure, joints, none, COCO_17.joints, LITHE_HEAD)[:4].tolist() == pytest.approx([1, 0.5, 0.2, 1])
    joints[3:, 2] = 0  # too few to say that the others are not there
    assert joint_weights({}, joints, none, COCO_17.joints, LITHE_HEAD)[3:].tolist() == [0.0] * 14


def test_images_are_decoded_once(stick_images, monkeypatch):
    first = crops(stick_images.parent)

    def refuse(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr("lithepose.data.coco.ImageFiles.image", refuse)
    again = crops(stick_images.parent)
    assert torch.equal(first.batch([1]).images, again.batch([1]).images)


def test_large_images_are_cached_smaller_and_joints_move_along(stick_images, monkeypatch):
    whole = crops(stick_images.parent).batch(range(8))
    monkeypatch.setattr("lithepose.data.image_cache.LONGEST", 100)
    small = crops(stick_images.parent)
    assert small.sets[0].cache[0].shape == (80, 100, 3)
    assert small.sets[0].cache.original_size(0) == (200, 160)
    assert torch.allclose(small.batch(range(8)).targets["joints"], whole.targets["joints"], atol=0.05)


def test_a_cut_cache_is_written_anew(stick_images):
    expected = crops(stick_images.parent).batch([0]).images
    (pixels,) = (stick_images.parent / "cache").glob("*.bin")
    cut = pixels.read_bytes()[:-1]
    pixels.unlink()  # what is mapped into memory must not shrink
    pixels.write_bytes(cut)
    assert torch.equal(crops(stick_images.parent).batch([0]).images, expected)
    (index,) = (stick_images.parent / "cache").glob("*.json")
    index.write_text("[")
    assert torch.equal(crops(stick_images.parent).batch([0]).images, expected)


def test_a_size_that_disagrees_is_named(stick_images):
    content = json.loads((stick_images / "train.json").read_text())
    content["images"][0] |= {"width": 160, "height": 200}
    (stick_images / "train.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"0\.png: has 200x160 pixels, but 160x200"):
        crops(stick_images.parent)


def test_sources_without_people_are_named(stick_images):
    with pytest.raises(ValueError, match="no person matches the recipe"):
        crops(stick_images.parent, joints=18)


def detection(folder, config, **options):
    sources = [Source("sticks", **options)]
    return DetectionSamples(sources, folder, 128, config, 3, folder / "cache")


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_boxes_lie_around_the_drawn_figures(stick_images, mosaic):
    config = replace(AugmentConfig(), mosaic=mosaic, colour=0.0, grey=0.0, blur=0.0, whole_zoom=(0.7, 1.3))
    batch = detection(stick_images.parent, config).batch(range(16))
    assert batch.images.shape == (16, 3, 128, 128)
    assert batch.targets["count"].sum() > 10
    white = (batch.images > 225).all(1)
    assert white.any(2).any(1).float().mean() > 0.9
    inside = torch.zeros_like(white)
    for i, count in enumerate(batch.targets["count"].tolist()):
        for x0, y0, x1, y1 in batch.targets["boxes"][i, :count].round().int().tolist():
            assert 0 <= x0 < x1 <= 128
            assert 0 <= y0 < y1 <= 128
            inside[i, max(y0 - 2, 0) : y1 + 2, max(x0 - 2, 0) : x1 + 2] = True
        for x0, y0, x1, y1 in batch.targets["ignore"][i].round().int().tolist():
            inside[i, max(y0 - 2, 0) : y1 + 2, max(x0 - 2, 0) : x1 + 2] = True
    assert (white & ~inside).sum() == 0


@pytest.mark.parametrize("mirrored", [False, True])
def test_boxes_are_exact_to_a_fraction_of_a_pixel(stick_images, mirrored):
    """200x160 pixels become 128x102.4: the left edge of a box is at 0.64 times its place, or as far from the right."""
    config = replace(STILL, flip=float(mirrored))
    samples = detection(stick_images.parent, config)
    batch = samples.batch(range(30))
    labels = [boxes[:, :1] + boxes[:, 2:3] * [0, 1] for boxes in samples.sets[0].people]
    expected = {round(float(128 - 0.64 * r if mirrored else 0.64 * left), 2) for pairs in labels for left, r in pairs}
    found = {round(float(x), 2) for i, n in enumerate(batch.targets["count"]) for x in batch.targets["boxes"][i, :n, 0]}
    assert all(min(abs(x - e) for e in expected) < 0.02 for x in found)
    white = (batch.images > 225).all(1)
    inside = 0
    for i, n in enumerate(batch.targets["count"].tolist()):
        for x0, y0, x1, y1 in batch.targets["boxes"][i, :n].tolist():
            inside += int(white[i, int(y0) : int(y1) + 1, max(int(x0) - 1, 0) : int(x1) + 2].sum())
    assert inside >= 0.98 * int(white.sum())


def test_crowds_are_masked_and_people_without_keypoints_are_not(stick_images):
    samples = detection(stick_images.parent, STILL)
    assert [len(p) for p in samples.sets[0].people] == [1, 2, 2, 2, 1, 2, 1, 2]
    assert [len(r) for r in samples.sets[0].ignore] == [1, 0, 0, 0, 0, 0, 0, 0]


def test_people_whom_annotations_leave_out_are_masked(stick_images):
    left_out = {"sticks/train.json": [{"image_id": 3, "bbox": [1, 2, 3, 4], "score": s} for s in (0.9, 0.1)]}
    (stick_images.parent / "more.json").write_text(json.dumps(left_out))
    samples = detection(stick_images.parent, STILL, ignore="more.json")
    assert samples.sets[0].ignore[3].tolist() == [[1, 2, 3, 4]]
    (stick_images.parent / "more.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no boxes for sticks/train\.json"):
        detection(stick_images.parent, STILL, ignore="more.json")


def test_the_cache_reads_names_in_order(stick_images):
    from lithepose.data.coco import ImageFiles

    files = ImageFiles(stick_images)
    cache = ImageCache(files, ["5.png", "2.png"], stick_images / "cache")
    assert np.array_equal(cache[0], files.image("5.png"))
    assert np.array_equal(cache[1], files.image("2.png"))


def test_joints_of_one_side_alone_stop_a_training_with_mirrored_images():
    skeleton = Skeleton("one-sided", ("left_hip", "tail"))
    net, recipe = build("lithe", CropHead(skeleton, skeleton, stride=4)), Recipe(network="lithe", data=())
    with pytest.raises(ConfigError, match=r"left_hip belong to one side, .*, or set flip = 0"):
        make_samples((), Path(), net, recipe, AugmentConfig(), Path())
