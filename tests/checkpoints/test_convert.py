"""Public checkpoints: their layouts written here anew, with random tensors under the public names."""

from __future__ import annotations

import struct

import pytest

torch = pytest.importorskip("torch")
for needed in ("torchvision", "safetensors", "onnx", "onnxscript"):
    pytest.importorskip(needed)

from torch import nn
from torch.nn import functional as F

from lithepose.checkpoints.convert import convert
from lithepose.checkpoints.files import read_checkpoint
from lithepose.checkpoints.names import SOURCES
from lithepose.cli import main
from lithepose.errors import ModelError
from lithepose.exporters.onnx import open_weights
from lithepose.networks import Scaled, build

OPTIONS = {
    "openpose": {"published": True, "stages": 2},
    "lightweight_openpose": {"refinements": 2},
    "context_cpm": {"published": True, "act": "relu", "stages": 2},
    "keypoint_rcnn": {"backbone": "resnet50", "conv": "vanilla", "size": 800},
}


def public(name):
    """A network of ours with random weights, and its tensors as the public checkpoint has them."""
    torch.manual_seed(0)
    net, source = build(SOURCES[name].network, **OPTIONS[name]), SOURCES[name]
    state, names = {}, source.layers(OPTIONS[name])
    for key, tensor in net.state_dict().items():
        layer, _, kind = key.rpartition(".")
        if kind == "running_var":
            tensor.uniform_(0.5, 2)
        elif kind == "running_mean" or (kind == "bias" and "head" not in key):
            tensor.normal_(0, 0.1)
        flipped = tensor.flip(1) if layer == source.stem and kind == "weight" else tensor
        state[f"{names[layer]}.{kind}"] = flipped.clone()
    return net.eval(), state


@pytest.mark.parametrize("name", SOURCES)
def test_there_and_back_is_equal_bit_for_bit(name):
    net, state = public(name)
    done = convert(state, name, "file")
    assert done.options == OPTIONS[name]
    assert done.layers == len(SOURCES[name].layers(OPTIONS[name]))
    for key, tensor in net.state_dict().items():
        assert torch.equal(tensor, done.net.state_dict()[key]), key


