"""The training loop."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from torch.utils.data import DataLoader

from ..data.coco import KeypointSet
from ..data.formats import open_dataset
from ..networks import Network, Scaled, build, head_of, load_imagenet
from ..networks.backbones.mobilenet import MobileNetV1
from ..networks.backbones.residual import ConvBn
from ..networks.blocks import batch_norms
from ..networks.lithe import Lithe
from ..networks.person_detector import PersonDetector
from ..networks.weights import find_module, load_weights
from ..runtime.torch import describe
from ..skeleton import SKELETONS, Head
from .checkpoint import cut_log, exclusive, load_checkpoint, save_checkpoint, save_weights
from .config import Recipe, same_recipe
from .crops import CropSamples
from .detection import DetectionSamples
from .distributed import World
from .losses import Batch, losses
from .optim import Average, Plateau, make_optimizer, rate_at
from .report import Log, image_grid
from .samples import PoseSamples, collate

LOG_EVERY = 20
Samples = PoseSamples | CropSamples | DetectionSamples


def train(recipe: Recipe, data: str | Path, run: str | Path, *, quiet: bool = False, tensorboard: bool = False) -> Path:
    """Train, or go on where ``run`` stopped.

    Samples, order, rates and averages depend on the step alone, so a run that was killed and started again ends with
    the same weights, bit for bit on a CPU with the same number of threads. Under ``torchrun`` the batch is split over
    the processes.

    Args:
        recipe: what to do.
        data: folder that the recipe's data sets are relative to.
        run: folder of this run: ``checkpoint.pt``, ``log.jsonl``, ``recipe.json``, ``images/`` (one an epoch or
            ``save_every`` steps), at the end ``log.csv``, ``losses.png`` and ``weights.safetensors``. Images are
            decoded once, into ``cache/`` beside it.
        quiet: no progress bar.
        tensorboard: also write TensorBoard's events.

    Returns:
        Path of the averaged weights.

    Raises:
        ValueError: the run's checkpoint is damaged, or of another network; or the run was begun with another recipe.
        BlockingIOError: another process trains in this folder.
        FloatingPointError: the loss is not a number; the last checkpoint is kept.
    """
    run = Path(run)
    run.mkdir(parents=True, exist_ok=True)
    # Before the threads begin, which take it over. Where losses are small gradients fall below 1e-38, and a CPU
    # computes with such numbers so slowly that a detector's step took three times as long.
    torch.set_flush_denormal(True)
    searches = torch.backends.cudnn.benchmark
    try:
        return _train(recipe, Path(data), run, quiet, tensorboard)
    finally:  # of this thread; torch's others, born meanwhile, keep it
        torch.set_flush_denormal(False)
        torch.backends.cudnn.benchmark = searches


def _train(recipe: Recipe, data: Path, run: Path, quiet: bool, tensorboard: bool) -> Path:
    with World() as world, exclusive(run / "lock") if world.first else contextlib.nullcontext():
        trainer = Trainer(recipe, data, run, world)
        return trainer.run(quiet, tensorboard)


class Trainer:
    """A network, its data and its optimizer, at some step of a run."""

    def __init__(self, recipe: Recipe, root: Path, folder: Path, world: World) -> None:
        if recipe.batch % world.size:
            raise ValueError(f"batch = {recipe.batch}: {world.size} processes must share it evenly")
        self.recipe, self.root, self.folder, self.world = recipe, root, folder, world
        torch.manual_seed(recipe.seed)
        net = build(recipe.network, make_head(recipe, root), **recipe.options)
        if isinstance(net, Lithe):
            net.crop, net.small_crop = recipe.crop or net.crop, recipe.small_crop
            net.head = replace(net.head, sigma=recipe.sigma or net.head.sigma)
        checkpoint = folder / "checkpoint.pt"
        if recipe.start and not checkpoint.exists():
            load_imagenet(net, recipe.start if ":" in recipe.start else root / recipe.start)
        if recipe.resume_weights and not checkpoint.exists():
            self._modules("reinit", net)
            load_weights(net, recipe.resume_weights, recipe.reinit)
        self.scale = Scaled(net).to(world.device)
        net = world.synced(net)
        # torchvision's detector takes views of maps that only the usual order of memory allows.
        self.order = torch.contiguous_format if net.kind == "boxes" else torch.channels_last
        # A search for the fastest kernels pays where all batches have one shape; boxes come in any number.
        torch.backends.cudnn.benchmark = world.device.type == "cuda" and net.kind != "boxes"
        self.net: Network = net.to(world.device).to(memory_format=self.order).train()
        for layer in self.net.modules():
            if isinstance(layer, ConvBn):
                layer.folded = recipe.folded
        self.frozen = self._modules("frozen", self.net)
        self.blocks = len(net.front.blocks) if isinstance(getattr(net, "front", None), MobileNetV1) else 0
        if recipe.freeze and not self.blocks:
            raise ValueError(f"freeze = {recipe.freeze}: only a MobileNetV1 front can keep its first blocks")
        if recipe.frozen_steps and not hasattr(net, "front"):
            raise ValueError(f"frozen_steps = {recipe.frozen_steps}: {recipe.network} has no front to freeze")
        self.optimizer, self.average = make_optimizer(self.net, recipe), Average(self.net, recipe.ema)
        self.plateau, self.first = Plateau(), 0
        if checkpoint.exists():
            same_recipe(recipe, folder / "recipe.json")
            state = self.net, self.optimizer, self.average, self.plateau
            self.first = load_checkpoint(checkpoint, *state, world.device)
        world.barrier()
        self.samples = self._samples(recipe.data, recipe.augment)
        self.validation = self._samples(recipe.validation, recipe.augment.still()) if recipe.validation else None
        # Of a handful of images an epoch is a few steps: validating after each would take longer than training.
        self.look_every = max(len(self.samples) // recipe.batch, recipe.save_every)

    def _samples(self, sources: Any, augment: Any) -> Samples:
        recipe, net, cache = self.recipe, self.net, self.folder.parent / "cache"
        if isinstance(net, Lithe):
            shapes = [(net.crop, 1.0 - recipe.small_share * bool(net.small_crop)), (net.small_crop, recipe.small_share)]
            shapes = [(shape, share) for shape, share in shapes if shape]
            return CropSamples(sources, self.root, net.head, shapes, augment, recipe.seed, cache)
        if isinstance(net, PersonDetector):
            return DetectionSamples(sources, self.root, recipe.size, augment, recipe.seed, cache)
        return PoseSamples(list(sources), self.root, net.head, recipe.size, augment, recipe.seed, net.kind)

    def batches(self, samples: Samples, first: int, end: int, batch: int) -> Iterator[Batch]:
        """This process's share of sample numbers ``first`` to ``end``.

        Raises:
            OSError, ValueError: a sample cannot be made; as it says itself, without the worker's traceback.
        """
        cuda, world = self.world.device.type == "cuda", self.world
        if not isinstance(samples, PoseSamples):
            yield from samples.batches(first, end, batch, world.rank, world.size)
            return
        loader: DataLoader[Batch] = DataLoader(
            samples,  # pyright: ignore[reportArgumentType]
            batch // world.size,
            sampler=range(first + world.rank, end, world.size),
            num_workers=max(1, min(8, (os.cpu_count() or 1) // world.neighbours)) if cuda else 1,
            prefetch_factor=4,
            pin_memory=cuda,
            collate_fn=collate,
            worker_init_fn=_deaf,
        )
        try:
            yield from loader
        except (OSError, ValueError) as error:
            # The frames hold the error and the loader, and it its workers, for which the process would wait at its end.
            traceback.clear_frames(error.__traceback__)
            said = str(error).strip().splitlines()
            if not said or "in DataLoader worker process" not in said[0]:
                raise
            raise type(error)(said[-1].partition(": ")[2]) from None

    def run(self, quiet: bool, tensorboard: bool) -> Path:
        """All steps that are left."""
        recipe, world, folder = self.recipe, self.world, self.folder
        validate_every = recipe.validate_every or self.look_every
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
            console.print(f"{folder}: goes on from step {self.first}", highlight=False)
        with contextlib.ExitStack() as stack:
            stack.enter_context(progress)
            if log:
                stack.callback(log.close)
            task = progress.add_task("training", total=recipe.steps, completed=self.first)
            began, sums, since = time.perf_counter(), dict[str, float](), self.first
            called = None
            for step, batch in enumerate(batches, self.first):
                if called is None or step == recipe.frozen_steps:
                    called = self.wake(step)
                parts = self.step(called, batch, step)
                self.average.update(self.net, step)
                sums = {k: sums.get(k, 0.0) + v for k, v in parts.items()}
                said = "  ".join(f"{k} {v:.4f}" for k, v in parts.items() if k != "gradient")
                progress.update(task, advance=1, description=said)
                done, last = step + 1, step + 1 == recipe.steps
                line: dict[str, Any] = {}
                if done % LOG_EVERY == 0 or last:
                    means = world.mean({k: v / (done - since) for k, v in sums.items()})
                    seconds = round(time.perf_counter() - began, 2)
                    line = {"rate": self._rate(step), "seconds": seconds} | {k: round(v, 6) for k, v in means.items()}
                    began, sums, since = time.perf_counter(), {}, done
                if self.validation and (done % validate_every == 0 or last):
                    line["validation"] = self._validate(self.validation)
                    if done > max(recipe.frozen_steps, recipe.warmup):
                        self.plateau.see(line["validation"], recipe)
                    began = time.perf_counter()
                if log and line:
                    log.write({"step": done} | line)
                    if not quiet and not console.is_terminal:
                        console.print(f"step {done} of {recipe.steps}: {said}", highlight=False)
                if log and (done % self.look_every == 0 or last):
                    log.show()
                    self._draw(batch, folder / "images" / f"{done:07d}.jpg")
                if world.first and (done % recipe.save_every == 0 or last):
                    state = self.net, self.optimizer, self.average, self.plateau
                    save_checkpoint(folder / "checkpoint.pt", *state, done)
        if world.first:
            info = describe(recipe.network, self.net, recipe.size)
            save_weights(folder / "weights.safetensors", self.average, info, recipe.options)
        world.barrier()
        return folder / "weights.safetensors"

    def _rate(self, step: int) -> float:
        return rate_at(step, self.recipe, self.plateau)

    def wake(self, step: int) -> nn.Module:
        """Freeze what is to keep its weights from this step on, and wrap the network for several processes."""
        frozen = step < self.recipe.frozen_steps
        front: Any = getattr(self.net, "front", None)
        if front is not None:
            front.requires_grad_(not frozen)
            if self.blocks:
                front.frozen = None
                blocks = self.blocks if frozen else self.recipe.freeze
                if blocks:
                    front.freeze(blocks)
        for module in self.frozen:
            module.requires_grad_(False)
        self._to_train()
        if not any(p.requires_grad for p in self.net.parameters()):
            said = ", ".join(key for key in ("frozen", "freeze", "frozen_steps") if getattr(self.recipe, key))
            raise ValueError(f"{said}: nothing is left to train at step {step}; leave some of it out")
        return self.world.wrap(self.net)

    def _modules(self, key: str, net: nn.Module) -> list[nn.Module]:
        try:
            return [find_module(net, name) for name in getattr(self.recipe, key)]
        except ValueError as error:
            raise ValueError(f"{key}: {error} ({self.recipe.network})") from error

    def _to_train(self) -> None:
        """Training mode, but for BatchNorm of frozen modules. Detectors have losses in this mode alone."""
        self.net.train()
        for module in self.frozen:
            for layer in batch_norms(module):
                layer.eval()

    def step(self, called: nn.Module, batch: Batch, step: int) -> dict[str, float]:
        """Forward, loss in fp32, clipped gradient."""
        recipe, numbers = self.recipe, batch["number"]
        # Detectors draw proposals at random: by the step, so that a run that goes on draws the same.
        torch.manual_seed((recipe.seed << 32) + step * self.world.size + self.world.rank)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(step) * group["scale"]
        x, batch = self._on_device(batch)
        parts = losses(self.net, called, x, batch, recipe)
        self.optimizer.zero_grad(set_to_none=True)
        parts["total"].backward()
        trained = [p for p in self.net.parameters() if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(trained, recipe.clip or math.inf)
        parts["gradient"] = norm
        # All at once: a GPU is waited for but once a step.
        said = dict(zip(parts, torch.stack([v.detach().float() for v in parts.values()]).tolist(), strict=True))
        if not math.isfinite(said["total"] + said["gradient"]):  # before it gets into the weights
            names = sorted({name for n in numbers for name in self.samples.image_names(n)})
            raise FloatingPointError(
                f"loss {said['total']}, gradient {said['gradient']} at step {step}, samples {numbers[0]} to"
                f" {numbers[-1]} ({', '.join(names)}); the last checkpoint is kept in {self.folder}"
            )
        self.optimizer.step()
        return said

    def _on_device(self, batch: Batch) -> tuple[torch.Tensor, Batch]:
        def move(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                return value.to(self.world.device, non_blocking=True)
            return [move(v) for v in value] if isinstance(value, list) else value

        batch = {name: move(value) for name, value in batch.items()}
        return self.scale(batch["image"]).contiguous(memory_format=self.order), batch

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights in the network, for a while."""
        kept = {name: tensor.clone() for name, tensor in self.net.state_dict().items()}
        self.average.copy_to(self.net)
        try:
            yield
        finally:
            self.net.load_state_dict(kept)
            self._to_train()

    @torch.no_grad()
    def _validate(self, samples: Samples) -> float:
        """Mean loss of the averaged weights over the same samples every time."""
        recipe, count = self.recipe, self.recipe.validation_samples // self.recipe.batch or 1
        total = 0.0
        with self._averaged():
            # A detector tells its losses in training mode alone; its BatchNorm stays frozen in it.
            (self._to_train if self.net.kind == "boxes" else self.net.eval)()
            for i, batch in enumerate(self.batches(samples, 0, count * recipe.batch, recipe.batch)):
                torch.manual_seed(i)
                x, batch = self._on_device(batch)
                total += float(losses(self.net, self.net, x, batch, recipe)["total"])
        return round(self.world.mean({"total": total / count})["total"], 8)

    def _draw(self, batch: Batch, path: Path) -> None:
        with self._averaged():
            image_grid(self.recipe.network, self.net.eval(), batch["image"], path)


def _deaf(_worker: int) -> None:
    """Signals are for the process that trains, which ends its workers; reaching these first they end in tracebacks.

    Nor may OpenCV be told here to use one thread: where it has threads already it waits for those of before the fork.
    """
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.SIG_IGN)


def make_head(recipe: Recipe, root: Path) -> Head | None:
    """What the network's maps shall mean, if the recipe asks for joints of its own.

    Raises:
        ValueError: no such skeleton, or one that the network cannot find people by.
    """
    if not recipe.skeleton:
        return None
    if recipe.skeleton == "data":
        source = recipe.data[0]
        opened: KeypointSet = open_dataset(root / source.data, source.split, tuple(root / i for i in source.images))
        return head_of(recipe.network, opened.skeleton)
    if recipe.skeleton not in SKELETONS:
        raise ValueError(f"skeleton = {recipe.skeleton!r}; there are data, {', '.join(SKELETONS)}")
    return head_of(recipe.network, SKELETONS[recipe.skeleton])
