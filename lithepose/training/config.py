"""Recipes: all settings of a training run, as TOML. Does not import torch."""

from __future__ import annotations

import json
import tomllib
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError, MissingFileError
from .augment import AugmentConfig


@dataclass(frozen=True)
class Source:
    """A data set of a recipe.

    Attributes:
        data: folder, archive or JSON file, relative to the data folder.
        split: name of the JSON file in a folder or archive.
        images: where the images are, if they are elsewhere.
        weight: share of the samples, before normalisation.
        squashed: the images lost their aspect ratio; stretch them back at random.
        mosaic: these images may be joined into mosaics.
        without: another data set; its images (by id) are left out, because both data sets contain them.
        first: use only this many images, from the start; 0 uses all.
        people: use only images with a person to make a crop around.
        joints: fewest labelled joints of such a person, among those that the network knows.
        large: smallest longer side of such a person's box, as a share of the image's longer side.
        unlabelled: use the people marked as ``iscrowd`` instead of those with labels; a teacher labels them.
        ignore: for a person detector, a JSON file with boxes of people without annotations.
    """

    data: str
    split: str = "train"
    images: tuple[str, ...] = ()
    weight: float = 1.0
    squashed: bool = False
    mosaic: bool = True
    without: str = ""
    first: int = 0
    people: bool = False
    joints: int = 1
    large: float = 0.0
    unlabelled: bool = False
    ignore: str = ""


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer and its learning rate."""

    name: str = "adamw"  # muon, adam (weight decay is added to the gradient) or sgd
    lr: float = 1e-3
    momentum: float = 0.9  # for sgd
    weight_decay: float = 1e-4  # for convolutions and linear layers; not for biases, BatchNorm and binary weights
    grad_clip: float = 1.0  # largest norm of the gradient; 0 disables clipping
    backbone_factor: float = 0.5  # factor on lr for the backbone
    refine_factor: float = 1.0  # factor on lr for the layers after the first stage
    bias_factor: float = 1.0  # factor on lr for biases


@dataclass(frozen=True)
class ScheduleConfig:
    """Learning rate over the optimizer steps."""

    name: str = "cosine"  # or linear, down to final_factor; steps (times factor at each milestone); plateau; constant
    warmup: int = 200  # steps of linear increase
    final_factor: float = 0.01  # final factor on lr of cosine and linear
    milestones: tuple[int, ...] = ()
    factor: float = 0.1  # at a milestone, or after patience validations without improvement
    patience: int = 5
    min_gain: float = 0.01  # smallest relative decrease of the validation loss that counts as improvement


@dataclass(frozen=True)
class FreezeConfig:
    """What is frozen: these modules get no gradients, and their BatchNorm uses the running statistics."""

    modules: tuple[str, ...] = ()  # names of modules that are frozen for the whole run
    blocks: int = 0  # first blocks of a MobileNetV1 backbone
    backbone_steps: int = 0  # number of first steps in which the whole backbone is frozen
    lr: float = 0.0  # learning rate in these steps; 0 uses the schedule's


@dataclass(frozen=True)
class DistillConfig:
    """Trained networks that predict heatmaps as targets, for networks of person crops."""

    teacher: tuple[str, ...] = ()  # weights.safetensors of a run, or of several; relative to the recipe file
    share: float = 0.5  # share of their mean heatmaps in the targets; where a label is unknown these are the target
    patched: float = 0.0  # share of crops with a rectangle of another crop; only the teacher labels these

    def __post_init__(self) -> None:
        if isinstance(self.teacher, str):
            object.__setattr__(self, "teacher", (self.teacher,) if self.teacher else ())


@dataclass(frozen=True)
class Recipe:
    """A training run. Sizes are in pixels; counts are in optimizer steps unless stated otherwise."""

    network: str
    data: tuple[Source, ...]
    validation: tuple[Source, ...] = ()  # without augmentation; its loss is logged
    options: dict[str, Any] = field(default_factory=dict)  # options of the network
    skeleton: str = ""  # "data" uses the joints of the first data set; otherwise a name of lithepose.skeleton.SKELETONS
    pretrained: str = ""  # backbone weights: a file in the data folder; with ./ or ../, relative to the recipe file; or
    # a name for networks.weights.read_pretrained
    init_from: str = ""  # weights of an earlier run; in a recipe file, relative to that file
    reinit: tuple[str, ...] = ()  # modules that init_from does not load, such as "refinements" or "stages.0.heatmaps"

    size: int = 256
    crop: tuple[int, ...] = ()  # height and width of person crops; defaults to the network's
    small_crop: tuple[int, ...] = ()  # height and width of smaller crops, used for people followed in videos
    small_share: float = 0.3  # share of the batches that have small crops
    sigma: float = 0.0  # sigma of the Gaussians of person crops, in cells; 0 uses the network's
    batch: int = 32  # over all processes
    steps: int = 1000
    precision: str = "bf16"  # of convolutions; or fp32
    loss: str = "cells"  # squared error per cell; or caffe: sum over twice the batch, as in three of the papers
    positive_weight: float = 3.0  # extra weight of cells where the target is 1
    fold_norm: bool = False  # fold BatchNorm of residual and MobileNetV1 blocks into the convolutions; fixed statistics
    ema: float = 0.998  # decay of the averaged weights

    seed: int = 0
    save_every: int = 200
    log_every: int = 20  # number of steps that a line of the log averages
    keep_every: int = 0  # steps between copies of the averaged weights, kept/STEP.safetensors; 0 disables them
    validate_every: int = 0  # 0: once an epoch (number of samples = number of images), or save_every if that is longer
    validation_samples: int = 256

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    freeze: FreezeConfig = field(default_factory=FreezeConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Read a recipe. A recipe that ``extends`` another file changes the keys that it names and keeps the rest.

        Raises:
            ConfigError: the file is not TOML, has an unknown key or a wrong type, or a value is out of range.
            MissingFileError: no such file.
        """
        if not Path(path).is_file():
            raise MissingFileError(f"{path}: no such recipe; the recipes of the project are in recipes/")
        try:
            raw = _read(Path(path))
            _known(cls, raw)
            for name in ("data", "validation"):
                tables = raw.get(name, ())
                for table in tables:
                    _known(Source, table)
                raw[name] = tuple(_checked(Source(**_tuples(table))) for table in tables)
            for name, kind in TABLES.items():
                _known(kind, raw.get(name, {}))
                raw[name] = _checked(replace(kind(), **_tuples(raw.get(name, {}))))
            recipe = _checked(cls(options=_tuples(raw.pop("options", {})), **_tuples(raw)))
        except (UnicodeDecodeError, tomllib.TOMLDecodeError, TypeError, AttributeError, KeyError) as error:
            raise ConfigError(f"{path}: not a valid recipe ({error})") from error
        try:
            recipe.check()
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from error
        return recipe

    def check(self) -> None:
        """Raise ValueError for values out of range and for invalid combinations."""
        if (
            not self.data
            or self.size % 8
            or min(self.size, self.batch, self.steps, self.save_every, self.log_every) < 1
        ):
            raise ConfigError(
                "needs data, a size that is a multiple of 8, and batch, steps, save_every and log_every of 1 or more"
            )
        for key in ("crop", "small_crop"):
            sides = getattr(self, key)
            whole = all(isinstance(side, int) and side >= 32 and not side % 32 for side in sides)
            if sides and (len(sides) != 2 or not whole):
                raise ConfigError(f"{key} = {list(sides)}: must be height and width, both multiples of 32")
        for (table, key), known in CHOICES.items():
            value = getattr(getattr(self, table) if table else self, key)
            if value not in known:
                name = f"{table}.{key}" if table else key
                raise ConfigError(f"{name} = {value!r}: unknown value; choose one of {', '.join(known)}")
        if self.fold_norm and not (self.init_from or self.pretrained):
            raise ConfigError("fold_norm needs the statistics of trained weights; set init_from or pretrained")
        if not 0 <= self.small_share < 1:
            raise ConfigError(f"small_share = {self.small_share}: must be at least 0 and below 1")
        for source in (*self.data, *self.validation):
            if not 0 <= source.large < 1:
                raise ConfigError(
                    f"large = {source.large}: must be a share of the image's longer side, at least 0 and below 1"
                )
        if self.distill != DistillConfig() and not self.distill.teacher:
            raise ConfigError("[distill]: needs a teacher; set teacher, or remove [distill]")
        for name, share in (("share", self.distill.share), ("patched", self.distill.patched)):
            if not 0 <= share <= 1:
                raise ConfigError(f"distill.{name} = {share}: must be from 0 to 1")
        if any(source.unlabelled for source in self.data) and not self.distill.teacher:
            raise ConfigError("unlabelled = true: set distill.teacher, which labels these people")
        if any(source.unlabelled for source in self.validation):
            raise ConfigError("unlabelled = true: must not be set for validation, which needs labels")
        if self.reinit and not self.init_from:
            raise ConfigError(f"reinit = {list(self.reinit)}: set init_from, for the weights of the other modules")
        trained = ("backbone", "detector.backbone") if self.pretrained else ()
        chance = [name for name in self.freeze.modules if name in self.reinit or not self.init_from]
        if chance := [name for name in chance if not name.startswith(trained)]:
            raise ConfigError(
                f"freeze.modules = {chance}: these modules have no trained weights; set init_from or pretrained, or"
                " remove them from freeze.modules and reinit"
            )
        if self.schedule.name == "plateau" and not self.validation:
            raise ConfigError("schedule.name = 'plateau' needs [[validation]] data to detect a plateau")

    def to_json(self) -> str:
        """Return the recipe as JSON, for the run's folder."""
        return json.dumps(asdict(self), indent=1)


