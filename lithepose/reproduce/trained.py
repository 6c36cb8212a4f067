"""Trainings that items need: found, resumed or run, and their measurements."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..analysis.complexity import Complexity, measure
from ..data.coco import KeypointSet
from ..data.formats import open_dataset
from ..errors import ConfigError
from ..evaluation.evaluate import Evaluation, common_joints, evaluate, people_to_measure, where_to_look
from ..exporters.onnx import open_weights
from ..inference.predictor import Predictor
from ..networks import NETWORKS, Network, build
from ..runtime.base import ModelInfo
from ..runtime.torch import TorchRuntime
from ..timing import Row, median, ratio, take_turns
from ..training.config import Recipe, Source
from ..training.report import plot_losses, read_log
from ..training.trainer import train
from .work import Images, Work, recipe_file

SIZE, BATCH = 128, 4  # of mini runs
KEPT = 4  # copies of the weights that a run keeps during training


@dataclass(frozen=True)
class Form:
    """A variant of a network, as compared in a paper.

    Attributes:
        recipe: recipe of the paper's training.
        mini: recipe that a mini run is derived from.
        options: options of the network, which override the recipe's.
        augment: fields of the augmentation, which override the recipe's.
    """

    recipe: str
    mini: str
    options: Mapping[str, Any] = field(default_factory=dict)
    augment: Mapping[str, Any] = field(default_factory=dict)

    def name(self, mini: bool) -> str:
        """Name of the run's folder: the recipe's name and this variant's changes."""
        base = self.mini if mini else self.recipe
        recipe = Recipe.read(recipe_file(base))
        changed = {k: v for k, v in self.options.items() if recipe.options.get(k) != v}
        changed |= {k: v for k, v in self.augment.items() if getattr(recipe.augment, k) != v}
        return base + "".join(f"-{key}-{value}" for key, value in changed.items())

    def read(self, mini: bool) -> Recipe:
        """Read the recipe with this variant's changes."""
        recipe = Recipe.read(recipe_file(self.mini if mini else self.recipe))
        options = dict(recipe.options) | dict(self.options)
        return replace(recipe, options=options, augment=replace(recipe.augment, **self.augment))


@dataclass(frozen=True)
class Run:
    """A finished training."""

    folder: Path
    validation: Source
    train: Source
    root: Path

    def net(self) -> tuple[Network, ModelInfo]:
        """Return the network with its averaged weights, and its metadata."""
        net, info = open_weights(self.folder / "weights.safetensors")
        return net.eval(), info

    def predictor(self, weights: Path | None = None, **options: Any) -> Predictor:
        """Return a predictor in torch; see :class:`~lithepose.inference.predictor.Predictor` for ``options``."""
        return predictor_of(weights or self.folder / "weights.safetensors", **options)

    def log(self) -> list[dict[str, Any]]:
        """Read the lines of its log."""
        return read_log(self.folder)

    def last(self, column: str) -> float:
        """Return the newest value of a column of the log; NaN if there is none."""
        return next((float(row[column]) for row in reversed(self.log()) if column in row), float("nan"))

    def kept(self) -> dict[int, Path]:
        """Return weights saved during training, by step."""
        return {int(path.stem): path for path in sorted((self.folder / "kept").glob("*.safetensors"))}

    def images(self, training: bool = False) -> KeypointSet:
        """Return its validation images, or as many of its training images."""
        held_back = _open(self.validation, self.root)
        if not training:
            return held_back
        seen = _open(self.train, self.root)
        return replace(seen, records=seen.records[: len(held_back)])


def predictor_of(weights: Path, **options: Any) -> Predictor:
    """Make a predictor from weights, in torch."""
    net, info = open_weights(weights)
    return Predictor(TorchRuntime(net, info), **options)


def _open(source: Source, root: Path) -> KeypointSet:
    opened = open_dataset(root / source.data, source.split, tuple(root / i for i in source.images))
    return replace(opened, records=opened.records[: source.first or None])


