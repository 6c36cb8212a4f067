from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lithepose.networks import build, load_imagenet
from lithepose.networks.backbones import make_backbone, mobilenet, vgg
from lithepose.networks.backbones.mobilenet import MobileNetV1
from lithepose.networks.backbones.vgg import VGG19
from lithepose.networks.blocks import Depthwise
from lithepose.networks.weights import read_pretrained


def numbered(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """A state dict whose tensors can be told apart."""
    return {name: torch.full(shape, float(i)) for i, (name, shape) in enumerate(shapes.items())}


def timm_mobilenet() -> dict[str, tuple[int, ...]]:
    """Names and shapes as timm's mobilenetv1_100 has them."""
    norm = ("weight", "bias", "running_mean", "running_var")
    shapes: dict[str, tuple[int, ...]] = {"conv_stem.weight": (32, 3, 3, 3)} | {f"bn1.{n}": (32,) for n in norm}
    groups = [[64], [128, 128], [256, 256], [512] * 6, [1024] * 2]
    c_in = 32
    for stage, widths in enumerate(groups):
        for block, c_out in enumerate(widths):
            at = f"blocks.{stage}.{block}"
            shapes[f"{at}.conv_dw.weight"] = (c_in, 1, 3, 3)
            shapes |= {f"{at}.bn1.{n}": (c_in,) for n in norm}
            shapes[f"{at}.conv_pw.weight"] = (c_out, c_in, 1, 1)
            shapes |= {f"{at}.bn2.{n}": (c_out,) for n in norm}
            c_in = c_out
    return shapes | {"classifier.weight": (1000, 1024), "classifier.bias": (1000,)}


def torchvision_vgg19() -> dict[str, tuple[int, ...]]:
    places = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
    widths = (64, 64, 128, 128, 256, 256, 256, 256, *[512] * 8)
    shapes, c_in = {}, 3
    for place, c_out in zip(places, widths, strict=True):
        shapes |= {f"features.{place}.weight": (c_out, c_in, 3, 3), f"features.{place}.bias": (c_out,)}
        c_in = c_out
    return shapes | {"classifier.6.bias": (1000,)}


@pytest.fixture
def zoo(monkeypatch):
    """Both packages' weights, as generated state dicts instead of a download."""
    states = {"timm:mobilenetv1_100": numbered(timm_mobilenet()), "torchvision:vgg19": numbered(torchvision_vgg19())}
    for module in (mobilenet, vgg):
        monkeypatch.setattr(module, "read_pretrained", lambda start: states[start])
    return states


@pytest.mark.parametrize("blocks", [11, 13])
def test_mobilenet_takes_timm_weights_by_name(zoo, blocks):
    net = MobileNetV1(blocks)
    net.load_imagenet("timm:mobilenetv1_100")
    state = zoo["timm:mobilenetv1_100"]
    assert torch.equal(net.stem.conv.weight, state["conv_stem.weight"])
    places = ("0.0", "1.0", "1.1", "2.0", "2.1", "3.0", "3.1", "3.2", "3.3", "3.4", "3.5", "4.0", "4.1")
    for block, place in zip(net.blocks, places, strict=False):
        for ours, theirs in (("dw", "conv_dw"), ("dw_bn", "bn1"), ("pw", "conv_pw"), ("pw_bn", "bn2")):
            for name, tensor in getattr(block, ours).state_dict().items():
                if name != "num_batches_tracked" and (theirs, name) not in (("bn1", "weight"), ("bn2", "weight")):
                    assert torch.equal(tensor, state[f"blocks.{place}.{theirs}.{name}"]), (place, name)


def test_another_epsilon_is_in_the_weights(zoo):
    """Files of ours say none, so a network that is built again has the epsilon of all the others."""
    state = zoo["timm:mobilenetv1_100"]
    for name in [name for name in state if name.endswith("running_var")]:
        state[name] = torch.logspace(-6, 0, len(state[name]))
    net = MobileNetV1().eval()
    net.load_imagenet("timm:mobilenetv1_100")
    again = MobileNetV1().eval()
    again.load_state_dict(net.state_dict())
    x = torch.randn(1, 32, 5, 5)
    at = "blocks.0.0.bn1."
    theirs = nn.functional.batch_norm(x, *(state[at + n] for n in ("running_mean", "running_var", "weight", "bias")))
    assert torch.allclose(again.blocks[0].dw_bn(x), theirs, rtol=1e-4, atol=1e-5)


def test_mobilenet_starts_from_a_trained_network_of_ours():
    trained = read_pretrained("embedded:lithe_paf")
    net = MobileNetV1(stride=8)
    net.load_imagenet("embedded:lithe_paf")
    for name, tensor in net.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, trained[f"backbone.{name}"]), name
    with pytest.raises(FileNotFoundError, match="embedded:nobody"):
        read_pretrained("embedded:nobody")


