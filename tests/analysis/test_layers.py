"""Features and times of layers, and samples of a recipe as an image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conftest import SAMPLES

from lithepose.analysis.features import MULTILEVEL_LAYERS, features, layers_with_maps, sheet
from lithepose.analysis.profile import by_kind, profile
from lithepose.cli import main
from lithepose.errors import ConfigError
from lithepose.networks import build

SMALL = {"width": 16, "context": 16, "blocks": (1, 1)}


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return build("lithe_paf", **SMALL)


def test_features_are_what_the_layer_answers(net):
    image = np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)
    first, last = layers_with_maps(net)[0], layers_with_maps(net)[-1]
    found = features(net, image, (first, last))
    assert [one.layer for one in found] == [first, last]
    assert found[0].maps.shape[1:] == (32, 64)
    one = found[0]
    assert one.active == pytest.approx(float((one.maps > 0).mean()))
    assert one.maps.std((1, 2)).argmax() == one.strongest(1)[0]
    with torch.no_grad():
        x = (torch.from_numpy(image[None]).permute(0, 3, 1, 2).float() - torch.tensor(net.mean).view(1, 3, 1, 1)) / (
            torch.tensor(net.std).view(1, 3, 1, 1)
        )
        expected = dict(net.named_modules())[first](x)[0].numpy()
    np.testing.assert_allclose(one.maps, expected, atol=1e-4)


def test_layers_that_are_not_there_or_have_no_maps(net):
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(ConfigError, match="no such module"):
        features(net, image, ("backbone.nothing",))


def test_the_layers_of_the_paper_are_in_the_network():
    names = dict(build("multilevel", backbone="mobilenet_v1").named_modules())
    assert set(MULTILEVEL_LAYERS) <= set(names)


def test_a_sheet_shows_each_channel_in_its_own_range():
    maps = np.stack([np.linspace(0, k + 1, 16).reshape(4, 4) for k in range(5)])
    shown = sheet(maps, [4, 0], across=2, side=8)
    assert shown.shape == (8, 16)
    np.testing.assert_allclose(shown[:, :8], shown[:, 8:], atol=1e-6)
    assert (shown.min(), shown.max()) == (0, pytest.approx(1))


def test_a_profile_has_all_multiply_adds(net):
    from lithepose.analysis.complexity import measure

    layers = profile(net, 64, 64, rounds=1)
    assert sum(layer.macs for layer in layers) == measure(build("lithe_paf", **SMALL), 3, 64, 64).macs
    rows = by_kind(layers)
    assert sum(int(str(row["layers"])) for row in rows) == len(layers)
    assert any(row["kind"] == "1x1 convolution" for row in rows)
    with pytest.raises(ConfigError, match="0 rounds"):
        profile(net, 64, 64, rounds=0)


def test_commands(tmp_path, stick_images, capsys):
    out = tmp_path / "features.png"
    options = '{"width": 16, "context": 16, "blocks": [1, 1]}'
    sample = str(SAMPLES / "astronaut.jpg")
    call = ["analyze", "features", "lithe_paf", sample, "--options", options]
    assert main([*call, "--size", "64", "--out", str(out)]) == 0
    assert cv2.imread(str(out)).std() > 5
    assert main([*call, "--layers", "x"]) == 2
    assert main(["analyze", "profile", "lithe_paf", "--options", options, "--size", "64x64", "--layers", "2"]) == 0
    assert "1x1 convolution" in capsys.readouterr().out
    recipe = tmp_path / "mine.toml"
    recipe.write_text('network = "lithe_paf"\nsize = 128\n[[data]]\ndata = "sticks"\n', encoding="utf-8")
    samples = tmp_path / "samples.png"
    data = str(stick_images.parent)
    assert main(["analyze", "augment", str(recipe), "--data", data, "--out", str(samples), "--count", "7"]) == 0
    assert cv2.imread(str(samples)).shape == (256, 768, 3)


def test_benchmark_of_one_shape(tmp_path, capsys):
    table = tmp_path / "times.csv"
    call = ["benchmark", "lithe_paf", "--size", "64x128", "--rounds", "1", "--threads", "1", "--out", str(table)]
    assert main(call) == 0
    assert ",64x128," in table.read_text(encoding="utf-8")
    assert main(["benchmark", "--size", "64by96"]) == 2
    assert "HEIGHTxWIDTH" in capsys.readouterr().err
