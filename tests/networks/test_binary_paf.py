from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from network_tester import NetworkTester

from lithepose.analysis.complexity import measure
from lithepose.networks import build
from lithepose.networks.binary_paf import BinaryConv2d, MultiScaleModule, binarized, sign


class TestBinary(NetworkTester):
    name = "binary_paf"
    options = {"stages": 2, "backbone": "mobilenet_v1"}
    stages = 2

    def test_channels_last_changes_nothing(self):
        net = self.make().stages[1].limbs[0]
        x = torch.randn(1, 185, 6, 6)
        net.eval()
        with torch.no_grad():
            expected = net(x)
            last = net.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
            assert torch.allclose(expected, last, atol=1e-4)


class TestFloat(NetworkTester):
    name = "binary_paf"
    options = {"stages": 2, "layers": "float", "backbone": "mobilenet_v1"}
    stages = 2


class TestMereBinarized(TestBinary):
    name = "binary_paf"
    options = {"stages": 2, "layers": "binary7", "backbone": "mobilenet_v1"}
    stages = 2


@pytest.mark.parametrize(
    ("layers", "parameters", "macs", "binary_macs", "binary_weights"),
    [
        ("binary", 14_250_366, 98_672_140_288, 20_357_936_640, 5_397_120),
        ("float", 14_250_366, 98_672_140_288, 0, 0),
        ("binary7", 52_318_986, 242_317_142_528, 164_896_148_480, 43_715_840),
    ],
)
def test_counts(layers, parameters, macs, binary_macs, binary_weights):
    """The paper prints none; these were counted by hand from its layers."""
    counts = measure(build("binary_paf", layers=layers), 3, 368, 656)
    assert (counts.parameters, counts.macs) == (parameters, macs)
    assert (counts.binary_macs, counts.binary_weights) == (binary_macs, binary_weights)


def test_module_counts():
    for c_in, parameters in ((128, 101_824), (185, 158_820)):
        module = MultiScaleModule(c_in, 128, binarized)
        assert sum(p.numel() for p in module.parameters()) == parameters


def test_sign_of_zero_is_plus_one_and_the_gradient_passes_inside_one():
    x = torch.tensor([-2.0, -0.5, -0.0, 0.0, 0.5, 2.0], requires_grad=True)
    y = sign(x)
    assert y.tolist() == [-1, -1, 1, 1, 1, 1]
    (y * torch.arange(1.0, 7)).sum().backward()
    assert x.grad.tolist() == [0, 2, 3, 4, 5, 0]
    with torch.no_grad():
        assert sign(x).tolist() == y.tolist()


def test_binary_convolution_counts_signs():
    """alpha times a sum of +1 and -1; outside the image counts nothing."""
    layer = BinaryConv2d(4, 3)
    x = torch.randn(2, 4, 5, 5)
    y = layer(x)
    alpha = layer.weight.abs().mean((1, 2, 3))
    whole = (y / alpha[:, None, None]).detach()
    assert torch.allclose(whole, whole.round(), atol=1e-5)
    inner, corner = whole[..., 1:-1, 1:-1].round() % 2, whole[..., 0, 0].round() % 2
    assert (inner == 36 % 2).all()
    assert (corner == 16 % 2).all()
    expected = F.conv2d((x >= 0) * 2.0 - 1, (layer.weight >= 0) * 2.0 - 1, padding=1)
    assert torch.equal(whole.round(), expected)


def test_gradient_of_latent_weights():
    torch.manual_seed(0)
    x, pull = torch.randn(1, 2, 4, 4), torch.randn(1, 3, 4, 4)
    gradients = {}
    for how in ("autograd", "xnor"):
        layer = BinaryConv2d(2, 3, gradient=how)
        with torch.no_grad():
            layer.weight.copy_(torch.linspace(-1.5, 1.5, 54).view(3, 2, 3, 3))
        (layer(x) * pull).sum().backward()
        weight = layer.weight.detach().clone().requires_grad_()
        (F.conv2d(sign(x), weight, padding=1) * pull).sum().backward()
        gradients[how] = layer.weight.grad
        upstream, latent = weight.grad, layer.weight.detach()
        alpha = latent.abs().mean((1, 2, 3), keepdim=True)
        if how == "xnor":
            expected = upstream * (1 / 18 + alpha * (latent.abs() <= 1))
        else:
            signs = torch.where(latent >= 0, 1.0, -1.0)
            through_alpha = (upstream * signs).sum((1, 2, 3), keepdim=True) * signs / 18
            expected = through_alpha + upstream * alpha * (latent.abs() < 1)
        assert torch.allclose(gradients[how], expected, atol=1e-5)
    assert not torch.allclose(gradients["autograd"], gradients["xnor"])


def test_centred_weights():
    layer = BinaryConv2d(4, 3, centred=True)
    with torch.no_grad():
        layer.weight.add_(5)
    # Without centring all signs were +1, and all three filters would give the same.
    bits = layer(torch.ones(1, 4, 3, 3))[0, :, 1, 1]
    assert (bits.abs() < 36 * layer.latent().abs().mean((1, 2, 3))).all()
    with pytest.raises(ValueError, match="gradient"):
        BinaryConv2d(4, 3, gradient="none")


def test_input_scale_is_the_mean_of_what_the_window_sees():
    torch.manual_seed(0)
    plain, scaled = BinaryConv2d(4, 3), BinaryConv2d(4, 3, input_scale=True)
    scaled.load_state_dict(plain.state_dict())
    x = torch.randn(1, 4, 5, 5)
    window = F.conv2d(x.abs(), torch.full((1, 4, 3, 3), 1 / 36), padding=1)
    assert torch.allclose(scaled(x), plain(x) * window, atol=1e-5)


def test_options_reach_every_binary_layer():
    net = build("binary_paf", stages=2, backbone="mobilenet_v1", centred=True, gradient="xnor", input_scale=True)
    layers = [m for m in net.modules() if isinstance(m, BinaryConv2d)]
    assert len(layers) == 30
    assert {(m.centred, m.gradient, m.input_scale) for m in layers} == {(True, "xnor", True)}


def test_unknown_layers():
    with pytest.raises(ValueError, match="ternary"):
        build("binary_paf", layers="ternary")
