"""The training loop."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from ..errors import ConfigError, TrainingError
from ..heads.people import InstanceHead
from ..networks import Network, Scaled
from ..runtime.torch import describe
from .checkpoint import cut_log, exclusive, load_checkpoint, save_checkpoint, save_weights
from .config import Recipe, same_recipe
from .distill import Teacher, patched
from .distributed import World
from .losses import losses
from .optim import Average, Schedule, make_optimizer
from .report import Log, image_grid
from .samples import Batch
from .setup import Freezing, Samples, make_network, make_samples


@dataclass
class Position:
    """The progress of a run, for code that may stop it.

    Attributes:
        step: number of finished steps.
        saved: step of the last checkpoint; 0 if there is none.
        begun: whether training steps have begun.
        stop: save after the current step and raise ``KeyboardInterrupt``; only used if there is one process.
    """

    step: int = 0
    saved: int = 0
    begun: bool = False
    stop: bool = False


def train(
    recipe: Recipe,
    data: str | Path,
    run: str | Path,
    *,
    quiet: bool = False,
    tensorboard: bool = False,
    position: Position | None = None,
) -> Path:
    """Train a network, or continue the training in ``run``.

    Samples, order, learning rates and averages depend only on the step, so a run that was killed and continued ends
    with the same weights, bit for bit on a CPU with the same number of threads. Under ``torchrun`` the batch is split
    over the processes.

    Args:
        recipe: settings of the training.
        data: folder that the recipe's data sets are relative to.
        run: folder of this run: ``checkpoint.pt``, ``log.jsonl``, ``recipe.json``, ``images/`` (one per epoch or per
            ``save_every`` steps), ``kept/`` (weights every ``keep_every`` steps), at the end ``log.csv``,
            ``losses.png`` and ``weights.safetensors``. Images are decoded once, into ``cache/`` next to it.
        quiet: print no progress.
        tensorboard: also write TensorBoard events.
        position: updated after each step.

    Returns:
        path of the averaged weights.

    Raises:
        ModelError: the run's checkpoint is damaged, or belongs to another network.
        ConfigError: the run was started with another recipe.
        BlockingIOError: another process is training in this folder.
        TrainingError: the loss is not a number; the last checkpoint is kept.
    """
    run = Path(run)
    run.mkdir(parents=True, exist_ok=True)
    # Set before the threads start, which inherit it. With small losses, gradients fall below 1e-38, and a CPU computes
    # with such numbers so slowly that a detector's step took three times as long.
    torch.set_flush_denormal(True)
    searches = torch.backends.cudnn.benchmark
    try:
        return _train(recipe, Path(data), run, quiet, tensorboard, position or Position())
    finally:  # for this thread; torch's other threads keep it
        torch.set_flush_denormal(False)
        torch.backends.cudnn.benchmark = searches


def _train(recipe: Recipe, data: Path, run: Path, quiet: bool, tensorboard: bool, position: Position) -> Path:
    with World() as world, exclusive(run / "lock") if world.first else contextlib.nullcontext():
        trainer = Trainer(recipe, data, run, world, position)
        return trainer.run(quiet, tensorboard)


class Trainer:
    """A network, its data and its optimizer, at some step of a run."""

    def __init__(
        self, recipe: Recipe, root: Path, folder: Path, world: World, position: Position | None = None
    ) -> None:
        if recipe.batch % world.size:
            raise ConfigError(f"batch = {recipe.batch}: must be divisible by the number of processes, {world.size}")
        self.recipe, self.folder, self.world = recipe, folder, world
        self.position = position or Position()
        torch.manual_seed(recipe.seed)
        checkpoint = folder / "checkpoint.pt"
        net = make_network(recipe, root, with_weights=not checkpoint.exists())
        self.scale = Scaled(net).to(world.device)
        net = world.synced(net)
        batched = net.head.batched
        # torchvision's detector uses views of maps, which need the contiguous memory format.
        self.order = torch.channels_last if batched else torch.contiguous_format
        # Searching for the fastest kernels is worthwhile if all batches have one shape; the number of boxes varies.
        torch.backends.cudnn.benchmark = world.device.type == "cuda" and batched
        self.net: Network = net.to(world.device).to(memory_format=self.order).train()  # pyright: ignore
        self.teacher = Teacher(recipe, self.net.head, world.device) if recipe.distill.teacher else None
        self.freezing = Freezing(self.net, recipe.freeze, recipe.network)
        self.optimizer = make_optimizer(self.net, recipe.optimizer)
        self.schedule = Schedule(recipe.schedule, recipe.optimizer.lr, recipe.steps, recipe.freeze)
        self.average, self.first = Average(self.net, recipe.ema), 0
        if checkpoint.exists():
            same_recipe(recipe, folder / "recipe.json")
            state = self.net, self.optimizer, self.average, self.schedule
            self.first = load_checkpoint(checkpoint, *state, world.device)
        self.position.step = self.position.saved = self.first
        world.barrier()
        parts = root, net, recipe
        cache, plain = folder.parent / "cache", recipe.augment.still()
        self.samples = make_samples(recipe.data, *parts, recipe.augment, cache)
        self.validation = make_samples(recipe.validation, *parts, plain, cache) if recipe.validation else None
        # With few images, an epoch has few steps: validating after each would take longer than training.
        self.look_every = max(len(self.samples) // recipe.batch, recipe.save_every)

    def batches(self, samples: Samples, first: int, end: int, batch: int) -> Iterator[Batch]:
        """This process's share of sample numbers ``first`` to ``end``."""
        return samples.batches(first, end, batch, self.world.rank, self.world.size)

    def run(self, quiet: bool, tensorboard: bool) -> Path:
        """Run the remaining steps."""
        recipe, world, folder = self.recipe, self.world, self.folder
        log = None
        if world.first:
            cut_log(folder / "log.jsonl", self.first)
            (folder / "recipe.json").write_text(recipe.to_json(), encoding="utf-8")
            log = Log(folder, tensorboard)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        console = Console(stderr=True)
        progress = Progress(*columns, console=console, disable=quiet or not world.first or not console.is_terminal)
        batches = self.batches(self.samples, self.first * recipe.batch, recipe.steps * recipe.batch, recipe.batch)
        if self.first and world.first and not quiet:
            console.print(f"{folder}: resuming from step {self.first}", highlight=False)
        with contextlib.ExitStack() as stack:
            stack.enter_context(progress)
            if log:
                stack.callback(log.close)
            task = progress.add_task("training", total=recipe.steps, completed=self.first)
            means = _Means(self.first)
            self.position.begun = True
            called = None
            for step, batch in enumerate(batches, self.first):
                if called is None or step == recipe.freeze.backbone_steps:
                    called = self.wake(step)
                values = self.step(called, batch, step)
                self.average.update(self.net, step)
                means.add(values)
                shown = "  ".join(f"{name} {value:.4f}" for name, value in values.items() if name != "gradient")
                progress.update(task, advance=1, description=shown)
                line = self._line(step, means)
                if log and line:
                    log.write({"step": step + 1} | line)
                    if not quiet and not console.is_terminal:
                        console.print(f"step {step + 1} of {recipe.steps}: {shown}", highlight=False)
                if log:
                    self._keep(step, batch, log)
                self.position.step = step + 1
                if self.position.stop and world.size == 1:
                    self._save(step + 1)
                    raise KeyboardInterrupt
        if world.first:
            self._write_weights(folder / "weights.safetensors")
        world.barrier()
        return folder / "weights.safetensors"

    def _line(self, step: int, means: _Means) -> dict[str, Any]:
        """The log line of a step: mean losses every ``log_every`` steps, the validation loss when it is due."""
        recipe, done, last = self.recipe, step + 1, step + 1 == self.recipe.steps
        line: dict[str, Any] = {}
        if done % recipe.log_every == 0 or last:
            seconds, losses = means.take(done)
            losses = {name: round(value, 6) for name, value in self.world.mean(losses).items()}
            line = {"lr": self.schedule.at(step), "seconds": seconds} | losses
        if self.validation and (done % (recipe.validate_every or self.look_every) == 0 or last):
            line["validation"] = self._validate(self.validation)
            if done > max(recipe.freeze.backbone_steps, recipe.schedule.warmup):
                self.schedule.see(line["validation"])
            means.restart_clock()
        return line

    def _keep(self, step: int, batch: Batch, log: Log) -> None:
        """Write images, plots and checkpoints when they are due."""
        recipe, folder, done, last = self.recipe, self.folder, step + 1, step + 1 == self.recipe.steps
        if done % self.look_every == 0 or last:
            log.show()
            self._draw(batch, folder / "images" / f"{done:07d}.jpg")
        if done % recipe.save_every == 0 or last:
            self._save(done)
        if recipe.keep_every and done % recipe.keep_every == 0:
            (folder / "kept").mkdir(exist_ok=True)
            self._write_weights(folder / "kept" / f"{done:07d}.safetensors")

    def _write_weights(self, path: Path) -> None:
        info = describe(self.recipe.network, self.net, self.recipe.size)
        save_weights(path, self.average, info, asdict(self.net.config))  # also defaults, which may change

    def _save(self, done: int) -> None:
        """Save a checkpoint after so many steps, unless it exists."""
        if self.position.saved != done:
            path = self.folder / "checkpoint.pt"
            save_checkpoint(path, self.net, self.optimizer, self.average, self.schedule, done)
            self.position.saved = done

    def wake(self, step: int) -> nn.Module:
        """Freeze the modules that are frozen from this step on, and wrap the network for several processes."""
        self.freezing.apply(step)
        return self.world.wrap(self.net)

    def step(self, called: nn.Module, batch: Batch, step: int) -> dict[str, float]:
        """Run the forward pass, the loss in fp32, the backward pass with clipping, and the optimizer step.

        Returns:
            the parts of the loss, and the norm of the gradient.

        Raises:
            TrainingError: the loss is not a number; the message names the images.
        """
        recipe, numbers = self.recipe, batch.numbers
        # Detectors sample proposals at random. The seed depends on the step, so a continued run samples the same.
        torch.manual_seed((recipe.seed << 32) + step * self.world.size + self.world.rank)
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.at(step) * group["scale"]
        batch = batch.to(self.world.device)
        x = self._scaled(batch)
        if self.teacher:
            x, batch.targets["weight"] = patched(x, batch.targets["weight"], recipe.distill.patched)
            batch.targets["taught"] = self.teacher(x)
        parts = losses(self.net, called, x, batch, recipe)
        self.optimizer.zero_grad(set_to_none=True)
        parts["total"].backward()
        trained = [p for p in self.net.parameters() if p.grad is not None]
        parts["gradient"] = nn.utils.clip_grad_norm_(trained, recipe.optimizer.grad_clip or math.inf)
        # All at once, to synchronize with the GPU only once per step.
        values = dict(zip(parts, torch.stack([v.detach().float() for v in parts.values()]).tolist(), strict=True))
        if not math.isfinite(values["total"] + values["gradient"]):  # before the weights change
            names = sorted({name for n in numbers for name in self.samples.image_names(n)})
            raise TrainingError(
                f"loss {values['total']} and gradient {values['gradient']} at step {step}, samples {numbers[0]} to"
                f" {numbers[-1]} ({', '.join(names)}); the last checkpoint is kept in {self.folder}"
            )
        self.optimizer.step()
        return values

    def _scaled(self, batch: Batch) -> torch.Tensor:
        return self.scale(batch.images).contiguous(memory_format=self.order)

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """Use the averaged weights in the network inside the block."""
        kept = {name: tensor.clone() for name, tensor in self.net.state_dict().items()}
        self.average.copy_to(self.net)
        try:
            yield
        finally:
            self.net.load_state_dict(kept)
            self.freezing.train_mode()

    @torch.no_grad()
    def _validate(self, samples: Samples) -> float:
        """Mean loss of the averaged weights over the same samples every time."""
        recipe, count = self.recipe, self.recipe.validation_samples // self.recipe.batch or 1
        total = 0.0
        with self._averaged():
            # torchvision's detector has losses only in training mode; its BatchNorm stays frozen there.
            (self.freezing.train_mode if isinstance(self.net.head, InstanceHead) else self.net.eval)()
            for i, batch in enumerate(self.batches(samples, 0, count * recipe.batch, recipe.batch)):
                torch.manual_seed(i)
                batch = batch.to(self.world.device)
                total += float(losses(self.net, self.net, self._scaled(batch), batch, recipe)["total"])
        return round(self.world.mean({"total": total / count})["total"], 8)

    def _draw(self, batch: Batch, path: Path) -> None:
        with self._averaged():
            image_grid(self.recipe.network, self.net.eval(), batch.images, path)


class _Means:
    """Mean losses and seconds since the last line of the log."""

    def __init__(self, step: int) -> None:
        self.sums, self.since = dict[str, float](), step
        self.restart_clock()

    def restart_clock(self) -> None:
        """Count seconds from now on."""
        self.began = time.perf_counter()

    def add(self, losses: dict[str, float]) -> None:
        """Add the losses of one step."""
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in losses.items()}

    def take(self, step: int) -> tuple[float, dict[str, float]]:
        """Return seconds and mean losses up to ``step``, and reset them."""
        seconds = round(time.perf_counter() - self.began, 2)
        means = {name: value / (step - self.since) for name, value in self.sums.items()}
        self.sums, self.since = {}, step
        self.restart_clock()
        return seconds, means
