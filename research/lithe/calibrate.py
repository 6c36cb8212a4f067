"""Calibrate the scores of joints, so that a score is the share of correct joints.

    python research/lithe/calibrate.py WEIGHTS.safetensors --data DATA

A joint is correct if its object keypoint similarity with the label is at least 0.5. Only people with at least five
labelled joints count; predictions for their unlabelled joints count as wrong. The script fits slope and offset of the
scores' logits on the validation images of coco-full with true boxes, writes them into the file, and prints a table of
scores and shares before and after.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lithepose.data.coco import KeypointSet
from lithepose.exporters.onnx import open_weights
from lithepose.geometry import apply, crop_matrix, invert, warp
from lithepose.networks.lithe import Lithe, joints_from_heatmaps
from lithepose.skeleton import COCO_17


def scores(net: Lithe, data: KeypointSet, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return heatmap values of all joints, and which of them are correct."""
    values, right = [], []
    for record in data.records:
        image = data.files.image(record.file_name)
        people = [p for p in record.people if p["num_keypoints"] >= 5 and not p.get("iscrowd")]
        for person in people:
            matrix = crop_matrix(person["bbox"], shape)
            x = torch.from_numpy(warp(image, matrix, shape)).permute(2, 0, 1)[None].float() / 127.5 - 1
            with torch.no_grad():
                xy, score = joints_from_heatmaps(net(x)[0][0], net.head.stride, net.head.sigma)
            labels = np.array(person["keypoints"], float).reshape(-1, 3)
            squared = ((apply(invert(matrix), xy[0].numpy()) - labels[:, :2]) ** 2).sum(1)
            area = 0.53 * person["bbox"][2] * person["bbox"][3]
            similarity = np.exp(-squared / (2 * area * (2 * np.array(COCO_17.sigmas)) ** 2))
            values.append(score[0].numpy())
            right.append((labels[:, 2] > 0) & (similarity >= 0.5))
    return np.concatenate(values), np.concatenate(right)


def fit(values: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Fit slope and offset of the logits by maximum likelihood."""
    x, y = torch.logit(torch.from_numpy(values).double(), 1e-4), torch.from_numpy(right).double()
    line = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([line], max_iter=100)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(line[0] * x + line[1], y)
        loss.backward()
        return loss

    optimizer.step(closure)
    slope, offset = line.detach().tolist()
    return slope, offset


def table(values: np.ndarray, right: np.ndarray) -> None:
    """Print the share of correct joints by score."""
    for low in np.arange(0, 1, 0.1):
        chosen = (values >= low) & (values < low + 0.1)
        if chosen.any():
            print(f"  {low:.1f} to {low + 0.1:.1f}: {right[chosen].mean():.3f} of {chosen.sum()}")


def main() -> None:
    """Fit, and write the result into the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument(
        "--small-crop",
        type=int,
        nargs="*",
        metavar=("HEIGHT", "WIDTH"),
        help="size of crops of people followed in videos, instead of the trained size",
    )
    arguments = parser.parse_args()
    net, info = open_weights(arguments.weights)
    if not isinstance(net, Lithe):
        raise SystemExit(f"{arguments.weights}: not weights of lithe")
    values, right = scores(net.eval(), KeypointSet.open(arguments.data / "coco-full.tar", "val"), info.crop)
    slope, offset = fit(values, right)
    print("before:")
    table(values, right)
    print(f"slope {slope:.3f}, offset {offset:.3f}; after:")
    logits = slope * np.log(np.clip(values, 1e-4, 1 - 1e-4) / (1 - np.clip(values, 1e-4, 1 - 1e-4))) + offset
    table(1 / (1 + np.exp(-logits)), right)
    with safe_open(arguments.weights, "pt") as file:
        metadata = file.metadata()
    if arguments.small_crop is not None:
        stored = json.loads(metadata["lithepose"])
        stored["info"]["small_crop"] = arguments.small_crop
        metadata = {"lithepose": json.dumps(stored)}
    state = load_file(arguments.weights) | {"calibration": torch.tensor([slope, offset]).half()}
    beside = arguments.weights.with_suffix(".tmp")
    save_file(state, beside, metadata)
    os.replace(beside, arguments.weights)
    print(json.dumps({"weights": str(arguments.weights), "slope": slope, "offset": offset}))


if __name__ == "__main__":
    main()
