"""Variants of lithe's pose network, trained for equal minutes.

    python research/lithe/ablation.py --data DATA --minutes 3 --out results.csv VARIANT ...

Each variant trains from random weights, or from its ImageNet weights, on the same crops in the same order for the same
wall time, at the same learning rate and crop size. OKS-AP is measured with true boxes on two validation sets.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lithepose.data.coco import KeypointSet
from lithepose.evaluation.metrics import oks
from lithepose.geometry import apply, crop_matrix, invert, warp
from lithepose.heads.people import LITHE_HEAD
from lithepose.networks.backbones.residual import conv_bn
from lithepose.networks.lithe import Lithe, LitheConfig, joints_from_heatmaps
from lithepose.training.augment import AugmentConfig
from lithepose.training.config import Source
from lithepose.training.crops import CropSamples, gaussian_targets
from lithepose.training.optim import Average, Muon

SIGMA = 1.5  # cells, at 128x96
HEAD = replace(LITHE_HEAD, sigma=SIGMA)
AUGMENT = AugmentConfig(rotate=30, rotate_share=0.6, half_body=0.2, crop_zoom=(0.75, 1.35), crop_shift=0.12)
LSPET = ("lspet-1.tar", "lspet-2.tar")
PEOPLE = ("people-1.tar", "people-2.tar")
SOURCES = [
    Source("coco-squashed.tar", weight=0.34, squashed=True),
    Source("coco-more.tar", "squashed", weight=0.12, squashed=True),
    Source("coco-more.tar", "true", weight=0.01),
    Source("coco-full.tar", "train", weight=0.03),
    Source("people-true.json.gz", images=PEOPLE, weight=0.16, joints=5),
    Source("people-squashed.json.gz", images=PEOPLE, weight=0.16, squashed=True, joints=5),
    Source("lspet-people-train.json.gz", images=LSPET, weight=0.18, joints=5),
]


class SimCC(Lithe):
    """One-dimensional classification of each coordinate in bins of half a pixel (Li et al. 2022, SimCC)."""

    def __init__(self, config: LitheConfig, shape: tuple[int, int]) -> None:
        super().__init__(config)
        width, joints = config.width, len(self.head.skeleton)
        self.predict = nn.Sequential(conv_bn(width, width), nn.Conv2d(width, joints, 1))
        cells = (shape[0] // 8) * (shape[1] // 8)
        self.across, self.down = nn.Linear(cells, 2 * shape[1]), nn.Linear(cells, 2 * shape[0])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        _, at8, at16, at32 = self.backbone(x)
        up = F.interpolate(self.lateral32(at32), scale_factor=2.0, mode="bilinear")
        merged = F.interpolate(self.lateral16(at16) + up, scale_factor=2.0, mode="bilinear")
        tokens = self.predict(F.relu(self.lateral8(at8) + merged)).flatten(2)
        return self.across(tokens), self.down(tokens)


PLAIN = LitheConfig(streams=False)
VARIANTS: dict[str, LitheConfig] = {
    "residual": PLAIN,
    "mobilenet_v1": replace(PLAIN, backbone="mobilenet_v1"),
    "efficientnet_lite0": replace(PLAIN, backbone="efficientnet_lite0"),
    "u_shaped_context": replace(PLAIN, context=True),
    "split_streams": replace(PLAIN, streams=True),
    "expanded_depthwise": replace(PLAIN, block="expanded_depthwise"),
    "multi_scale": replace(PLAIN, block="multi_scale"),
    "branches": replace(PLAIN, block="branches"),
    "simcc": PLAIN,
    "wide": replace(PLAIN, widths=(16, 32, 64, 128, 192)),
    "early": replace(PLAIN, depths=(2, 3, 2, 2)),
    "wide_multi_scale_streams": replace(PLAIN, widths=(16, 48, 96, 160, 224), block="multi_scale", streams=True),
}
STARTS = {
    "mobilenet_v1": "mobilenet_v1_1.0_imagenet.safetensors",
    "efficientnet_lite0": "efficientnet_lite0_imagenet.safetensors",
}


def heatmap_loss(output: list[tuple[Tensor]], batch: dict[str, Tensor], shape: tuple[int, int]) -> Tensor:
    """Weighted squared error."""
    target = gaussian_targets(batch["joints"], batch["visible"], HEAD, (shape[0] // 4, shape[1] // 4))
    weight = batch["weight"][..., None, None] * (1 + 3 * target)
    return (weight * (output[0][0].float() - target).square()).sum(1).mean()


def simcc_loss(output: tuple[Tensor, Tensor], batch: dict[str, Tensor], shape: tuple[int, int]) -> Tensor:
    """Cross-entropy with Gaussian labels of six bins (Li et al. 2022)."""
    total = torch.zeros(())
    for axis, logits in enumerate(output):
        bins = torch.arange(logits.shape[-1], dtype=torch.float32) / 2 - 0.25
        label = torch.softmax(-((bins - batch["joints"][..., axis, None]) ** 2) / (2 * 3.0**2), -1)
        loss = -(label * torch.log_softmax(logits.float(), -1)).sum(-1)
        total = total + (loss * batch["weight"] * batch["visible"]).mean()
    return total


def simcc_joints(output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Position of the largest bin of each axis, and the smaller of the two probabilities."""
    best = [torch.softmax(logits.float(), -1).max(-1) for logits in output]
    xy = torch.stack([b.indices.float() / 2 - 0.25 for b in best], -1)
    return xy, torch.minimum(best[0].values, best[1].values)


