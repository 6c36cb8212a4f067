from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")


from lithepose.networks import build, head_of  # noqa: E402
from lithepose.networks.backbones.mobilenet import MobileNetV1  # noqa: E402
from lithepose.networks.binary_conv import BinaryConv2d  # noqa: E402
from lithepose.skeleton import SKELETONS  # noqa: E402
from lithepose.training.config import Recipe, same_recipe  # noqa: E402
from lithepose.training.optim import Plateau, make_optimizer, rate_at  # noqa: E402


def test_rate_rises_and_falls():
    recipe = Recipe("lithe_paf", (), steps=100, warmup=10, rate=1.0, final_rate=0.1)
    rates = [rate_at(i, recipe) for i in range(100)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)


def test_unknown_keys_of_a_recipe_are_named(tmp_path):
    good = 'network = "lithe_paf"\n[[data]]\ndata = "x"\n'
    bad = (
        "speed = 3\n",
        "steps = 'many'\n",
        "size = 101\n",
        "data = []\n",
        "steps = 0\n",
        "options = 3\n",
        "steps = true\n",
    )
    for text in (*(line + good for line in bad), "network = 3 = 4", 'network = "lithe_paf"\n', 'data = "x"\n' + good):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        with pytest.raises(ValueError, match=r"mine\.toml"):
            Recipe.read(path)


def test_every_recipe_reads_and_builds():
    recipes = sorted((Path(__file__).parent.parent / "recipes").rglob("*.toml"))
    assert len(recipes) > 30
    for path in recipes:
        recipe = Recipe.read(path)
        head = None if recipe.skeleton in ("", "data") else head_of(recipe.network, SKELETONS[recipe.skeleton])
        with torch.device("meta"):
            net = build(recipe.network, head, **recipe.options)
        assert recipe.size % net.multiple == 0, path
        if "mobilenet_v1" in recipe.start or recipe.start == "embedded:lithe_paf":
            assert isinstance(net.front, MobileNetV1), path


def test_papers_recipes_have_the_papers_rates():
    folder = Path(__file__).parent.parent / "recipes"
    for name, rates in {
        "openpose": {0: 4e-5, 136106: 4e-5 * 0.333, 600000: 4e-5 * 0.333**4},
        "multilevel": {0: 6e-5, 48600: 6e-5 * 0.333},
        "context-cpm": {0: 4e-5},
        "split-stream": {0: 1e-3, 49999: 1e-3, 50000: 1e-4},
        "keypoint-rcnn": {500: 2e-2, 60000: 2e-3, 80000: 2e-4},
    }.items():
        recipe = Recipe.read(folder / f"{name}.toml")
        for step, rate in rates.items():
            assert rate_at(step, recipe, Plateau()) == pytest.approx(rate), (name, step)
    batches = {
        name: Recipe.read(folder / f"{name}.toml").batch for name in ("multilevel", "context-cpm", "split-stream")
    }
    assert batches == {"multilevel": 28, "context-cpm": 32, "split-stream": 16}


def test_a_recipe_extends_another(tmp_path):
    (tmp_path / "base.toml").write_text(
        'network = "lithe_paf"\nrate = 1.0\nresume_weights = "w"\n'
        '[options]\nwidth = 8\ncontext = 9\n[[data]]\ndata = "x"\n'
    )
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "one.toml").write_text('extends = "../base.toml"\nsteps = 3\n[options]\nwidth = 16\n')
    (tmp_path / "two.toml").write_text('extends = "base.toml"\nnetwork = "openpose"\n[[data]]\ndata = "y"\n')
    one, two = Recipe.read(tmp_path / "sub" / "one.toml"), Recipe.read(tmp_path / "two.toml")
    assert (one.rate, one.steps, one.options) == (1.0, 3, {"width": 16, "context": 9})
    assert Path(one.resume_weights).resolve() == (tmp_path / "w").resolve()
    assert (two.options, two.data[0].data) == ({}, "y")
    (tmp_path / "bad.toml").write_text('extends = "base.toml"\nschedule = "plateau"\n')
    with pytest.raises(ValueError, match=r"bad\.toml.*validation"):
        Recipe.read(tmp_path / "bad.toml")
    (tmp_path / "bad.toml").write_text('extends = "base.toml"\noptimizer = "lion"\n')
    with pytest.raises(ValueError, match="adamw, muon, adam, sgd"):
        Recipe.read(tmp_path / "bad.toml")
    for chance in (
        'resume_weights = ""\nreinit = ["x"]',
        'frozen = ["x"]\nreinit = ["x"]',
        'resume_weights = ""\nfrozen = ["x"]',
    ):
        (tmp_path / "bad.toml").write_text(f'extends = "base.toml"\n{chance}\n')
        with pytest.raises(
            ValueError, match=r"bad\.toml: (reinit .* needs resume_weights|frozen .* as chance made them)"
        ):
            Recipe.read(tmp_path / "bad.toml")


