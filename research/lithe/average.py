"""Average the weights of two runs of a network, where one run started from the weights of the other.

    python research/lithe/average.py runs/lithe-longest/weights.safetensors runs/lithe-strong/weights.safetensors \\
        --share 0.3 --out runs/lithe-average/weights.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file


def main() -> None:
    """Write (1 - share) times the first file's weights plus share times the second file's, as fp16."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="share of the second file")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    first, second = load_file(arguments.first), load_file(arguments.second)
    if {name: tensor.shape for name, tensor in first.items()} != {
        name: tensor.shape for name, tensor in second.items()
    }:
        parser.error(f"{arguments.second}: has a different network or different options than {arguments.first}")
    with safe_open(arguments.first, "pt") as file:
        metadata = file.metadata()
    mixed = {name: tensor.float().lerp(second[name].float(), arguments.share).half() for name, tensor in first.items()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(mixed, arguments.out, metadata)


if __name__ == "__main__":
    main()