def conv(state, x, name, act=True, **how):
    weight = state[f"{name}.weight"]
    how = {"padding": weight.shape[-1] // 2} | how
    x = F.conv2d(x, weight, state.get(f"{name}.bias"), **how)
    return F.relu(x) if act else x


def conv_norm(state, x, name, norm, **how):
    x = conv(state, x, name, act=False, **how)
    mean, var = (state[f"{norm}.running_{kind}"] for kind in ("mean", "var"))
    return F.relu(F.batch_norm(x, mean, var, state[f"{norm}.weight"], state[f"{norm}.bias"], eps=1e-5))


def openpose(state, x):
    for block, count in ((1, 2), (2, 2), (3, 4), (4, 2)):
        for i in range(count):
            x = conv(state, x, f"conv{block}_{i + 1}")
        x = F.max_pool2d(x, 2) if block < 4 else x
    features = inputs = conv(state, conv(state, x, "conv4_3_CPM"), "conv4_4_CPM")
    for stage in (1, 2):
        maps = []
        for branch in ("L1", "L2"):
            names = [f"conv5_{i}_CPM_{branch}" for i in range(1, 6)]
            names = names if stage == 1 else [f"Mconv{i}_stage{stage}_{branch}" for i in range(1, 8)]
            x = inputs
            for name in names:
                x = conv(state, x, name, act=name is not names[-1])
            maps.append(x)
        inputs = torch.cat([*maps, features], 1)
    return maps[1], maps[0]


def mobilenet(state, x):
    x = conv_norm(state, x, "model.0.0", "model.0.1", stride=2)
    for i in range(1, 12):
        dilation = 2 if i == 7 else 1
        channels = x.shape[1]
        how = {"stride": 2 if i in (2, 4) else 1, "groups": channels, "padding": dilation, "dilation": dilation}
        x = conv_norm(state, x, f"model.{i}.0", f"model.{i}.1", **how)
        x = conv_norm(state, x, f"model.{i}.3", f"model.{i}.4")
    return x


def refinement(state, x, at):
    x = conv(state, x, f"{at}.initial.0")
    y = conv_norm(state, x, f"{at}.trunk.0.0", f"{at}.trunk.0.1")
    return x + conv_norm(state, y, f"{at}.trunk.1.0", f"{at}.trunk.1.1", padding=2, dilation=2)


def heads(state, x, at, kinds):
    return [conv(state, conv(state, x, f"{at}.{kind}.0.0"), f"{at}.{kind}.1.0", act=False) for kind in kinds]


def lightweight(state, x):
    x = conv(state, mobilenet(state, x), "cpm.align.0")
    y = x
    for i in range(3):
        y = F.elu(conv(state, y, f"cpm.trunk.{i}.0", act=False, groups=y.shape[1]))
        y = F.elu(conv(state, y, f"cpm.trunk.{i}.2", act=False))
    features = x = conv(state, x + y, "cpm.conv.0")
    for i in range(3):
        x = conv(state, x, f"initial_stage.trunk.{i}.0")
    maps = heads(state, x, "initial_stage", ("heatmaps", "pafs"))
    for stage in range(2):
        x = torch.cat([features, *maps], 1)
        for block in range(5):
            x = refinement(state, x, f"refinement_stages.{stage}.trunk.{block}")
        maps = heads(state, x, f"refinement_stages.{stage}", ("heatmaps", "pafs"))
    return tuple(maps)


def context_cpm(state, x):
    def pair(x, at, stride=1):
        x = conv_norm(state, x, f"{at}.0.0", f"{at}.0.1", stride=stride)
        return conv_norm(state, x, f"{at}.1.0", f"{at}.1.1")

    def up(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    features = x = pair(mobilenet(state, x), "cpm")
    for i in range(3):
        x = conv_norm(state, x, f"initial_stage.trunk.{i}.0", f"initial_stage.trunk.{i}.1")
    (maps,) = heads(state, x, "initial_stage", ("heatmaps",))
    x, at = torch.cat([features, maps], 1), "refinement_stages.0"
    half = pair(x, f"{at}.trunk.0.encoder1", 2)
    quarter = pair(half, f"{at}.trunk.0.encoder2", 2)
    half = pair(torch.cat([half, up(quarter)], 1), f"{at}.trunk.0.decoder2")
    x = pair(torch.cat([x, up(half)], 1), f"{at}.trunk.0.decoder1")
    for block in (1, 2, 3):
        x = refinement(state, x, f"{at}.trunk.{block}")
    return tuple(heads(state, x, at, ("heatmaps",)))


@pytest.mark.parametrize(
    ("name", "reference"),
    [("openpose", openpose), ("lightweight_openpose", lightweight), ("context_cpm", context_cpm)],
)
def test_it_computes_what_the_public_network_does(name, reference):
    """Of BGR, less 128 and over 256, as the published code prepares images."""
    _, state = public(name)
    net = convert(state, name, "file").net
    image = torch.randint(0, 256, (1, 3, 64, 96), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ours = net(Scaled(net)(image))[-1]
        theirs = reference(state, (image.flip(1).float() - 128) / 256)
    for one, other in zip(ours, theirs, strict=True):
        assert one.abs().max() > 1e-6
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5 * float(other.abs().max()))


def test_torchvision_finds_the_same_people():
    from torchvision.models.detection import keypointrcnn_resnet50_fpn

    _, state = public("keypoint_rcnn")
    options = {"weights": None, "weights_backbone": None, "min_size": 128, "max_size": 128, "box_detections_per_img": 5}
    theirs = keypointrcnn_resnet50_fpn(**options).eval()
    missing, unknown = theirs.load_state_dict(state, strict=False)  # which knows the names of older files
    assert not unknown
    assert all(name.endswith("num_batches_tracked") for name in missing)
    for layer in theirs.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 0.0  # as torchvision sets it for its weights
    net = convert(state, "keypoint_rcnn", "file").net
    net.detector.transform.min_size, net.detector.transform.max_size = (128,), 128
    net.detector.roi_heads.detections_per_img = 5
    image = torch.randint(0, 256, (1, 3, 128, 96), generator=torch.Generator().manual_seed(2)).float()
    with torch.inference_mode():
        ours, (expected,) = net(Scaled(net)(image))[0], theirs([image[0] / 255])
    assert len(expected["boxes"]) > 0
    assert torch.allclose(ours["boxes"], expected["boxes"], atol=1e-2)
    assert torch.allclose(ours["keypoints"][..., :2], expected["keypoints"][..., :2], atol=0.5)


def test_the_file_exports_as_any_other(tmp_path, monkeypatch, capsys):
    net, state = public("lightweight_openpose")
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "step": 3}, "public.pth")
    assert main(["convert", "public.pth", "--to", "lightweight_openpose"]) == 0
    assert "Apache-2.0" in capsys.readouterr().out
    again, info = open_weights("lightweight_openpose.safetensors")
    assert info.name == "lightweight_openpose"
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("name", SOURCES)
def test_what_does_not_fit_is_named(name):
    _, state = public(name)
    first = next(key for key in state if key.endswith("weight"))
    without = {key: tensor for key, tensor in state.items() if key != first}
    with pytest.raises(ModelError, match=f"no tensor {first.replace('.', '[.]')}"):
        convert(without, name, "file")
    with pytest.raises(ModelError, match=f"{first.replace('.', '[.]')} has shape"):
        convert(state | {first: torch.zeros(1, 2)}, name, "file")
    with pytest.raises(ModelError, match=r"has no layer for other[.]weight"):
        convert(state | {"other.weight": torch.zeros(1)}, name, "file")
    other = "context_cpm" if name != "context_cpm" else "openpose"
    with pytest.raises(ModelError, match="no tensor"):
        convert(state, other, "file")