def test_a_recipe_does_not_extend_itself(tmp_path):
    (tmp_path / "one.toml").write_text('extends = "two.toml"\n')
    (tmp_path / "two.toml").write_text('extends = "one.toml"\n')
    with pytest.raises(ValueError, match=r"one\.toml: not a recipe \(one\.toml extends itself\)"):
        Recipe.read(tmp_path / "one.toml")


def test_a_run_may_move_with_the_weights_that_it_began_with(tmp_path):
    one = Recipe("lithe_paf", (), resume_weights="/here/lithe.safetensors", frozen=("front",))
    (tmp_path / "recipe.json").write_text(one.to_json())
    same_recipe(replace(one, resume_weights="/there/lithe.safetensors"), tmp_path / "recipe.json")
    for other in (replace(one, resume_weights="/here/other.safetensors"), replace(one, frozen=())):
        with pytest.raises(ValueError, match=r"begun with another (resume_weights|frozen)"):
            same_recipe(other, tmp_path / "recipe.json")
    old = json.loads(one.to_json())
    del old["frozen"]  # as written before there was such a key
    (tmp_path / "recipe.json").write_text(json.dumps(old))
    with pytest.raises(ValueError, match="begun with another frozen"):
        same_recipe(one, tmp_path / "recipe.json")


def test_rates_by_schedule():
    steps = Recipe("lithe_paf", (), schedule="steps", milestones=(10, 20), factor=0.1, rate=1.0, warmup=0)
    assert [rate_at(i, steps) for i in (0, 9, 10, 20)] == pytest.approx([1, 1, 0.1, 0.01])
    frozen = Recipe("lithe_paf", (), schedule="constant", frozen_steps=5, frozen_rate=3.0, rate=1.0, warmup=0)
    assert [rate_at(i, frozen) for i in (0, 4, 5)] == [3, 3, 1]
    plateau, recipe = Plateau(), Recipe("lithe_paf", (), schedule="plateau", factor=0.5, patience=1, warmup=0, rate=1.0)
    seen = []
    for loss in (10, 5, 4.99, 4.98, 4.0, 4.0, 4.0):
        plateau.see(loss, recipe)
        seen.append(rate_at(0, recipe, plateau))
    assert seen == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]


def test_every_parameter_has_one_rate_and_the_right_ones_decay():
    recipe = Recipe("x", (), rate=1.0, front_rate=0.5, refine_rate=4.0, bias_rate=2.0, weight_decay=0.1)
    for name, options in (("binary_paf", {"stages": 2, "front": "mobilenet_v1"}), ("context_cpm", {"stages": 2})):
        net = build(name, **options)
        groups = make_optimizer(net, recipe).param_groups
        of = {id(p): group for group in groups for p in group["params"]}
        assert len(of) == sum(len(g["params"]) for g in groups) == len(list(net.parameters()))
        front, binary = net.front.stem.conv.weight, [m for m in net.modules() if isinstance(m, BinaryConv2d)]
        assert (of[id(front)]["scale"], of[id(front)]["weight_decay"]) == (0.5, 0.1)
        assert of[id(net.front.stem.bn.weight)]["weight_decay"] == 0
        later = net.stages[1].joints[-1][0] if name == "binary_paf" else net.refinements[0][-1][0]
        assert (of[id(later.weight)]["scale"], of[id(later.bias)]["scale"]) == (4, 8)
        assert of[id(net.cpm[0][0].weight)]["scale"] == 1
        assert all(of[id(m.weight)]["weight_decay"] == 0 for m in binary)
