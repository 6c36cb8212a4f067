"""lithepose reproduce and convert: the papers' results, and public weights of their networks"""

from __future__ import annotations

import os
import time
from pathlib import Path

from rich.table import Table

from ..errors import ConfigError, LitheposeError
from .calls.console import OK, SOME_FAILED, err_console, missing, note, out_console
from .calls.files import check_output, keep_inputs


def reproduce(
    items: tuple[str, ...] = (),
    /,
    mini: bool = False,
    data: Path = Path("data"),
    out: Path = Path("reproduced"),
    runs: Path | None = None,
    steps: int = 0,
    list: bool = False,
) -> int:
    """Reproduce a table or figure of five papers: train, measure, write a table with the paper's values and an image.

    A stopped call continues where it stopped if it is repeated with the same OUT.

    Examples:
        lithepose reproduce --list
        lithepose reproduce osokin2019context/table3
        lithepose reproduce huang2019mln --mini --data data

    Args:
        items: PAPER/ITEM as printed by --list, or a paper's key for all of its items.
        mini: train a few steps on a few images, to show within minutes that everything works; its accuracies and times
            mean little.
        data: folder of the recipes' data sets. With --mini, it may contain the project's small archives, or a data set
            in COCO keypoint format (train.json, val.json); otherwise images are generated.
        out: folder for tables and images (PAPER/ITEM.csv, .md and .png) and for training runs (runs/).
        runs: folder of finished training runs, named after their recipes; they are used instead of training again.
        steps: training steps of a mini run. Default: 24.
        list: print all items, their requirements and their costs.
    """
    from ..reproduce.items import ITEMS, matching, measure
    from ..reproduce.work import MINI_STEPS, Work, write_result

    if list:
        table = Table("item", "what", "full run", "needs", "--mini", title="lithepose reproduce ITEM")
        for name, item in ITEMS.items():
            table.add_row(name, item.title, item.cost(), item.needs, item.mini_cost())
        out_console.print(table)
        return OK
    if not items:
        raise ConfigError("no item given; choose one or more from `lithepose reproduce --list`")
    if steps < 0 or (steps and not mini):
        raise ConfigError(f"--steps {steps}: must be 1 or more, with --mini; a full run uses the steps of its recipe")
    if runs and not runs.is_dir():
        raise ConfigError(f"--runs {runs}: no such folder; pass the folder of the training runs")
    work = Work(data, out, mini, steps or MINI_STEPS, runs)
    failed = dict[str, LitheposeError]()
    names = matching(items)
    for name in names:
        began, busy = time.perf_counter(), sum(os.times()[:4])
        try:
            result = measure(name, work)
        except LitheposeError as error:
            if len(names) == 1:
                raise
            failed[name] = error
            continue
        paper, part = name.split("/")
        title = f"{paper}, {part}: {ITEMS[name].title}"
        written = write_result(result, out / paper, part, title, mini)
        columns = dict.fromkeys(column for row in result.rows for column in row)
        table = Table(*columns, title=title)
        for row in result.rows:
            table.add_row(*(str(row.get(column, "")) for column in columns))
        out_console.print(table)
        if mini:
            out_console.print("A mini run: its accuracies, losses and times mean little.", highlight=False)
        for sentence in result.conditions:
            out_console.print(f"- {sentence}", markup=False, highlight=False)
        seconds, busy = time.perf_counter() - began, sum(os.times()[:4]) - busy
        note(f"{name}: {seconds:.0f} s, {busy:.0f} s of CPU time -> {', '.join(map(str, written))}")
    for name, error in failed.items():
        err_console.print(f"{name}: {error}", style="red", markup=False, highlight=False)
    return SOME_FAILED if failed else OK


def convert(
    file: str,
    /,
    to: str,
    out: Path | None = None,
    download: bool = False,
) -> int:
    """Convert a public checkpoint of a network to weights that this package can train from and export.

    For a complete network, each layer is compared with the result of the checkpoint's own tensors. Code in the file is
    not executed. The authors' licence still applies, and is printed.

    Examples:
        lithepose convert pose_iter_440000.caffemodel --to openpose
        lithepose convert checkpoint_iter_370000.pth --to lightweight_openpose
        lithepose convert vgg19-dcbb9e9d.pth --to vgg19 --download

    Args:
        file: checkpoint: .pth, .pt or .tar of PyTorch, .caffemodel, or .safetensors.
        to: network of the checkpoint: openpose, lightweight_openpose, context_cpm or keypoint_rcnn; or ImageNet weights
            for ``pretrained`` of a recipe: vgg19 or mobilenet_v3.
        out: file to write. Default: NETWORK.safetensors.
        download: first download the file, if it is one of the torchvision files that the documentation lists, and check
            its digest. By default, nothing is downloaded.
    """
    try:
        from ..checkpoints.convert import BACKBONES, save, save_backbone
        from ..checkpoints.convert import convert as converted
        from ..checkpoints.files import download as fetched
        from ..checkpoints.files import read_checkpoint
        from ..checkpoints.names import SOURCES
    except ImportError as error:
        raise missing("convert", "train", error) from error

    if to not in SOURCES and to not in BACKBONES:
        raise ConfigError(f"--to {to}: unknown network; choose one of {', '.join((*SOURCES, *BACKBONES))}")
    out = out or Path(f"{to}.safetensors")
    path = Path(file)
    check_output(out, "--out")
    if download:
        path = fetched(path.name, path.parent)
    keep_inputs(out, "--out", (path,))
    state = read_checkpoint(path)
    if to in BACKBONES:
        count = save_backbone(state, to, path, out)
        use = f'to use them in a recipe, set pretrained = "{out}"'
        out_console.print(f"{out}: {count} tensors of {to}; {use}", highlight=False)
        out_console.print("licence of the weights: BSD-3-Clause (torchvision)", highlight=False)
        return OK
    done = converted(state, to, path)
    save(done, to, out)
    line = f"{out}: {done.layers} layers compared, largest difference {done.difference:.1e}; export it with"
    out_console.print(f"{line} `lithepose export {out}`", highlight=False)
    out_console.print(f"licence of the weights: {SOURCES[to].licence}", highlight=False)
    return OK
