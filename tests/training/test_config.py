from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")


from lithepose.networks import build, head_of
from lithepose.networks.backbones.mobilenet import MobileNetV1
from lithepose.networks.binary_paf import BinaryConv2d
from lithepose.skeleton import SKELETONS
from lithepose.training.config import FreezeConfig, OptimizerConfig, Recipe, ScheduleConfig, same_recipe
from lithepose.training.optim import Schedule, make_optimizer


def test_rate_rises_and_falls():
    schedule = Schedule(ScheduleConfig(warmup=10, final_factor=0.1), 1.0, 100)
    rates = [schedule.at(i) for i in range(100)]
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
    root = Path(__file__).parents[2]
    recipes = sorted([*root.glob("recipes/*.toml"), *root.glob("research/**/*.toml")])
    assert {"lithe.toml", "openpose.toml", "context-cpm-six-mini.toml"} <= {path.name for path in recipes}
    for path in recipes:
        recipe = Recipe.read(path)
        head = None if recipe.skeleton in ("", "data") else head_of(recipe.network, SKELETONS[recipe.skeleton])
        with torch.device("meta"):
            net = build(recipe.network, head, **recipe.options)
        assert recipe.size % net.multiple == 0, path
        if "mobilenet_v1" in recipe.pretrained or recipe.pretrained == "embedded:lithe_paf":
            assert isinstance(net.backbone, MobileNetV1), path


def test_papers_recipes_have_the_papers_rates():
    folder = Path(__file__).parents[2] / "recipes"
    for name, rates in {
        "openpose": {0: 4e-5, 136106: 4e-5 * 0.333, 600000: 4e-5 * 0.333**4},
        "multilevel": {0: 6e-5, 48600: 6e-5 * 0.333},
        "context-cpm": {0: 4e-5},
        "split-stream": {0: 1e-3, 49999: 1e-3, 50000: 1e-4},
        "keypoint-rcnn": {500: 2e-2, 60000: 2e-3, 80000: 2e-4},
    }.items():
        recipe = Recipe.read(folder / f"{name}.toml")
        schedule = Schedule(recipe.schedule, recipe.optimizer.lr, recipe.steps, recipe.freeze)
        for step, rate in rates.items():
            assert schedule.at(step) == pytest.approx(rate), (name, step)
    batches = {
        name: Recipe.read(folder / f"{name}.toml").batch for name in ("multilevel", "context-cpm", "split-stream")
    }
    assert batches == {"multilevel": 28, "context-cpm": 32, "split-stream": 16}


def test_a_recipe_extends_another(tmp_path):
    (tmp_path / "base.toml").write_text(
        'network = "lithe_paf"\ninit_from = "w"\n[optimizer]\nlr = 1.0\ngrad_clip = 0.5\n'
        '[options]\nwidth = 8\ncontext = 9\n[[data]]\ndata = "x"\n'
    )
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "one.toml").write_text(
        'extends = "../base.toml"\nsteps = 3\n[options]\nwidth = 16\n[optimizer]\nlr = 2.0\n'
    )
    (tmp_path / "two.toml").write_text('extends = "base.toml"\nnetwork = "openpose"\n[[data]]\ndata = "y"\n')
    one, two = Recipe.read(tmp_path / "sub" / "one.toml"), Recipe.read(tmp_path / "two.toml")
    assert (one.steps, one.options) == (3, {"width": 16, "context": 9})
    assert (one.optimizer.lr, one.optimizer.grad_clip) == (2.0, 0.5)
    assert Path(one.init_from).resolve() == (tmp_path / "w").resolve()
    assert (two.options, two.data[0].data) == ({}, "y")
    (tmp_path / "bad.toml").write_text('extends = "base.toml"\n[schedule]\nname = "plateau"\n')
    with pytest.raises(ValueError, match=r"bad\.toml.*validation"):
        Recipe.read(tmp_path / "bad.toml")
    (tmp_path / "bad.toml").write_text('extends = "base.toml"\n[optimizer]\nname = "lion"\n')
    with pytest.raises(ValueError, match="adamw, muon, adam, sgd"):
        Recipe.read(tmp_path / "bad.toml")
    for chance in (
        'init_from = ""\nreinit = ["x"]',
        'reinit = ["x"]\n[freeze]\nmodules = ["x"]',
        'init_from = ""\n[freeze]\nmodules = ["x"]',
    ):
        (tmp_path / "bad.toml").write_text(f'extends = "base.toml"\n{chance}\n')
        with pytest.raises(
            ValueError, match=r"bad\.toml: (reinit .* set init_from|freeze.modules .* no trained weights)"
        ):
            Recipe.read(tmp_path / "bad.toml")


def test_a_recipe_does_not_extend_itself(tmp_path):
    (tmp_path / "one.toml").write_text('extends = "two.toml"\n')
    (tmp_path / "two.toml").write_text('extends = "one.toml"\n')
    with pytest.raises(ValueError, match=r"one\.toml: not a valid recipe \(one\.toml extends itself\)"):
        Recipe.read(tmp_path / "one.toml")


