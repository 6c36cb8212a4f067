"""Recipes: everything that a training run depends on, as TOML."""

from __future__ import annotations

import json
import tomllib
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from .augment import AugmentConfig
from .samples import Source


@dataclass(frozen=True)
class Recipe:
    """A training run. Rates are of the optimizer, sizes in pixels, all counts in steps unless said otherwise."""

    network: str
    data: tuple[Source, ...]
    validation: tuple[Source, ...] = ()  # without augmentation; the loss over them goes into the log
    options: dict[str, Any] = field(default_factory=dict)  # of the network
    skeleton: str = ""  # joints: "data" takes those of the first data set, else a name of lithepose.skeleton.SKELETONS
    start: str = ""  # of the front: a file relative to the data folder, or as networks.backbones.read_start has it
    resume_weights: str = ""  # or weights of an earlier run; in a file relative to it
    reinit: tuple[str, ...] = ()  # modules, "refinements" or "stages.0.heatmaps", that these weights are not for
    frozen: tuple[str, ...] = ()  # modules that stay as they began: no gradients, BatchNorm by its running statistics

    size: int = 256
    crop: tuple[int, ...] = ()  # height and width of person crops; by default those of the network
    small_crop: tuple[int, ...] = ()  # height and width of smaller crops, which people followed in videos get
    small_share: float = 0.3  # share of the batches that have small crops
    sigma: float = 0.0  # of the Gaussians of person crops, in cells; 0 takes the network's
    batch: int = 32  # over all processes
    steps: int = 1000
    precision: str = "bf16"  # of convolutions; or fp32
    loss: str = "cells"  # squared error a cell; or caffe: summed, over twice the batch, as in three of the papers
    positive: float = 3.0  # extra weight of cells where the target is 1

    optimizer: str = "adamw"  # muon, adam (decay as part of the gradient) or sgd
    momentum: float = 0.9  # of sgd
    rate: float = 1e-3
    schedule: str = "cosine"  # or linear, down to final_rate; steps (by factor at every milestone); plateau; constant
    warmup: int = 200
    final_rate: float = 0.01  # of the rate, where the cosine ends
    milestones: tuple[int, ...] = ()
    factor: float = 0.1  # at a milestone, or after patience validations without gain
    patience: int = 5
    gain: float = 0.01  # of the validation loss, below which it counts as none
    front_rate: float = 0.5  # of the rate, for the pretrained front
    refine_rate: float = 1.0  # for the layers behind the first stage
    bias_rate: float = 1.0
    weight_decay: float = 1e-4  # of convolutions and linear layers; biases, BatchNorm and binary weights have none
    clip: float = 1.0  # largest norm of the gradient; 0 does not clip
    ema: float = 0.998
    freeze: int = 0  # first blocks of a MobileNetV1 front that keep their weights; 0 trains all
    folded: bool = False  # BatchNorm of dense residual networks keeps its statistics, as a part of the convolutions
    frozen_steps: int = 0  # first steps in which the whole front keeps its weights
    frozen_rate: float = 0.0  # rate in these

    seed: int = 0
    save_every: int = 200
    validate_every: int = 0  # 0: once an epoch (as many samples as there are images), or save_every if that is longer
    validation_samples: int = 256
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Read a recipe; one that ``extends`` another file changes what it names and keeps the rest.

        Raises:
            ValueError: the file is no TOML, has a key or type that no recipe has, or a value out of range.
            FileNotFoundError: no such file.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such recipe; those of the project are in recipes/")
        try:
            raw = _read(Path(path))
            _known(cls, raw)
            _known(AugmentConfig, raw.get("augment", {}))
            for table in (*raw["data"], *raw.get("validation", ())):
                _known(Source, table)
            raw["data"] = tuple(_checked(Source(**_frozen(table))) for table in raw["data"])
            raw["validation"] = tuple(_checked(Source(**_frozen(table))) for table in raw.get("validation", ()))
            augment = _checked(replace(AugmentConfig(), **_frozen(raw.pop("augment", {}))))
            recipe = _checked(cls(augment=augment, options=_frozen(raw.pop("options", {})), **_frozen(raw)))
        except (tomllib.TOMLDecodeError, TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"{path}: not a recipe ({error})") from error
        if not recipe.data or recipe.size % 8 or min(recipe.size, recipe.batch, recipe.steps, recipe.save_every) < 1:
            raise ValueError(f"{path}: needs data, a size that 8 divides, and batch, steps and save_every of 1 or more")
        for key in ("crop", "small_crop"):
            sides = getattr(recipe, key)
            whole = all(isinstance(side, int) and side >= 32 and not side % 32 for side in sides)
            if sides and (len(sides) != 2 or not whole):
                raise ValueError(f"{path}: {key} = {list(sides)}: height and width, multiples of 32")
        for key, known in CHOICES.items():
            if getattr(recipe, key) not in known:
                raise ValueError(f"{path}: {key} = {getattr(recipe, key)!r}; there are {', '.join(known)}")
        if recipe.folded and not (recipe.resume_weights or recipe.start):
            raise ValueError(f"{path}: folded needs the statistics of trained weights; give resume_weights or start")
        if not 0 <= recipe.small_share < 1:
            raise ValueError(f"{path}: small_share = {recipe.small_share}: must be at least 0 and below 1")
        if recipe.reinit and not recipe.resume_weights:
            raise ValueError(f"{path}: reinit = {list(recipe.reinit)} needs resume_weights, for the other modules")
        started = ("front", "backbone", "detector.backbone") if recipe.start else ()
        chance = [name for name in recipe.frozen if name in recipe.reinit or not recipe.resume_weights]
        if chance := [name for name in chance if not name.startswith(started)]:
            raise ValueError(f"{path}: frozen = {chance} would stay as chance made them; give them weights")
        if recipe.schedule == "plateau" and not recipe.validation:
            raise ValueError(f"{path}: schedule = 'plateau' needs [[validation]] data to see one")
        return recipe

    def to_json(self) -> str:
        """For the run's folder."""
        return json.dumps(asdict(self), indent=1)