def field(number: int, value: bytes) -> bytes:
    def varint(value: int) -> bytes:
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)

    return varint(number << 3 | 2) + varint(len(value)) + value


def caffemodel(state, legacy: bool) -> bytes:
    layers: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        layers.setdefault(layer, {})[kind] = tensor
    out = field(1, b"pose") + (field(2, b"") if not legacy else b"")
    for name, tensors in layers.items():
        blobs = b""
        for kind in ("weight", "bias"):
            tensor = tensors[kind]
            floats = struct.pack(f"<{tensor.numel()}f", *tensor.flatten().tolist())
            if legacy:
                shape = (1,) * (4 - tensor.ndim) + tuple(tensor.shape)
                dims = b"".join(bytes([i << 3]) + field(0, b"")[:0] + _varint(n) for i, n in enumerate(shape, 1))
            else:
                dims = field(7, field(1, b"".join(_varint(n) for n in tensor.shape)))
            blobs += field(6 if legacy else 7, dims + field(5, floats))
        out += field(2 if legacy else 100, field(4 if legacy else 1, name.encode()) + blobs)
    return out


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _varint(value >> 7)


@pytest.mark.parametrize("legacy", [False, True])
def test_caffe_weights_are_read(tmp_path, legacy):
    state = {"conv1_1.weight": torch.randn(5, 3, 3, 3), "conv1_1.bias": torch.randn(5)}
    file = tmp_path / "pose.caffemodel"
    file.write_bytes(caffemodel(state, legacy))
    found = read_checkpoint(file)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(ModelError, match=r"pose.caffemodel: .* truncated"):
        read_checkpoint(file)


class Harmful:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize("kind", ["code", "cut", "text", "list", "empty"])
def test_other_files_are_refused(tmp_path, kind, capsys):
    file = tmp_path / "public.pth"
    torch.save({"code": Harmful(), "list": [1, 2], "empty": {}}.get(kind, {"a": torch.zeros(100)}), file)
    if kind == "cut":
        file.write_bytes(file.read_bytes()[:-200])
    elif kind == "text":
        file.write_text("no weights")
    with pytest.raises(ModelError, match=r"public\.pth: "):
        read_checkpoint(file)
    assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["vgg19", "mobilenet_v3"])
def test_imagenet_backbones(tmp_path, monkeypatch, name, capsys):
    from torchvision.models import mobilenet_v3_large, vgg19

    monkeypatch.chdir(tmp_path)
    with torch.device("meta"):
        shapes = (vgg19 if name == "vgg19" else mobilenet_v3_large)(weights=None).state_dict()
    state = {key: torch.zeros(t.shape, dtype=t.dtype) for key, t in shapes.items() if "classifier" not in key}
    torch.save(state, "imagenet.pth")
    assert main(["convert", "imagenet.pth", "--to", name]) == 0
    assert f'pretrained = "{name}.safetensors"' in capsys.readouterr().out
    first = next(key for key in state if key.endswith("weight"))
    torch.save({key: tensor for key, tensor in state.items() if key != first}, "cut.pth")
    assert main(["convert", "cut.pth", "--to", name, "--out", "other.safetensors"]) == 2
    assert first in capsys.readouterr().err
    assert not (tmp_path / "other.safetensors").exists()


def test_networks_are_named(capsys):
    assert main(["convert", "mine.pth", "--to", "hrnet"]) == 2
    assert "--to hrnet: unknown network; choose one of openpose, lightweight_openpose, " in capsys.readouterr().err


def test_a_download_must_be_known_and_whole(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "mine.pth", "--to", "vgg19", "--download"]) == 2
    assert "mine.pth: not available for --download" in capsys.readouterr().err
    (tmp_path / "vgg19-dcbb9e9d.pth").write_bytes(b"something else")
    assert main(["convert", "vgg19-dcbb9e9d.pth", "--to", "vgg19", "--download"]) == 2
    assert "SHA-256 starts with" in capsys.readouterr().err


def test_openposes_own_decoder_is_for_limb_fields(tmp_path, capsys):
    from lithepose.resources import SAMPLE

    out = tmp_path / "poses.json"
    assert main(["predict", str(SAMPLE), "--json", str(out), "--model", "lithe_paf", "--decoder", "openpose"]) == 0
    assert main(["predict", str(SAMPLE), "--json", str(tmp_path / "b.json"), "--decoder", "openpose"]) == 2
    assert "only works with part affinity fields, which lithe does not have" in capsys.readouterr().err
