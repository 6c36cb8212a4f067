"""lithepose convert"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from .calls.console import OK, missing, out_console
from .calls.files import check_output, keep_inputs


def convert(
    file: str,
    /,
    to: Literal["openpose", "lightweight_openpose", "context_cpm", "keypoint_rcnn", "vgg19", "mobilenet_v3"],
    out: Path | None = None,
    download: bool = False,
) -> int:
    """Write a public checkpoint of a network as weights that this package trains from and exports.

    Each layer is compared with what the checkpoint's own tensors compute. Nothing in the file is run. Its licence stays
    that of its authors, and is printed.

    Examples:
        lithepose convert pose_iter_440000.caffemodel --to openpose
        lithepose convert checkpoint_iter_370000.pth --to lightweight_openpose --out lightweight.safetensors
        lithepose convert vgg19-dcbb9e9d.pth --to vgg19 --download

    Args:
        file: checkpoint: .pth, .pt or .tar of PyTorch, .caffemodel, or .safetensors.
        to: the network it is of. vgg19 and mobilenet_v3 are ImageNet weights, for ``pretrained`` of a recipe.
        out: file to write. Default: NETWORK.safetensors.
        download: fetch the file first, if it is one of torchvision's that the documentation names, and check its
            digest. Nothing is fetched otherwise.
    """
    try:
        from ..checkpoints.convert import BACKBONES, save, save_backbone
        from ..checkpoints.convert import convert as converted
        from ..checkpoints.files import download as fetched
        from ..checkpoints.files import read_checkpoint
        from ..checkpoints.names import SOURCES
    except ImportError as error:
        raise missing("convert", "train", error) from error

    out = out or Path(f"{to}.safetensors")
    path = Path(file)
    check_output(out, "--out")
    if download:
        path = fetched(path.name, path.parent)
    keep_inputs(out, "--out", (path,))
    state = read_checkpoint(path)
    if to in BACKBONES:
        count = save_backbone(state, to, path, out)
        out_console.print(f'{out}: {count} tensors of {to}; pretrained = "{out}" in a recipe', highlight=False)
        return OK
    done = converted(state, to, path)
    save(done, to, out)
    line = f"{out}: {done.layers} layers compared, largest difference {done.difference:.1e}; export it by"
    out_console.print(f"{line} `lithepose export {out}`", highlight=False)
    out_console.print(f"licence of the weights: {SOURCES[to].licence}", highlight=False)
    return OK
