"""Give every stream of a trained split_stream its own copy of the depthwise convolution that all streams share.

    python research/debnath2018split/split.py runs/split-stream-shared/weights.safetensors --out START.safetensors

The output predicts the same as the input. Training the shared form first is twice as fast, because most of the time
goes into eleven depthwise convolutions of 512 channels at stride 4. With ``--share``, the other way: the streams' own
depthwise convolutions become one, their mean, to train the shared form further; this changes the output.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import torch
import tyro
from torch import Tensor

from lithepose.exporters.onnx import open_weights
from lithepose.networks import build
from lithepose.networks.split_stream import SplitStream
from lithepose.training.checkpoint import save_weights
from lithepose.training.optim import Average


def main(weights: Path, /, out: Path, share: bool = False) -> None:
    """Split the shared depthwise convolution, or share the mean of split ones.

    Args:
        weights: weights.safetensors of a split_stream with ``own_depthwise = false``; with ``share``, true.
        out: file to write.
        share: replace the streams' depthwise convolutions by their mean.
    """
    before, info = open_weights(weights)
    if not isinstance(before, SplitStream) or before.config.own_depthwise != share:
        raise SystemExit(f"{weights}: not a split_stream with own_depthwise = {str(share).lower()}")
    config = replace(before.config, own_depthwise=not share)
    net = build("split_stream", info.joints_head, **asdict(config))
    convert = shared_state if share else split_state
    net.load_state_dict(convert(before.state_dict(), len(info.joints_head.skeleton)))
    x = torch.rand(1, 3, info.size, info.size)
    with torch.inference_mode():
        difference = (net.eval()(x)[0][0] - before.eval()(x)[0][0]).abs().max().item()
    save_weights(out, Average(net, 0.0), info, asdict(config))
    print(f"{out}: largest difference of heatmaps {difference:.1e}")


def split_state(shared: dict[str, Tensor], joints: int) -> dict[str, Tensor]:
    """Return the tensors with a depthwise convolution for each of ``joints`` streams, from those with a shared one."""
    state = dict[str, Tensor]()
    for name, tensor in shared.items():
        parts = name.split(".")
        if not name.startswith("streams."):
            state[name] = tensor
        elif parts[1] == "shared":  # streams.shared.LAYER.TENSOR
            for joint in range(joints):
                state[".".join(("streams.joints", str(joint), ("dw", "dw_bn")[int(parts[2])], parts[3]))] = tensor
        else:  # streams.joints.JOINT.LAYER.TENSOR
            state[".".join((*parts[:3], ("pw", "pw_bn")[int(parts[3])], parts[4]))] = tensor
    return state


def shared_state(split: dict[str, Tensor], joints: int) -> dict[str, Tensor]:
    """Return the tensors with one depthwise convolution, the mean of those of ``joints`` streams."""
    state = dict[str, Tensor]()
    for name, tensor in split.items():
        parts = name.split(".")
        if not name.startswith("streams."):
            state[name] = tensor
        elif parts[3] in ("pw", "pw_bn"):  # streams.joints.JOINT.LAYER.TENSOR
            state[".".join((*parts[:3], str(int(parts[3] == "pw_bn")), parts[4]))] = tensor
        elif parts[2] == "0":
            copies = torch.stack([split[".".join((*parts[:2], str(j), *parts[3:]))].float() for j in range(joints)])
            name = ".".join(("streams.shared", str(int(parts[3] == "dw_bn")), parts[4]))
            state[name] = copies.mean(0).to(tensor.dtype)
    return state


if __name__ == "__main__":
    tyro.cli(main)