def test_vgg_takes_torchvision_weights_by_name(zoo):
    for name in ("openpose", "multilevel", "binary_paf"):
        net = build(name)
        load_imagenet(net, "torchvision:vgg19")
        last = net.backbone.features[21]
        assert torch.equal(last.weight, zoo["torchvision:vgg19"]["features.21.weight"])
        with pytest.raises(ValueError, match=r"features\.0\.weight"):
            load_imagenet(net, "timm:mobilenetv1_100")
    with pytest.raises(ValueError, match=r"stem\.conv"):
        load_imagenet(build("split_stream"), "torchvision:vgg19")


def test_mobilenet_v3_takes_torchvision_weights_by_name(monkeypatch):
    models = pytest.importorskip("torchvision.models")
    state = models.mobilenet_v3_large().state_dict()
    monkeypatch.setattr("lithepose.networks.keypoint_rcnn.read_pretrained", lambda _: state)
    for levels in ("fpn", "c4"):
        net = build("keypoint_rcnn", layers=1, width=8, levels=levels)
        load_imagenet(net, "torchvision:mobilenet_v3_large")
        body = net.detector.backbone.body.state_dict()
        assert torch.equal(body["12.block.0.0.weight"], state["features.12.block.0.0.weight"])
        assert all(torch.equal(t, state[f"features.{n}"]) for n, t in body.items() if not n.endswith("tracked"))


def test_blocks_at_stride_32_stay_where_the_start_lacks_them(tmp_path):
    trained = read_pretrained("embedded:lithe_paf")
    whole = {name: tensor for name, tensor in trained.items() if name.startswith("backbone.")}
    whole["backbone.blocks.11.dw.weight"] = torch.zeros(512, 1, 3, 3)  # a part of the twelfth block
    save_file(whole, tmp_path / "start.safetensors")
    torch.manual_seed(0)
    net = MobileNetV1(13)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net.load_imagenet(tmp_path / "start.safetensors")
    for name, tensor in net.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            late = name.startswith(("blocks.11.", "blocks.12."))
            assert torch.equal(tensor, before[name] if late else trained[f"backbone.{name}"]), name
    del whole["backbone.blocks.10.pw.weight"]
    save_file(whole, tmp_path / "start.safetensors")
    with pytest.raises(ValueError, match=r"blocks\.11\.pw\.weight"):
        net.load_imagenet(tmp_path / "start.safetensors")


def test_our_own_start_loads_and_others_are_named(tmp_path):
    net = MobileNetV1(13)
    state = {}
    for name, tensor in net.state_dict().items():
        parts = name.split(".")
        if parts[0] == "blocks":
            parts[1] = str(int(parts[1]) + 1)
        if not name.endswith("num_batches_tracked"):
            state[".".join(parts)] = torch.full_like(tensor, len(state))
    save_file(state, tmp_path / "start.safetensors")
    other = MobileNetV1(11, stride=8)
    other.load_imagenet(tmp_path / "start.safetensors")
    for name, tensor in other.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            parts = name.split(".")
            if parts[0] == "blocks":
                parts[1] = str(int(parts[1]) + 1)
            assert torch.equal(tensor, state[".".join(parts)]), name
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"bad\.safetensors"):
        read_pretrained(tmp_path / "bad.safetensors")
    with pytest.raises(FileNotFoundError, match="torchvision:NAME"):
        read_pretrained(tmp_path / "gone.safetensors")


@pytest.mark.parametrize(("stride", "multiple"), [(16, 16), (8, 8), (4, 4)])
def test_strides(stride, multiple):
    net = MobileNetV1(stride=stride).eval()
    assert net.multiple == multiple
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 64, 96))[-1].shape == (1, 512, 64 // stride, 96 // stride)
    assert VGG19()(torch.zeros(1, 3, 16, 24))[0].shape == (1, 512, 2, 3)
    for bad in (lambda: MobileNetV1(stride=5), lambda: make_backbone("resnet")):
        with pytest.raises(ValueError, match=r"stride 5|resnet"):
            bad()


def test_a_dilated_depthwise_layer_has_right_gradients_in_bf16_training():
    torch.manual_seed(0)
    layer = Depthwise(64, dilation=2)
    exact = Depthwise(64, dilation=2)
    exact.load_state_dict(layer.state_dict())
    for _ in range(8):
        x = torch.randn(2, 64, 32, 32).contiguous(memory_format=torch.channels_last)
        wrong = [torch.full((1 << k,), 1e30) for k in range(4, 23)]  # what a kernel that reads too far would find
        del wrong
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(x)
        assert out.dtype == torch.float32  # processors without AMX compute right either way
        gradient = torch.randn_like(out)
        layer.zero_grad()
        out.backward(gradient)
        exact.zero_grad()
        exact(x).backward(gradient.float())
        assert layer.weight.grad == pytest.approx(exact.weight.grad, rel=0.02, abs=0.5)
