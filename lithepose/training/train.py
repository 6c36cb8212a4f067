"""Training: a recipe, a loop, checkpoints that resume bit for bit."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..networks import Scaled, build, load_imagenet, load_weights
from ..networks.backbones import MobileNetV1
from .augment import AugmentConfig
from .datasets import PoseSamples, Source
from .losses import map_loss


@dataclass(frozen=True)
class Recipe:
    """Everything that a training run depends on, as read from a TOML file."""

    network: str
    data: tuple[Source, ...]
    options: dict[str, Any] = field(default_factory=dict)  # of the network
    start: str = ""  # ImageNet start of the front: a file relative to the data folder, torchvision:NAME or timm:NAME
    resume_weights: str = ""  # or weights of an earlier run; in a file relative to it
    size: int = 256
    batch: int = 32
    steps: int = 1000
    rate: float = 1e-3
    front_rate: float = 0.5  # of the rate, for the pretrained front
    freeze: int = 0  # first blocks of the front that keep their weights; 0 trains all
    warmup: int = 200
    final_rate: float = 0.01  # of the rate, where the cosine ends
    weight_decay: float = 1e-4
    clip: float = 1.0
    ema: float = 0.998
    positive: float = 3.0
    seed: int = 0
    save_every: int = 200
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Read a recipe.

        Raises:
            ValueError: the file is no TOML, or has a key or type that no recipe has.
        """
        try:
            raw = tomllib.loads(Path(path).read_text(encoding="utf-8"))
            raw["data"] = tuple(_checked(Source(**_frozen(table))) for table in raw["data"])
            augment = _checked(replace(AugmentConfig(), **_frozen(raw.pop("augment", {}))))
            if raw.get("resume_weights"):
                raw["resume_weights"] = str(Path(path).parent / raw["resume_weights"])
            recipe = _checked(cls(augment=augment, options=_frozen(raw.pop("options", {})), **raw))
        except (tomllib.TOMLDecodeError, TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"{path}: not a recipe ({error})") from error
        if not recipe.data or recipe.size % 64 or min(recipe.size, recipe.batch, recipe.steps, recipe.save_every) < 1:
            raise ValueError(
                f"{path}: needs data, a size that 64 divides, and batch, steps and save_every of 1 or more"
            )
        return recipe


def _checked(table: Any) -> Any:
    """A dataclass whose values have the types of its defaults (an int may stand for a float).

    Raises:
        TypeError: names the field.
    """
    for f in fields(table):
        value, wanted = getattr(table, f.name), type(f.default)
        if f.default is not MISSING and not isinstance(value, (int, float) if wanted is float else wanted):
            raise TypeError(f"{f.name} = {value!r} is no {wanted.__name__}")
    return table


def _frozen(table: dict[str, Any]) -> dict[str, Any]:
    """Lists of a TOML table as the tuples that frozen dataclasses hold."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}


def rate_at(step: int, recipe: Recipe) -> float:
    """Learning rate: linear warm-up, then a cosine down to ``final_rate`` of the peak."""
    if step < recipe.warmup:
        return recipe.rate * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.rate * (recipe.final_rate + (1 - recipe.final_rate) * (1 + math.cos(math.pi * done)) / 2)


def make_optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW with a smaller rate for the pretrained front and weight decay on convolution weights alone."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        groups.setdefault((name.startswith("front."), parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": p, "scale": recipe.front_rate if front else 1.0, "weight_decay": recipe.weight_decay * decay}
            for (front, decay), p in sorted(groups.items())
        ],
        lr=recipe.rate,
        fused=False,
    )


class Average:
    """Exponential moving average of parameters and BatchNorm statistics, the weights that are shipped."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone().float() for k, v in net.state_dict().items() if v.is_floating_point()}

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))  # follow fast at first
        state = net.state_dict()
        for name, average in self.state.items():
            average.lerp_(state[name].float(), 1 - decay)


def train(recipe: Recipe, data: str | Path, run: str | Path, *, quiet: bool = False) -> Path:
    """Train, or go on where ``run`` stopped.

    Samples, order, rates and averages depend on the step alone, so a run that was killed and started again ends with
    the same weights, bit for bit on a CPU with the same number of threads.

    Args:
        recipe: what to do.
        data: folder that the recipe's data sets are relative to.
        run: folder of this run: ``checkpoint.pt``, ``log.jsonl``, ``recipe.json``, at the end ``weights.safetensors``.
        quiet: no progress bar.

    Returns:
        Path of the averaged weights.

    Raises:
        ValueError: the run's checkpoint is damaged, or of another network; or the run was begun with another recipe.
        BlockingIOError: another process trains in this folder.
        FloatingPointError: the loss is not a number; the last checkpoint is kept.
    """
    root, run = Path(data), Path(run)
    run.mkdir(parents=True, exist_ok=True)
    with exclusive(run / "lock"):
        return _train(recipe, root, run, quiet)


