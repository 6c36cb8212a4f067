"""lithepose evaluate"""

from __future__ import annotations

import json as json_module
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from rich.progress import track
from rich.table import Table

from ..errors import ConfigError, MissingExtraError
from .calls.console import OK, err_console, missing, out_console
from .calls.files import check_output, keep_inputs


def evaluate(
    model: str,
    /,
    data: Path,
    split: str = "val",
    metric: Literal["auto", "oks", "pck", "pckh"] = "auto",
    size: int = 0,
    flip: bool = False,
    scales: tuple[float, ...] = (1.0,),
    threads: int = 0,
    runtime: Literal["auto", "onnx", "openvino", "torch"] = "auto",
    device: Literal["cpu", "cuda", "tensorrt", "coreml", "directml"] = "cpu",
    precision: Literal["", "fp32", "bf16", "int8"] = "",
    images: tuple[Path, ...] = (),
    first: int = 0,
    complete: bool = True,
    crop: Literal["auto", "joints", "boxes"] = "auto",
    min_joints: int = 1,
    json: Path | None = None,
    curve: Path | None = None,
) -> int:
    """Measure a model on annotated images: OKS average precision and recall, PCK or PCKh; for detectors, box precision.

    Examples:
        lithepose evaluate lithe --data coco
        lithepose evaluate lithe --data my.json --images folder --json found.json
        lithepose evaluate context_cpm --data lsp.tar --metric pck --curve pck.png

    Args:
        model: name of an embedded model, or an .onnx or packed .safetensors file.
        data: folder or .tar of a data set (COCO, LIP, MPII, FLIC, LSP, or any SPLIT.json in COCO keypoint format with
            its images), or a json file in that format.
        split: split of the data set.
        metric: auto is oks for multi-person networks; for single-person networks it is pckh if head sizes are known,
            else pck.
        size: longer side of the network's input; 0 is the model's own.
        flip: average with the mirrored image.
        scales: factors of the size; the outputs at all scales are averaged.
        threads: threads of the network; 0 uses one per core.
        runtime: runtime of the network. auto is OpenVINO on x86 where it is installed, else ONNX Runtime; -v prints the
            choice.
        device: device for ONNX Runtime; a missing device is an error.
        precision: fp32, bf16 (OpenVINO) or int8. Default: the file's own, fp32 for embedded models.
        images: folders or .tar of the images, if they are not with the annotations.
        first: use only the first N images; 0 uses all.
        complete: for oks, guess joints that were not found, since every labelled joint counts.
        crop: input of a single-person network. joints: a square around the joints that it needs. auto: the data set's
            own box, if it has one; else the full image, if no other person is in it; else like joints. boxes: for
            lithe, the annotated boxes instead of the person detector's.
        min_joints: for single-person networks, skip people with fewer labelled joints that the network knows.
        json: file for the results in COCO format.
        curve: file for a plot of the share of correct joints over the threshold (pck, pckh).
    """
    from ..data.formats import open_dataset
    from ..evaluation.evaluate import evaluate as measure
    from ..evaluation.evaluate import evaluate_boxes, save_curve
    from ..heads.boxes import BoxHead
    from ..inference.detector import PersonDetector
    from ..inference.estimator import Estimator
    from ..inference.load import load
    from ..inference.models import open_runtime

    for path, option in ((json, "--json"), (curve, "--curve")):
        if path:
            check_output(path, option)
            keep_inputs(path, option, (data, Path(model), *images))
    if curve:  # checked before the predictions, which may take an hour
        if curve.suffix.lower() not in (".png", ".svg", ".pdf"):
            raise ConfigError(f"--curve {curve}: must be a .png, .svg or .pdf file")
        if find_spec("matplotlib") is None:
            raise MissingExtraError("--curve needs matplotlib: pip install 'lithepose[evaluate]'")
    network = open_runtime(model, threads, runtime, device, precision)
    detector = isinstance(network.info.head, BoxHead)
    if detector:
        if metric != "auto" or flip or scales != (1.0,) or curve or (crop, min_joints, complete) != ("auto", 1, True):
            raise ConfigError(
                f"{model}: finds boxes; omit --metric, --flip, --scales, --curve, --crop, --min-joints and"
                " --no-complete"
            )
        predictor = PersonDetector(network, size=size)
    else:
        predictor = load(
            model,
            size=size,
            threads=threads,
            flip=flip,
            scales=scales,
            runtime=runtime,
            device=device,
            precision=precision,
        )
    by_oks = metric == "oks" or (
        metric == "auto" and not (isinstance(predictor, Estimator) and predictor.single_person)
    )
    if curve and by_oks:
        raise ConfigError("--curve: oks has no curve over thresholds; use --metric pck or pckh")
    if by_oks:
        try:
            import faster_coco_eval  # noqa: F401
        except ImportError as error:
            raise missing("evaluate", "evaluate", error) from error
    dataset = open_dataset(data, split, images)
    for path, option in ((json, "--json"), (curve, "--curve")):
        if path:
            keep_inputs(path, option, (data, *images), {Path(record.file_name).name for record in dataset.records})
    if first:
        dataset = replace(dataset, records=dataset.records[:first])

    def progress(records):  # noqa: ANN001, ANN202
        return track(records, "evaluating", console=err_console, disable=not err_console.is_terminal, transient=True)

    if isinstance(predictor, PersonDetector):
        done = evaluate_boxes(predictor, dataset, progress)
    else:
        by = "" if metric == "auto" else metric
        done = measure(predictor, dataset, split, by, progress, complete, crop, min_joints)
    table = Table(
        "metric", "value", title=f"{model} on {len(dataset)} images of {data} ({split}), longer side {predictor.size}"
    )
    for name, value in done.scores.items():
        table.add_row(name, f"{value:.4f}" if value >= 0 else "no people of this size")
    for name, value in done.joints.items():
        table.add_row(f"  {name}", f"{value:.4f}")
    out_console.print(table)
    if done.basis:
        out_console.print(done.basis, markup=False, highlight=False)
    if done.doubt:
        err_console.print(done.doubt, style="yellow", markup=False, highlight=False)
    if json:
        json.write_text(json_module.dumps(done.results), encoding="utf-8")
    if curve:
        save_curve(done, dataset.skeleton, curve)
    return OK
