from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conftest import figure  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from lithepose.decode import Maps, decode  # noqa: E402
from lithepose.skeleton import COCO_17, COCO_HEAD  # noqa: E402
from lithepose.training import augment  # noqa: E402
from lithepose.training.augment import AugmentConfig  # noqa: E402
from lithepose.training.checkpoint import exclusive  # noqa: E402
from lithepose.training.datasets import PoseSamples, Source, make_maps, read_people  # noqa: E402
from lithepose.training.distributed import World  # noqa: E402
from lithepose.training.losses import map_loss  # noqa: E402
from lithepose.training.optimize import rate_at  # noqa: E402
from lithepose.training.recipe import Recipe  # noqa: E402
from lithepose.training.train import Trainer, train  # noqa: E402

NAMES = COCO_17.joints


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
def test_picture_and_joints_move_together(seed, stretch):
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
    weight[weight < 160**3] = 0  # the grey beside the photo
    if weight.any():
        rows, columns = np.mgrid[:128, :128]
        found = (columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()
        assert np.hypot(found[0] - x, found[1] - y) < 1


def test_samples_depend_on_their_number_alone(stick_photos):
    one, two = samples(stick_photos), samples(stick_photos)
    first, again = one[3], two[3]
    assert first.keys() == again.keys()
    assert all(torch.equal(first[k], again[k]) for k in first if k != "number")
    assert not torch.equal(first["image"], one[4]["image"])
    shapes = [tuple(t.shape) for t in first.values() if isinstance(t, torch.Tensor)]
    assert shapes == [(3, 128, 128), (18, 16, 16), (38, 16, 16), (18, 16, 16), (19, 16, 16)]


def test_samples_decode_to_people_in_the_picture(stick_photos):
    """Through placement, mirroring and maps: what decode finds lies on the white figures."""
    data = samples(stick_photos, mosaic=0, mask_body=0, colour=0, blur=0, grey=0, rotate_share=0, whole=1)
    hits, people = [], 0
    for i in range(12):
        item = data[i]
        image, maps = item["image"], Maps.from_arrays(item["heatmaps"].numpy(), item["fields"].numpy())
        xy, score, _ = decode(maps, COCO_HEAD)
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
    _, _, heat_mask, field_mask = make_maps(people, COCO_HEAD, 256)
    for mask in (heat_mask, field_mask):
        assert mask[:, :14, :14].all()
        assert not mask[:, 3:10, 24:27].any()
        assert not mask[:, 21:27, 21:27].any()


def test_what_a_teacher_left_out_is_masked_inside_the_person():
    joints = figure(40, 40, 150)
    joints[9] = 0  # left wrist
    wrist, nose = 9, 0
    for more, masked in (({"source": "teacher"}, True), ({"source": "annotated"}, False)):
        people = read_people((annotation(joints, **more) | {"bbox": [40, 40, 150, 150]},), NAMES, COCO_HEAD)
        heat, _, heat_mask, field_mask = make_maps(people, COCO_HEAD, 256)
        limb = COCO_HEAD.limbs.index((7, 9))
        assert heat_mask[wrist, 10, 20] != masked
        assert field_mask[limb, 10, 20] != masked
        assert heat_mask[nose].all()
        assert heat_mask[wrist, 30, 30]
        assert heat[nose].max() > 0.5


def test_joints_that_a_data_set_lacks_are_masked():
    names = tuple(n for n in NAMES if "ear" not in n)
    joints = figure(40, 40, 150)[[NAMES.index(n) for n in names]]
    people = read_people((annotation(joints),), names, COCO_HEAD)
    _, _, heat_mask, _ = make_maps(people, COCO_HEAD, 256)
    assert not heat_mask[NAMES.index("left_ear"), 8, 14]
    assert heat_mask[NAMES.index("nose")].all()


def test_masked_cells_and_channels_do_not_count():
    rng = np.random.default_rng(0)
    heat, fields = torch.from_numpy(rng.random((2, 3, 4, 4))), torch.from_numpy(rng.random((2, 4, 4, 4)))
    stages = [(heat.clone().requires_grad_(), (fields + 1).requires_grad_())]
    heat_mask, field_mask = torch.ones(2, 3, 4, 4, dtype=torch.bool), torch.zeros(2, 2, 4, 4, dtype=torch.bool)
    assert map_loss(stages, heat, fields, heat_mask, field_mask)["total"] < 1e-12
    field_mask[:, 1] = True
    loss = map_loss(stages, heat, fields, heat_mask, field_mask)
    loss["total"].backward()
    assert loss["total"].item() == pytest.approx(2)  # 2 of 4 channels are off by one in every cell
    gradient = stages[0][1].grad
    assert (gradient[:, :2] == 0).all()
    assert (gradient[:, 2:] != 0).all()


def test_rate_rises_and_falls():
    recipe = Recipe("lithe", (), steps=100, warmup=10, rate=1.0, final_rate=0.1)
    rates = [rate_at(i, recipe) for i in range(100)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)


def test_unknown_keys_of_a_recipe_are_named(tmp_path):
    good = 'network = "lithe"\n[[data]]\ndata = "x"\n'
    bad = ("speed = 3\n", "steps = 'many'\n", "size = 100\n", "data = []\n", "steps = 0\n", "options = 3\n")
    for text in (*(line + good for line in bad), "network = 3 = 4", 'network = "lithe"\n', 'data = "x"\n' + good):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        with pytest.raises(ValueError, match=r"mine\.toml"):
            Recipe.read(path)


RECIPE = """
network = "lithe"
size = 128
batch = 4
steps = {steps}
warmup = 3
rate = 4e-3
save_every = 4
[options]
width = 16
context = 16
blocks = [1, 1]
[[data]]
data = "sticks"
"""


def start(folder: Path, recipe: Path, run: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "lithepose", "train", recipe, "--data", folder, "--run", folder / run]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(list(map(str, command)), env=environment, stderr=subprocess.PIPE)


def finish(folder: Path, recipe: Path, run: str, code: int = 0) -> str:
    process = start(folder, recipe, run)
    _, error = process.communicate(timeout=500)
    assert process.returncode == code, error.decode()
    return error.decode().replace("\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot kill so")
def test_a_killed_run_ends_with_the_same_weights(stick_photos):
    folder = stick_photos.parent
    recipe = folder / "mine.toml"
    recipe.write_text(RECIPE.format(steps=24))
    finish(folder, recipe, "whole")
    killed = start(folder, recipe, "killed")
    checkpoint = folder / "killed" / "checkpoint.pt"
    deadline = time.monotonic() + 240
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert checkpoint.exists()
    assert not (folder / "killed" / "weights.safetensors").exists(), "it ended before it could be killed"
    finish(folder, recipe, "killed")
    one, two = (folder / run / "weights.safetensors" for run in ("whole", "killed"))
    assert one.read_bytes() == two.read_bytes()
    log = [json.loads(line) for line in (folder / "whole" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [20, 24]


def test_frozen_blocks_keep_their_weights_and_the_others_learn(stick_photos):
    root = stick_photos.parent
    small = {"width": 16, "context": 16, "blocks": (1, 1)}
    common = {"data": (Source("sticks"),), "size": 128, "batch": 2, "options": small, "warmup": 1, "rate": 1e-2}
    for frozen, options in (
        (("front.stem.", "front.blocks.0.", "front.blocks.1.", "front.blocks.2."), {"freeze": 3, "steps": 2}),
        (("front.",), {"frozen_steps": 2, "steps": 2}),
        ((), {"frozen_steps": 2, "steps": 4}),
    ):
        run = root / f"run{len(frozen)}{options['steps']}"
        run.mkdir()
        with World() as world:
            trainer = Trainer(Recipe("lithe", **common, **options), root, run, world)
            before = {name: value.clone() for name, value in trainer.net.state_dict().items()}
            trainer.run(quiet=True, tensorboard=False)
        state = trainer.net.state_dict()
        assert {n for n in state if torch.equal(state[n], before[n])} == {n for n in state if n.startswith(frozen)}


def test_a_run_goes_on_only_by_its_own_recipe_and_its_log_is_of_its_steps(stick_photos):
    folder = stick_photos.parent
    recipe = folder / "mine.toml"
    recipe.write_text(RECIPE.format(steps=10))
    finish(folder, recipe, "run")
    recipe.write_text(RECIPE.format(steps=10).replace("4e-3", "5e-3"))
    assert "another rate" in finish(folder, recipe, "run", code=2)
    recipe.write_text(RECIPE.format(steps=23))
    finish(folder, recipe, "run")
    log = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [10, 20, 23]
    totals = [line["total"] for line in log]
    assert min(totals) > 0.3 * max(totals), "means, however many steps a line has"


def test_two_processes_do_not_share_a_run(tmp_path):
    with exclusive(tmp_path / "lock"):
        code = (
            "import sys; from pathlib import Path; from lithepose.training.checkpoint import exclusive\n"
            "with exclusive(Path(sys.argv[1])): pass"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "lock")]
        other = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert "another process trains here" in other.stderr
    with exclusive(tmp_path / "lock"):
        pass


def test_weights_of_another_network_are_refused(stick_photos):
    save_file({"other.weight": torch.zeros(3)}, stick_photos.parent / "other.safetensors")
    other = str(stick_photos.parent / "other.safetensors")
    recipe = Recipe("lithe", (Source("sticks"),), resume_weights=other)
    with pytest.raises(ValueError, match=r"other\.safetensors"):
        train(recipe, stick_photos.parent, stick_photos.parent / "run")


def test_a_damaged_checkpoint_is_named(stick_photos):
    folder = stick_photos.parent
    recipe = folder / "mine.toml"
    recipe.write_text(RECIPE.format(steps=24))
    (folder / "run").mkdir()
    (folder / "run" / "checkpoint.pt").write_bytes(b"half a file")
    assert "checkpoint.pt" in finish(folder, recipe, "run", code=2)


def test_training_learns(stick_photos):
    folder = stick_photos.parent
    recipe = folder / "mine.toml"
    recipe.write_text(RECIPE.format(steps=100))
    finish(folder, recipe, "run")
    totals = [json.loads(line)["total"] for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    assert totals[-1] < 0.75 * totals[0]
