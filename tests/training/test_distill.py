"""A trained network as a teacher: its maps become targets, of labelled joints in part and of others alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file

from lithepose.errors import ConfigError, DatasetError, MissingFileError
from lithepose.heads.people import LITHE_HEAD
from lithepose.networks import build
from lithepose.networks.backbones.residual import Residual
from lithepose.networks.lithe import Lithe
from lithepose.training.augment import AugmentConfig
from lithepose.training.config import DistillConfig, OptimizerConfig, Recipe, ScheduleConfig, Source
from lithepose.training.crops import ABSENT, CropSamples
from lithepose.training.distill import Teacher, patched, with_teacher
from lithepose.training.setup import make_network
from lithepose.training.trainer import train

SMALL = {"widths": (16, 16, 16, 16, 16), "depths": (0, 1, 0, 0), "width": 16}
COMMON = Recipe("lithe", (Source("sticks"),), options=SMALL, crop=(64, 64), batch=4, steps=2, precision="fp32")


@pytest.fixture
def taught(stick_images) -> tuple[Path, Path]:
    """The data folder and the weights of a small network of person crops, trained for two steps."""
    folder = stick_images.parent
    return folder, train(COMMON, folder, folder / "teacher", quiet=True)


def test_a_teacher_answers_alike_for_an_image_and_its_mirror_image(taught):
    _, weights = taught
    teacher = Teacher(replace(COMMON, distill=DistillConfig((str(weights),))), LITHE_HEAD, torch.device("cpu"))
    x = torch.randn(2, 3, 64, 96)
    maps = teacher(x)
    assert maps.shape == (2, 17, 16, 24)
    own = teacher.nets[0](x)[-1][0]
    assert not torch.allclose(maps, own, atol=1e-4)
    mirrored = teacher(x.flip(3)).flip(3)[:, list(LITHE_HEAD.skeleton.flip_order)]
    assert torch.allclose(maps, mirrored, atol=1e-5)


def test_labels_and_maps_are_mixed_and_maps_alone_decide_what_is_unknown():
    labels, maps = torch.ones(1, 2, 3, 3), torch.full((1, 2, 3, 3), 0.2)
    targets, weight = with_teacher(labels, torch.tensor([[ABSENT, 0.0]]), maps, 0.25)
    assert torch.allclose(targets[0, 0], torch.tensor(0.8))
    assert torch.allclose(targets[0, 1], torch.tensor(0.2))
    assert weight.tolist() == [[ABSENT, 1.0]]


def test_rectangles_of_other_crops_are_labelled_by_the_teacher_alone():
    torch.manual_seed(0)
    x = torch.arange(64.0)[:, None, None, None].expand(-1, 3, 40, 30).contiguous()  # every crop in one grey
    mixed, weight = patched(x, torch.ones(64, 17), 0.5)
    changed = (mixed != x).any(1)
    assert 16 < changed.flatten(1).any(1).sum() < 48
    assert not weight[changed.flatten(1).any(1)].any()
    for crop, grey, change, kept in zip(mixed, x[:, 0, 0, 0], changed, weight[:, 0], strict=True):
        if kept:
            assert not change.any()
        rows, columns = change.any(1), change.any(0)
        assert change.sum() == rows.sum() * columns.sum(), "a rectangle"
        assert len(set(crop[:, change].flatten().tolist())) <= 1, "of one other crop"
        assert (crop[:, ~change] == grey).all()
        assert rows.sum() <= 0.7 * 40 + 1
        assert columns.sum() <= 0.7 * 30 + 1
    still, weight = patched(x, torch.ones(64, 17), 0.0)
    assert torch.equal(still, x)
    assert weight.all()


def test_a_student_that_is_its_teacher_has_less_to_learn_from_it(taught):
    folder, weights = taught
    recipe = replace(COMMON, init_from=str(weights), steps=1, log_every=1)
    losses = []
    for share in (0.0, 1.0):
        run = folder / f"share{share}"
        train(replace(recipe, distill=DistillConfig((str(weights),), share)), folder, run, quiet=True)
        losses.append(json.loads((run / "log.jsonl").read_text().splitlines()[0])["total"])
    assert losses[1] < losses[0] / 5


def test_people_without_labels_are_taken(stick_images):
    source = Source("sticks", unlabelled=True)
    samples = CropSamples(
        [source], stick_images.parent, LITHE_HEAD, [((64, 64), 1.0)], AugmentConfig().still(), 0, stick_images.parent
    )
    assert len(samples) == 1  # the crowd alone; a person without keypoints is not taken
    assert samples.image_names(0) == ["0.png"]
    batch = samples.batch([0, 1])
    assert not batch.targets["weight"].any()
    assert not batch.targets["visible"].any()
    middle = samples.sets[0].boxes[0][:2] + samples.sets[0].boxes[0][2:] / 2
    assert middle.tolist() == pytest.approx([169.5, 19.5], abs=0.6)


def test_small_people_with_labels_can_be_left_out(stick_images):
    for large, count in ((0.0, 12), (0.4, 12), (0.8, 0)):
        arguments = [Source("sticks", large=large)], stick_images.parent, LITHE_HEAD, [((64, 64), 1.0)], AugmentConfig()
        if count:
            assert len(CropSamples(*arguments, cache=stick_images.parent)) == count
        else:
            with pytest.raises(DatasetError, match="no person"):
                CropSamples(*arguments, cache=stick_images.parent)


def test_small_people_can_be_left_out(stick_images):
    for large, count in ((0.15, 1), (0.25, 0)):
        source = Source("sticks", unlabelled=True, large=large)
        arguments = [source], stick_images.parent, LITHE_HEAD, [((64, 64), 1.0)], AugmentConfig().still()
        if count:
            assert len(CropSamples(*arguments, cache=stick_images.parent)) == count
        else:
            with pytest.raises(DatasetError, match="no person"):
                CropSamples(*arguments, cache=stick_images.parent)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[distill]\nteacher = 'a.safetensors'\nshare = 1.5", "share = 1.5"),
        ("[distill]\nteacher = 'a.safetensors'\npatched = -0.1", "patched = -0.1"),
        ("[distill]\nshare = 0.2", "needs a teacher"),
        ("[[data]]\ndata = 'sticks'\nlarge = 15.0", "large = 15.0"),
        ("[[data]]\ndata = 'sticks'\nunlabelled = true", "unlabelled = true.*teacher"),
        ("[distill]\nteacher = 3", "teacher = 3"),
        ("[[validation]]\ndata = 'sticks'\nunlabelled = true", "unlabelled = true.*validation"),
    ],
)
def test_recipes_that_mean_nothing_are_refused(tmp_path, text, message):
    recipe = tmp_path / "mine.toml"
    data = "" if "[[data]]" in text else "[[data]]\ndata = 'sticks'\n"
    recipe.write_text(f"network = 'lithe'\n{data}{text}\n")
    with pytest.raises(ConfigError, match=message):
        Recipe.read(recipe)


@pytest.mark.parametrize("names", [["a"], ["a", "b"]])
def test_teachers_are_named_relative_to_the_recipe(tmp_path, names):
    recipe = tmp_path / "mine.toml"
    files = [f"runs/{name}.safetensors" for name in names]
    text = json.dumps(files if len(files) > 1 else files[0])
    recipe.write_text(f"network = 'lithe'\n[distill]\nteacher = {text}\n[[data]]\ndata = 'sticks'\n")
    assert [Path(path) for path in Recipe.read(recipe).distill.teacher] == [(tmp_path / f).resolve() for f in files]


def test_heatmaps_of_several_teachers_are_averaged(taught):
    folder, weights = taught
    second = train(replace(COMMON, seed=1), folder, folder / "second", quiet=True)
    x = torch.randn(2, 3, 64, 64)
    one, two, both = (
        Teacher(replace(COMMON, distill=DistillConfig(tuple(map(str, paths)))), LITHE_HEAD, torch.device("cpu"))(x)
        for paths in ((weights,), (second,), (weights, second))
    )
    assert not torch.allclose(one, two, atol=1e-4)
    assert torch.allclose(both, (one + two) / 2, atol=1e-6)


def test_teachers_of_other_kinds_are_refused(taught, stick_images):
    folder, weights = taught
    bottom_up = build("lithe_paf", None, width=16, context=16, blocks=(1, 1)).head
    for path, head, error, message in (
        (folder / "none.safetensors", LITHE_HEAD, MissingFileError, "none.safetensors"),
        (weights, bottom_up, ConfigError, "lithe does not use person crops"),
        (weights, replace(LITHE_HEAD, stride=8), ConfigError, "stride 4, but the recipe has 8"),
        (weights, replace(LITHE_HEAD, sigma=3.0), ConfigError, "sigma 2.0, but the recipe has 3.0"),
    ):
        with pytest.raises(error, match=message):
            Teacher(replace(COMMON, distill=DistillConfig((str(path),))), head, torch.device("cpu"))


def test_a_run_goes_on_with_its_own_teacher_alone(taught):
    folder, weights = taught
    other = folder / "other" / weights.name
    other.parent.mkdir()
    other.write_bytes(weights.read_bytes())
    same_rate = ScheduleConfig("constant", warmup=0)
    recipe = replace(COMMON, distill=DistillConfig((str(weights),), patched=0.5), schedule=same_rate)
    whole = train(replace(recipe, steps=4), folder, folder / "whole", quiet=True)
    train(recipe, folder, folder / "run", quiet=True)
    with pytest.raises(ConfigError, match=r"a different distill\.teacher"):
        train(replace(recipe, distill=DistillConfig((str(other),)), steps=4), folder, folder / "run", quiet=True)
    parts = train(replace(recipe, steps=4), folder, folder / "run", quiet=True)
    assert [json.loads(line)["step"] for line in (folder / "run" / "log.jsonl").read_text().splitlines()] == [2, 4]
    first, second = load_file(whole), load_file(parts)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_joints_without_a_partner_are_not_mirrored(taught):
    _, weights = taught
    teacher = Teacher(replace(COMMON, distill=DistillConfig((str(weights),))), LITHE_HEAD, torch.device("cpu"))
    teacher.order = None
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(teacher(x), teacher.nets[0](x)[-1][0])


def test_pretrained_blocks_that_begin_anew_keep_their_weights(taught):
    folder, weights = taught
    recipe = replace(COMMON, pretrained=str(weights), init_from=str(weights), reinit=("backbone",))
    net = make_network(recipe, folder, with_weights=True)
    gains = [layer.conv2[1].weight for layer in net.backbone.modules() if isinstance(layer, Residual)]
    assert gains
    assert all(gain.abs().min() > 0 for gain in gains)


def test_a_deeper_network_begins_as_the_trained_one(taught):
    folder, weights = taught
    deeper = SMALL | {"depths": (0, 2, 1, 0), "refine": 1}
    new = ("refine", "backbone.levels.1.2", "backbone.levels.2.1")
    recipe = replace(COMMON, init_from=str(weights), options=deeper, reinit=new, optimizer=OptimizerConfig("muon"))
    net = make_network(recipe, folder, with_weights=True).eval()
    before = make_network(replace(COMMON, init_from=str(weights)), folder, with_weights=True).eval()
    assert isinstance(net, Lithe)
    assert isinstance(net.refine[0], Residual)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(net(x)[0][0], before(x)[0][0])
    trained = train(recipe, folder, folder / "deeper", quiet=True)
    assert trained.is_file()
