"""lithepose demo"""

from __future__ import annotations

import time
from pathlib import Path

from rich.table import Table

from .calls.console import OK, SOME_FAILED, err_console, out_console


def demo(out: Path = Path("lithepose-demo.jpg")) -> int:
    """Test the installation: find the person in a sample image, print the joints and write the drawn image.

    Examples:
        lithepose demo
        lithepose demo --out drawn.png
        lithepose demo --debug

    Args:
        out: image to write.
    """
    from ..drawing import draw
    from ..inference.load import load
    from ..media.image import read_image, write_image
    from ..resources import SAMPLE

    image = read_image(SAMPLE)
    model = load()
    began = time.perf_counter()
    poses = model(image)
    milliseconds = (time.perf_counter() - began) * 1000
    if not len(poses):
        err_console.print(
            "lithepose: no person found in the embedded image; this installation is broken, so reinstall lithepose"
        )
        return SOME_FAILED
    table = Table("joint", "x", "y", "score", title=f"best of {len(poses)} found, score {poses.person_score[0]:.2f}")
    for joint, (x, y), score in zip(poses.joints, poses.xy[0], poses.score[0], strict=True):
        if score > 0:
            table.add_row(joint, f"{x:.1f}", f"{y:.1f}", f"{score:.2f}")
    write_image(out, draw(image, poses))
    out_console.print(table)
    out_console.print(f"{milliseconds:.0f} ms for a {image.shape[1]}x{image.shape[0]} image; result written to {out}")
    return OK