def test_a_run_may_move_with_the_weights_that_it_began_with(tmp_path):
    one = Recipe("lithe_paf", (), init_from="/here/lithe.safetensors", freeze=FreezeConfig(("backbone",)))
    (tmp_path / "recipe.json").write_text(one.to_json())
    same_recipe(replace(one, init_from="/there/lithe.safetensors"), tmp_path / "recipe.json")
    for other in (replace(one, init_from="/here/other.safetensors"), replace(one, freeze=FreezeConfig())):
        with pytest.raises(ValueError, match=r"started with a different (init_from|freeze.modules)"):
            same_recipe(other, tmp_path / "recipe.json")
    old = json.loads(one.to_json())
    del old["freeze"]["modules"]  # as written before there was such a key
    (tmp_path / "recipe.json").write_text(json.dumps(old))
    with pytest.raises(ValueError, match=r"started with a different freeze\.modules"):
        same_recipe(one, tmp_path / "recipe.json")


def test_rates_by_schedule():
    steps = Schedule(ScheduleConfig("steps", milestones=(10, 20), factor=0.1, warmup=0), 1.0, 100)
    assert [steps.at(i) for i in (0, 9, 10, 20)] == pytest.approx([1, 1, 0.1, 0.01])
    frozen = Schedule(ScheduleConfig("constant", warmup=0), 1.0, 100, FreezeConfig(backbone_steps=5, lr=3.0))
    assert [frozen.at(i) for i in (0, 4, 5)] == [3, 3, 1]
    plateau = Schedule(ScheduleConfig("plateau", factor=0.5, patience=1, warmup=0), 1.0, 100)
    seen = []
    for loss in (10, 5, 4.99, 4.98, 4.0, 4.0, 4.0):
        plateau.see(loss)
        seen.append(plateau.at(0))
    assert seen == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]


def test_recipes_and_runs_of_version_0_1_are_read(tmp_path):
    (tmp_path / "old.toml").write_text(
        'network = "binary_paf"\noptimizer = "sgd"\nrate = 0.1\nclip = 2.0\nschedule = "steps"\nmilestones = [5]\n'
        'warmup = 1\nstart = "embedded:lithe_paf"\nfrozen = ["front"]\nfreeze = 3\nfront_rate = 0.3\n'
        '[options]\nfront = "mobilenet_v1"\n[[data]]\ndata = "x"\n'
    )
    recipe = Recipe.read(tmp_path / "old.toml")
    assert recipe.optimizer == OptimizerConfig("sgd", lr=0.1, grad_clip=2.0, backbone_factor=0.3)
    assert recipe.schedule == ScheduleConfig("steps", warmup=1, milestones=(5,))
    assert (recipe.pretrained, recipe.freeze) == ("embedded:lithe_paf", FreezeConfig(("backbone",), 3))
    assert build(recipe.network, **recipe.options).config.backbone == "mobilenet_v1"
    run = json.loads(recipe.to_json())
    run |= {"optimizer": "sgd", "rate": 0.2, "schedule": "steps", "freeze": 3, "frozen": ["front"]}
    run |= {"clip": 2.0, "front_rate": 0.3, "milestones": [5], "warmup": 1}
    (tmp_path / "recipe.json").write_text(json.dumps(run))
    with pytest.raises(ValueError, match=r"started with a different optimizer\.lr; "):
        same_recipe(recipe, tmp_path / "recipe.json")


def test_every_parameter_has_one_rate_and_the_right_ones_decay():
    config = OptimizerConfig(lr=1.0, backbone_factor=0.5, refine_factor=4.0, bias_factor=2.0, weight_decay=0.1)
    for name, options in (("binary_paf", {"stages": 2, "backbone": "mobilenet_v1"}), ("context_cpm", {"stages": 2})):
        net = build(name, **options)
        groups = make_optimizer(net, config).param_groups
        of = {id(p): group for group in groups for p in group["params"]}
        assert len(of) == sum(len(g["params"]) for g in groups) == len(list(net.parameters()))
        backbone, binary = net.backbone.stem.conv.weight, [m for m in net.modules() if isinstance(m, BinaryConv2d)]
        assert (of[id(backbone)]["scale"], of[id(backbone)]["weight_decay"]) == (0.5, 0.1)
        assert of[id(net.backbone.stem.bn.weight)]["weight_decay"] == 0
        later = net.stages[1].joints[-1][0] if name == "binary_paf" else net.refinements[0][-1][0]
        assert (of[id(later.weight)]["scale"], of[id(later.bias)]["scale"]) == (4, 8)
        assert of[id(net.cpm[0][0].weight)]["scale"] == 1
        assert all(of[id(m.weight)]["weight_decay"] == 0 for m in binary)


def test_pretrained_weights_may_be_relative_to_the_recipe(tmp_path):
    (tmp_path / "recipes").mkdir()
    for written, read in {
        "../mine.safetensors": str(tmp_path / "mine.safetensors"),
        "./mine.safetensors": str(tmp_path / "recipes" / "mine.safetensors"),
        "weights/mine.safetensors": "weights/mine.safetensors",
        "embedded:lithe_paf": "embedded:lithe_paf",
    }.items():
        path = tmp_path / "recipes" / "mine.toml"
        path.write_text(f'network = "lithe_paf"\npretrained = "{written}"\n[[data]]\ndata = "sticks"\n')
        assert Recipe.read(path).pretrained == read