def trained(work: Work, forms: Mapping[str, Form], images: Callable[[], Images] | None = None) -> dict[str, Run]:
    """Find or train networks.

    Args:
        work: the call.
        forms: variants by name.
        images: training images of mini runs; defaults to images of many people.

    Returns:
        a run per variant. Folders of ``work.runs`` with the name of a variant's recipe are used first. Trainings are
        saved in ``runs/`` of ``work.out`` and resumed if they were stopped.

    Raises:
        MissingFileError, DatasetError: the recipe's data is missing.
    """
    logging.getLogger("torch").setLevel(logging.ERROR)
    found = dict[str, Run]()
    for name, form in forms.items():
        run = _found(work, form)
        if run is None and work.mini:
            recipe = small(form.read(True), work.steps, (images or work.many_people)())
            run = _train(work, recipe, f"mini-{work.steps}-{form.name(True)}")
        elif run is None:
            recipe = form.read(False)
            run = _train(work, replace(recipe, keep_every=recipe.steps // KEPT), form.name(False))
        found[name] = run
    return found


def _found(work: Work, form: Form) -> Run | None:
    for name in (form.name(False), form.name(True)) if work.runs else ():
        folder = Path(work.runs or "") / name
        if not (folder / "weights.safetensors").is_file():
            continue
        path = folder / "recipe.json"
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            first = [_source(raw[part][0]) for part in ("validation", "data")]
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise ConfigError(
                f"{path}: not a recipe of a run with validation ({error!r}); train the run again"
            ) from error
        return Run(folder, *first, root=work.data)
    return None


def _source(raw: dict[str, Any]) -> Source:
    known = dict[str, Any]()
    for f in fields(Source):
        if f.name in raw:
            value = raw[f.name]
            known[f.name] = tuple(value) if isinstance(value, list) else value
    return Source(**known)


def _train(work: Work, recipe: Recipe, name: str) -> Run:
    folder = work.out / "runs" / name
    train(recipe, work.data, folder, quiet=work.mini)
    return Run(folder, recipe.validation[0], recipe.data[0], work.data)


def small(recipe: Recipe, steps: int, images: Images) -> Recipe:
    """Reduce a recipe to about a minute on two cores: small inputs, few steps, few images."""
    options = dict(recipe.options)
    if "size" in {f.name for f in fields(NETWORKS[recipe.network].Config)}:
        options["size"] = SIZE
    return replace(
        recipe,
        options=options,
        data=(replace(images.train, large=0.0),),
        validation=(images.validation,),
        size=SIZE,
        batch=BATCH,
        steps=steps,
        precision="fp32",
        ema=0.9,
        save_every=steps,
        log_every=max(steps // 10, 1),
        keep_every=max(steps // KEPT, 1),
        validate_every=max(steps // 4, 1),
        validation_samples=2 * BATCH,
        schedule=replace(recipe.schedule, name="cosine", warmup=min(recipe.schedule.warmup, steps // 5)),
    )


def conditions(work: Work, runs: Mapping[str, Run], paper: str) -> list[str]:
    """Describe how the trainings differ from the paper's, in sentences."""
    remarks = [f"the paper: {paper}"]
    for name, run in runs.items():
        raw = json.loads((run.folder / "recipe.json").read_text(encoding="utf-8"))
        samples, data = raw["steps"] * raw["batch"], Path(run.train.data).name
        remarks.append(
            f"{name}: {raw['steps']} steps of {raw['batch']} images of {raw['size']} pixels ({samples:,} samples)"
            f" from {data}, {raw['optimizer']['name']} with a learning rate of {raw['optimizer']['lr']:g}"
        )
    held_back = next(iter(runs.values()))
    remarks.append(f"measured on {len(held_back.images())} images of {Path(held_back.validation.data).name}")
    return remarks


def scores(run: Run, predictor: Predictor | None = None, joints: int = 1) -> Evaluation:
    """Return the scores of ``lithepose evaluate`` on the run's validation images."""
    predictor = predictor or run.predictor()
    if predictor.single_person:
        crop = "joints" if joints > 1 else "auto"
        return evaluate(predictor, run.images(), crop=crop, min_joints=joints)
    return evaluate(predictor, run.images(), metric="oks")


def figure(evaluation: Evaluation, name: str) -> str:
    """Return a score in per cent, or an empty text if it was not measured."""
    value = evaluation.scores.get(name, -1.0)
    return f"{100 * value:.1f}" if value >= 0 else ""


def losses(runs: Mapping[str, Run], path: Path) -> None:
    """Plot the losses of runs over their steps."""
    plot_losses({name: run.log() for name, run in runs.items()}, path)


def loss_row(run: Run) -> Row:
    """Return steps, first and last training loss, and last validation loss."""
    log = [row for row in run.log() if "total" in row]
    return {
        "steps": log[-1]["step"],
        "first loss": f"{log[0]['total']:.4f}",
        "last loss": f"{log[-1]['total']:.4f}",
        "validation loss": f"{run.last('validation'):.4f}",
    }


def squared_error(run: Run, training: bool = False, joints: int = 1) -> float:
    """Mean squared error of joint positions, relative to the side of the input (debnath2018split, table 3).

    It covers both coordinates of all labelled joints that the network knows. A joint that was not found is placed at
    the centre of the square.
    """
    predictor, dataset = run.predictor(), run.images(training)
    crop = "joints" if joints > 1 else "auto"
    done = evaluate(predictor, dataset, crop=crop, min_joints=joints)
    return error_of(predictor, done, dataset, crop, joints)


def error_of(predictor: Predictor, done: Evaluation, dataset: KeypointSet, crop: str, joints: int) -> float:
    """As :func:`squared_error`, for existing results."""
    model = predictor.head.output
    order = common_joints(model, dataset.skeleton)
    people = [(record, p) for record in dataset.records for p in people_to_measure(record, order, joints)]
    errors = []
    for (record, person), result in zip(people, done.results, strict=True):
        whole = 0, 0, record.width, record.height
        box = where_to_look(record, person, dataset.skeleton, model, crop) or whole
        truth, at = (np.array(p["keypoints"], float).reshape(-1, 3) for p in (person, result))
        at[at[:, 2] == 0, :2] = np.array(box[:2]) + np.array(box[2:]) / 2
        asked = (truth[:, 2] > 0) & (np.array(order) >= 0)
        errors.append((((at - truth)[asked, :2] / max(box[2:])) ** 2).ravel())
    return float(np.mean(np.concatenate(errors)))


def first_stages(run: Run, stages: int) -> Predictor:
    """Make a network of the first stages of a network with maps at every stage."""
    whole, info = run.net()
    options = asdict(whole.config) | {"stages": stages}
    net = build(info.name, info.head, **options)
    state = whole.state_dict()
    net.load_state_dict({name: state[name] for name in net.state_dict()})
    return Predictor(TorchRuntime(net, info))


def count(net: Network, height: int, width: int) -> Complexity:
    """Count a network, without changing it."""
    return measure(copy.deepcopy(net), 3, height, width)


def times(nets: Mapping[str, Network], height: int, width: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Measure milliseconds of each network on one image in torch, in turn, and its ratio to the first network."""
    x = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))

    def call(net: Network) -> object:
        with torch.no_grad():
            return net(x)

    for net in nets.values():
        net.eval()
    parts: dict[str, Callable[[], object]] = {name: lambda n=net: call(n) for name, net in nets.items()}
    spent, first = take_turns(parts, rounds), next(iter(nets))
    return {name: (median(spent, name), ratio(spent, name, first)) for name in nets}