CHOICES = {
    "precision": ("bf16", "fp32"),
    "loss": ("cells", "caffe"),
    "optimizer": ("adamw", "muon", "adam", "sgd"),
    "schedule": ("cosine", "linear", "steps", "plateau", "constant"),
}
MAY_CHANGE = {"steps", "save_every", "validate_every"}  # while a run goes on


def _read(path: Path, readers: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The tables of a file over those of the one that it extends; paths in them are relative to their file.

    Options and augmentation are merged key by key, but for the options of another network.
    """
    if path.resolve() in readers:
        raise TypeError(f"{path.name} extends itself")
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    if raw.get("resume_weights"):
        raw["resume_weights"] = str((path.parent / raw["resume_weights"]).resolve())
    if "extends" not in raw:
        return raw
    base = _read(path.parent / raw.pop("extends"), (*readers, path.resolve()))
    if raw.get("network", base.get("network")) != base.get("network"):
        base.pop("options", None)
    merged = {k: base.get(k, {}) | raw[k] for k in ("options", "augment") if k in raw}
    return base | raw | merged


def _known(kind: Any, table: dict[str, Any]) -> None:
    """Refuse keys that a table of this kind does not have.

    Raises:
        TypeError: names the key, and those that there are.
    """
    names = [f.name for f in fields(kind)]
    for key in table:
        if key not in names:
            raise TypeError(f"no key {key!r}; there are {', '.join(names)}")


def _checked(table: Any) -> Any:
    """A dataclass with values of the types of its defaults (an int may stand for a float).

    Raises:
        TypeError: names the field.
    """
    for f in fields(table):
        value, wanted = getattr(table, f.name), type(f.default)
        if f.default is MISSING:
            continue
        if not isinstance(value, (int, float) if wanted is float else wanted) or (
            isinstance(value, bool) and wanted is not bool
        ):
            raise TypeError(f"{f.name} = {value!r} is no {wanted.__name__}")
        pair: Any = value if isinstance(f.default, tuple) and f.default else (1, 1)
        if not (len(pair) == 2 and 0 < pair[0] <= pair[1]):
            raise TypeError(f"{f.name} = {value!r}: two numbers above 0, the smaller first")
    return table


def _frozen(table: dict[str, Any]) -> dict[str, Any]:
    """Lists of a TOML table as the tuples that frozen dataclasses hold."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}


def _same(now: Any, before: Any) -> bool:
    """Equal, but for keys that a later version has added."""
    if isinstance(now, dict) and isinstance(before, dict):
        return all(_same(now[key], before[key]) for key in now if key in before)
    if isinstance(now, list) and isinstance(before, list):
        return len(now) == len(before) and all(map(_same, now, before))
    return now == before


def same_recipe(recipe: Recipe, path: Path) -> None:
    """Refuse to go on with a run by another recipe: its record would tell of a training that never was.

    Raises:
        ValueError: names what differs.
    """
    if not path.exists():
        return
    before, now = json.loads(path.read_text(encoding="utf-8")), json.loads(recipe.to_json())
    # A key that a later version has added was what it is by default.
    before = json.loads(Recipe("", ()).to_json()) | before
    for told in (before, now):  # which a run that goes on does not read; its folder may have moved
        told["resume_weights"] = Path(told["resume_weights"]).name
    differ = [key for key in now if key not in MAY_CHANGE and not _same(now[key], before[key])]
    if differ:
        raise ValueError(f"{path.parent}: was begun with another {', '.join(differ)}; name another run, or remove it")