TABLES: dict[str, Any] = {
    "optimizer": OptimizerConfig,
    "schedule": ScheduleConfig,
    "freeze": FreezeConfig,
    "augment": AugmentConfig,
    "distill": DistillConfig,
}
CHOICES = {
    ("", "precision"): ("bf16", "fp32"),
    ("", "loss"): ("cells", "caffe"),
    ("optimizer", "name"): ("adamw", "muon", "adam", "sgd"),
    ("schedule", "name"): ("cosine", "linear", "steps", "plateau", "constant"),
}
MAY_CHANGE = {"steps", "save_every", "log_every", "keep_every", "validate_every"}  # when a run is resumed

# Keys of recipes of version 0.1 -> their current table and key.
FORMER = {
    "start": ("", "pretrained"),
    "resume_weights": ("", "init_from"),
    "positive": ("", "positive_weight"),
    "folded": ("", "fold_norm"),
    "momentum": ("optimizer", "momentum"),
    "rate": ("optimizer", "lr"),
    "weight_decay": ("optimizer", "weight_decay"),
    "clip": ("optimizer", "grad_clip"),
    "front_rate": ("optimizer", "backbone_factor"),
    "refine_rate": ("optimizer", "refine_factor"),
    "bias_rate": ("optimizer", "bias_factor"),
    "warmup": ("schedule", "warmup"),
    "final_rate": ("schedule", "final_factor"),
    "milestones": ("schedule", "milestones"),
    "factor": ("schedule", "factor"),
    "patience": ("schedule", "patience"),
    "gain": ("schedule", "min_gain"),
    "frozen": ("freeze", "modules"),
    "frozen_steps": ("freeze", "backbone_steps"),
    "frozen_rate": ("freeze", "lr"),
}