def measure(find: Callable[[Tensor], tuple[Tensor, Tensor]], data: KeypointSet, shape: tuple[int, int]) -> float:
    """OKS-AP of a crop network with true boxes."""
    crops, backs, people = [], [], []
    for record in data.records:
        image = data.files.image(record.file_name)
        for person in record.people:
            if person["num_keypoints"] and not person.get("iscrowd"):
                matrix = crop_matrix(person["bbox"], shape)
                crops.append(warp(image, matrix, shape))
                backs.append(invert(matrix))
                people.append(record.id)
    results = []
    for first in range(0, len(crops), 64):
        x = torch.from_numpy(np.stack(crops[first : first + 64])).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad():
            xy, score = find(x.contiguous(memory_format=torch.channels_last))
        for i in range(len(xy)):
            at = apply(backs[first + i], xy[i].numpy())
            keypoints = np.concatenate([at, score[i].numpy()[:, None]], 1)
            sure = score[i][score[i] > 0.2]
            person_score = float(sure.mean()) if len(sure) else 0.0
            results.append(
                {
                    "image_id": people[first + i],
                    "category_id": 1,
                    "keypoints": keypoints.ravel().tolist(),
                    "score": person_score,
                }
            )
    return oks(data.records, results)["AP"]


def train(name: str, arguments: argparse.Namespace, samples: CropSamples) -> tuple[nn.Module, int, float]:
    """Train one variant; returns its averaged network, the samples seen and the last loss."""
    torch.manual_seed(0)
    shape = tuple(arguments.shape)
    net = SimCC(VARIANTS[name], shape) if name == "simcc" else Lithe(VARIANTS[name])
    if name in STARTS:
        net.backbone.load_imagenet(arguments.weights / STARTS[name])
    net = net.to(memory_format=torch.channels_last).train()
    muon = [p for p in net.parameters() if p.ndim == 4 and p.shape[1] > 1]
    chosen = {id(p) for p in muon}
    groups = [
        {"params": muon, "muon": True, "weight_decay": 0.01},
        {"params": [p for p in net.parameters() if id(p) not in chosen]},
    ]
    optimizer, average = Muon(groups, lr=arguments.lr), Average(net, 0.998)
    loss_of = simcc_loss if name == "simcc" else heatmap_loss
    limit, began, seen, recent = arguments.minutes * 60, time.perf_counter(), 0, 0.0
    for step, batch in enumerate(samples.batches(0, 10_000_000, arguments.batch)):
        share = (time.perf_counter() - began) / limit
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = arguments.lr * min(1, (step + 1) / 50) * max(1 - share, 0.01)
        x = (batch.images.float() - 127.5) / 127.5
        with torch.autocast("cpu", torch.bfloat16):
            output = net(x)
        loss = loss_of(output, batch.targets, shape)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(net, step)
        seen += len(batch.numbers)
        recent = 0.95 * recent + 0.05 * loss.item()
        if step % 100 == 0:
            print(
                f"{name} step {step} {seen} samples {time.perf_counter() - began:.0f} s loss {recent:.4f}", flush=True
            )
    average.copy_to(net)
    return net.eval(), seen, recent


def milliseconds(net: nn.Module, shape: tuple[int, int], folder: Path) -> float:
    """Median time of one crop in a batch of four, ONNX Runtime fp32, two threads."""
    path = folder / "variant.onnx"
    torch.onnx.export(net, (torch.zeros(4, 3, *shape),), str(path), input_names=["x"], opset_version=17, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options)
    x, times = np.zeros((4, 3, *shape), np.float32), []
    for _ in range(40):
        began = time.perf_counter()
        session.run(None, {"x": x})
        times.append((time.perf_counter() - began) * 250)
    return float(np.median(times[5:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=list(VARIANTS), metavar="VARIANT", help=", ".join(VARIANTS))
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--weights", type=Path, help="folder of the ImageNet weights")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="folder for decoded images")
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--shape", type=int, nargs=2, default=(128, 96), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--out", type=Path, required=True, help="csv to append to")
    arguments = parser.parse_args()
    if arguments.weights is None and STARTS.keys() & set(arguments.variants):
        parser.error(f"{', '.join(STARTS)}: require --weights")
    torch.set_flush_denormal(True)
    cv2.setNumThreads(1)
    shape = tuple(arguments.shape)
    samples = CropSamples(SOURCES, arguments.data, LITHE_HEAD, [(shape, 1.0)], AUGMENT, 0, arguments.cache)
    print(f"{len(samples)} people", flush=True)
    chosen_on = KeypointSet.open(arguments.data / "coco-full.tar", "val")
    reported = KeypointSet.open(arguments.data / "coco-val.tar", "val")
    for name in arguments.variants:
        net, seen, loss = train(name, arguments, samples)

        def find(x: Tensor, net: nn.Module = net, simcc: bool = name == "simcc") -> tuple[Tensor, Tensor]:
            return simcc_joints(net(x)) if simcc else joints_from_heatmaps(net(x)[0][0], 4, SIGMA)

        row = {
            "variant": name,
            "minutes": arguments.minutes,
            "samples": seen,
            "loss": round(loss, 4),
            "AP coco-full val": round(measure(find, chosen_on, shape), 4),
            "AP coco-val": round(measure(find, reported, shape), 4),
            "parameters": sum(p.numel() for p in net.parameters()),
            # SimCC has layers of one size: it cannot run at 256x192.
            "ms a crop": "" if name == "simcc" else round(milliseconds(net, (256, 192), arguments.cache), 3),
        }
        print(row, flush=True)
        new = not arguments.out.exists()
        with arguments.out.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
            os.fsync(file.fileno())


if __name__ == "__main__":
    main()