def _train(recipe: Recipe, root: Path, run: Path, quiet: bool) -> Path:
    torch.manual_seed(recipe.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = build(recipe.network, **recipe.options)
    if recipe.start:
        load_imagenet(net, recipe.start if ":" in recipe.start else root / recipe.start)
    if recipe.resume_weights:
        load_weights(net, recipe.resume_weights)
    scale = Scaled(net).to(device)
    net = net.to(device).to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    if recipe.freeze:
        front = getattr(net, "front", None)
        if not isinstance(front, MobileNetV1):
            raise ValueError(f"freeze = {recipe.freeze}: only a MobileNetV1 front can keep its first blocks")
        front.freeze(recipe.freeze)
    optimizer, average, first = make_optimizer(net, recipe), Average(net, recipe.ema), 0
    checkpoint = run / "checkpoint.pt"
    if checkpoint.exists():
        same_recipe(recipe, run / "recipe.json")
        first = load_checkpoint(checkpoint, net, optimizer, average, device)
        cut_log(run / "log.jsonl", first)
    (run / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1), encoding="utf-8")
    samples = PoseSamples(list(recipe.data), root, net.head, recipe.size, recipe.augment, recipe.seed)
    loader = DataLoader(
        samples,
        recipe.batch,
        sampler=range(first * recipe.batch, recipe.steps * recipe.batch),
        num_workers=min(4, os.cpu_count() or 1) if device.type == "cuda" else 1,
        prefetch_factor=4,
        pin_memory=device.type == "cuda",
    )
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    with (
        Progress(*columns, console=console, disable=hidden) as progress,
        open(run / "log.jsonl", "a", encoding="utf-8") as log,
    ):
        task = progress.add_task("training", total=recipe.steps, completed=first)
        began, sums, since = time.perf_counter(), dict[str, float](), first
        for step, batch in enumerate(loader, first):
            losses = train_step(net, optimizer, [b.to(device, non_blocking=True) for b in batch], step, recipe, scale)
            if not math.isfinite(losses["total"]):
                raise FloatingPointError(f"loss {losses['total']} at step {step}; the last checkpoint is kept in {run}")
            average.update(net, step)
            sums = {k: sums.get(k, 0.0) + v for k, v in losses.items()}
            progress.update(task, advance=1, description=f"loss {losses['total']:.4f}")
            if (step + 1) % 20 == 0 or step + 1 == recipe.steps:
                seconds = time.perf_counter() - began
                line = {"step": step + 1, "rate": rate_at(step, recipe), "seconds": round(seconds, 2)}
                means = {k: round(v / (step + 1 - since), 6) for k, v in sums.items()}
                log.write(json.dumps(line | means) + "\n")
                log.flush()
                began, sums, since = time.perf_counter(), {}, step + 1
            if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
                save_checkpoint(checkpoint, net, optimizer, average, step + 1)
    weights = run / "weights.safetensors"
    save_weights(weights, average)
    return weights


def train_step(
    net: nn.Module, optimizer: torch.optim.Optimizer, batch: list[Tensor], step: int, recipe: Recipe, scale: nn.Module
) -> dict[str, float]:
    """One step: forward in bf16, loss in fp32, clipped gradient."""
    for group in optimizer.param_groups:
        group["lr"] = rate_at(step, recipe) * group["scale"]
    image, *targets = batch
    x = scale(image).contiguous(memory_format=torch.channels_last)
    with torch.autocast(x.device.type, torch.bfloat16):
        stages = net(x)
    losses = map_loss(stages, *targets, positive=recipe.positive)
    optimizer.zero_grad(set_to_none=True)
    losses["total"].backward()
    norm = nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
    optimizer.step()
    return {k: float(v.detach()) for k, v in losses.items()} | {"gradient": float(norm.detach())}


def save_checkpoint(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, average: Average, step: int) -> None:
    """Write beside, then replace: a kill at any moment leaves one whole checkpoint."""
    beside = path.with_suffix(".tmp")
    state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "average": average.state, "step": step}
    torch.save(state, beside)
    os.replace(beside, path)


def load_checkpoint(
    path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, average: Average, device: torch.device
) -> int:
    """Go back to where :func:`save_checkpoint` was called.

    Returns:
        the number of the next step.

    Raises:
        ValueError: the file is damaged, or of a network with other options.
    """
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
        net.load_state_dict(saved["net"])
        optimizer.load_state_dict(saved["optimizer"])
        average.state = {name: saved["average"][name] for name in average.state}
        return int(saved["step"])
    except Exception as error:  # torch raises a dozen types for a damaged file
        raise ValueError(f"{path}: damaged, or of another network; remove it or name another run ({error})") from error


MAY_CHANGE = {"steps", "save_every"}  # of a recipe, while its run goes on


def same_recipe(recipe: Recipe, path: Path) -> None:
    """Refuse to go on with a run by another recipe: its record would tell of a training that never was.

    Raises:
        ValueError: names what differs.
    """
    if not path.exists():
        return
    before, now = json.loads(path.read_text(encoding="utf-8")), json.loads(json.dumps(asdict(recipe)))
    differ = [key for key in now if key not in MAY_CHANGE and now[key] != before.get(key)]
    if differ:
        raise ValueError(f"{path.parent}: was begun with another {', '.join(differ)}; name another run, or remove it")


def cut_log(path: Path, steps: int) -> None:
    """Drop the lines of steps after the checkpoint, which are about to be done again."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= steps]
        path.write_text("".join(kept), encoding="utf-8")


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a file's lock, which the system lets go of however the process ends.

    Raises:
        BlockingIOError: another process holds it.
    """
    with open(path, "a+b") as file:
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BlockingIOError(f"{path.parent}: another process trains here; name another run") from error
        yield


def save_weights(path: Path, average: Average) -> None:
    """Averaged weights as fp16 safetensors.

    Raises:
        FloatingPointError: a value is no number, or beyond fp16's range.
    """
    beside = path.with_suffix(".tmp")
    halves = {k: v.half().contiguous() for k, v in average.state.items()}
    bad = [k for k, v in halves.items() if not v.isfinite().all()]
    if bad:
        raise FloatingPointError(f"{path}: {bad[0]} holds values that fp16 cannot; the checkpoint is kept beside it")
    save_file(halves, beside)
    os.replace(beside, path)