def _current(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the tables of a recipe under their current names."""
    current = dict(raw)
    for name, key in (("optimizer", "name"), ("schedule", "name"), ("freeze", "blocks")):
        if name in current and not isinstance(current[name], dict):
            current[name] = {key: current[name]}
    for former, (table, key) in FORMER.items():
        if former in current:
            into = current.setdefault(table, {}) if table else current
            into.setdefault(key, current.pop(former))
    for table, key in ((current, "reinit"), (current.get("freeze", {}), "modules")):
        if isinstance(table.get(key), (list, tuple)):
            table[key] = ["backbone" if name == "front" else name for name in table[key]]
    distill = current.get("distill", {})
    if isinstance(distill.get("teacher"), str):
        current["distill"] = distill | {"teacher": [distill["teacher"]] if distill["teacher"] else []}
    return current


def _read(path: Path, readers: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a file's tables and merge them over those of the file that it extends. Paths are relative to their file.

    Tables are merged key by key. The options of another network are not merged.
    """
    if path.resolve() in readers:
        raise TypeError(f"{path.name} extends itself")
    if not path.is_file():
        raise TypeError(f"it extends {path}, which does not exist")
    raw = _current(tomllib.loads(path.read_text(encoding="utf-8")))
    if raw.get("init_from") and isinstance(raw["init_from"], str):
        raw["init_from"] = str((path.parent / raw["init_from"]).resolve())
    if isinstance(raw.get("pretrained"), str) and raw["pretrained"].startswith(("./", "../")):
        raw["pretrained"] = str((path.parent / raw["pretrained"]).resolve())
    if isinstance(teachers := raw.get("distill", {}).get("teacher"), list):
        raw["distill"]["teacher"] = [str((path.parent / teacher).resolve()) for teacher in teachers]
    if "extends" not in raw:
        return raw
    base = _read(path.parent / raw.pop("extends"), (*readers, path.resolve()))
    if raw.get("network", base.get("network")) != base.get("network"):
        base.pop("options", None)
    merged = {name: base.get(name, {}) | raw[name] for name in ("options", *TABLES) if name in raw}
    return base | raw | merged


def _known(kind: Any, table: dict[str, Any]) -> None:
    """Refuse keys that a table of this kind does not have.

    Raises:
        TypeError: names the unknown key and the known ones.
    """
    names = [f.name for f in fields(kind)]
    for key in table:
        if key not in names:
            raise TypeError(f"unknown key {key!r}; choose one of {', '.join(names)}")


def _checked(table: Any) -> Any:
    """Check that a dataclass has values of the types of its defaults (an int may stand for a float).

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
            kind = "list" if wanted is tuple else wanted.__name__  # of TOML
            raise TypeError(f"{f.name} = {value!r}: must be of type {kind}")
        pair: Any = value if isinstance(f.default, tuple) and f.default else (1, 1)
        if not (len(pair) == 2 and 0 < pair[0] <= pair[1]):
            raise TypeError(f"{f.name} = {value!r}: must be two numbers above 0, the smaller first")
    return table


def _tuples(table: dict[str, Any]) -> dict[str, Any]:
    """Convert lists of a TOML table to the tuples that frozen dataclasses hold."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}


def _differences(now: dict[str, Any], before: dict[str, Any], prefix: str = "") -> list[str]:
    """Return names of keys with different values. Keys that the earlier version did not have are ignored."""
    found = list[str]()
    for key in now:
        if key not in before or (not prefix and key in MAY_CHANGE):
            continue
        if isinstance(now[key], dict) and isinstance(before[key], dict) and key in TABLES:
            found += _differences(now[key], before[key], f"{key}.")
        elif not _equal(now[key], before[key]):
            found.append(prefix + key)
    return found


def _equal(now: Any, before: Any) -> bool:
    if isinstance(now, dict) and isinstance(before, dict):
        return all(_equal(now[key], before[key]) for key in now if key in before)
    if isinstance(now, list) and isinstance(before, list):
        return len(now) == len(before) and all(map(_equal, now, before))
    return now == before


def same_recipe(recipe: Recipe, path: Path) -> None:
    """Refuse to resume a run with another recipe, because the saved recipe would no longer describe the training.

    Raises:
        ConfigError: names what differs.
    """
    if not path.exists():
        return
    now = json.loads(recipe.to_json())
    default = json.loads(Recipe("", ()).to_json())
    before = _current(json.loads(path.read_text(encoding="utf-8")))
    # A key that was added in a later version had its default value.
    before = default | before | {name: default[name] | before.get(name, {}) for name in TABLES}
    for one in (before, now):  # folders may have moved; a resumed run does not read init_from
        one["init_from"], one["pretrained"] = Path(one["init_from"]).name, Path(one["pretrained"]).name
        names = ["/".join(Path(path).parts[-2:]) for path in one["distill"]["teacher"]]  # with the names of the runs
        one["distill"]["teacher"] = names
    if differ := _differences(now, before):
        raise ConfigError(
            f"{path.parent}: was started with a different {', '.join(differ)}; choose another run, or remove it"
        )
