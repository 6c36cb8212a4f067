"""Parts of a training run: network, frozen modules, samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ..data.formats import open_dataset
from ..errors import ConfigError
from ..heads.base import Head
from ..heads.boxes import BoxHead
from ..heads.people import CropHead
from ..networks import Network, build, head_of, load_imagenet
from ..networks.backbones.mobilenet import DepthwiseSeparable, MobileNetV1
from ..networks.backbones.residual import ConvBn, Residual
from ..networks.blocks import batch_norms
from ..networks.weights import find_module, load_weights
from ..skeleton import SKELETONS
from .augment import AugmentConfig
from .config import FreezeConfig, Recipe, Source
from .crops import CropSamples
from .detection import DetectionSamples
from .samples import PoseSamples

Samples = PoseSamples | CropSamples | DetectionSamples


def make_head(recipe: Recipe, root: Path) -> Head[Any] | None:
    """Return the head of the network if the recipe names its own joints.

    Raises:
        ConfigError: the skeleton does not exist, or the network cannot group people with it.
    """
    if not recipe.skeleton:
        return None
    if recipe.skeleton == "data":
        source = recipe.data[0]
        opened = open_dataset(root / source.data, source.split, tuple(root / i for i in source.images))
        return head_of(recipe.network, opened.skeleton)
    if recipe.skeleton not in SKELETONS:
        raise ConfigError(
            f"skeleton = {recipe.skeleton!r}: unknown skeleton; choose one of data, {', '.join(SKELETONS)}"
        )
    return head_of(recipe.network, SKELETONS[recipe.skeleton])


def make_network(recipe: Recipe, root: Path, with_weights: bool) -> Network:
    """Build the network of a recipe.

    Args:
        recipe: its network, options, skeleton and crops.
        root: folder that its data sets are relative to.
        with_weights: load the weights that the recipe names; a resumed run has its own.

    Raises:
        ConfigError: the network lacks an option or module, or the weights belong to another network.
    """
    net = build(recipe.network, make_head(recipe, root), **recipe.options)
    if isinstance(net.head, CropHead):
        net.crop, net.small_crop = recipe.crop or net.crop, recipe.small_crop
        net.head = replace(net.head, sigma=recipe.sigma or net.head.sigma)
    new = named_modules(net, recipe.reinit, f"{recipe.network}: reinit") if with_weights else []
    _begin_as_identity(new)
    if recipe.pretrained and with_weights:
        load_imagenet(net, recipe.pretrained if ":" in recipe.pretrained else root / recipe.pretrained)
    if recipe.init_from and with_weights:
        load_weights(net, recipe.init_from, recipe.reinit)
    if recipe.fold_norm:
        _fold_norms(net, recipe)
    return net


def _fold_norms(net: Network, recipe: Recipe) -> None:
    """Fold BatchNorm where it has the statistics of trained weights; a random layer needs those of its batches."""
    random = tuple(f"{name}." for name in recipe.reinit)
    for name, layer in net.named_modules():
        trained = (
            not f"{name}.".startswith(random)
            if recipe.init_from
            else name.startswith(("backbone.", "detector.backbone.body."))
        )
        if isinstance(layer, (ConvBn, DepthwiseSeparable)):
            layer.folded = trained


def _begin_as_identity(modules: Sequence[nn.Module]) -> None:
    """Make residual blocks without trained weights the identity at first, so that a network can be made deeper."""
    for block in (layer for module in modules for layer in module.modules() if isinstance(layer, Residual)):
        norm = block.conv2[1]
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.zeros_(norm.weight)


def named_modules(net: nn.Module, names: Sequence[str], key: str) -> list[nn.Module]:
    """Return modules of a network by name.

    Args:
        net: the network.
        names: names of the modules.
        key: key of the recipe, for the error message.

    Raises:
        ConfigError: there is no module of that name.
    """
    try:
        return [find_module(net, name) for name in names]
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error


class Freezing:
    """Freezes modules of a network, depending on the step.

    Args:
        net: the network.
        config: what is frozen.
        name: name of the network, for errors.

    Raises:
        ConfigError: the network lacks these modules or blocks.
    """

    def __init__(self, net: Network, config: FreezeConfig, name: str) -> None:
        self.net, self.config = net, config
        self.modules = named_modules(net, config.modules, f"{name}: freeze.modules")
        self.backbone: Any = getattr(net, "backbone", None)
        self.blocks = len(self.backbone.blocks) if isinstance(self.backbone, MobileNetV1) else 0
        if config.blocks and not self.blocks:
            raise ConfigError(f"freeze.blocks = {config.blocks}: only works with a MobileNetV1 backbone")
        if config.backbone_steps and self.backbone is None:
            raise ConfigError(f"freeze.backbone_steps = {config.backbone_steps}: {name} has no backbone to freeze")

    def apply(self, step: int) -> None:
        """Freeze the modules that are frozen at this step, and put the rest into training mode.

        Raises:
            ConfigError: nothing is left to train.
        """
        if self.backbone is not None:
            frozen = step < self.config.backbone_steps
            self.backbone.requires_grad_(not frozen)
            if self.blocks:
                self.backbone.frozen = None
                blocks = self.blocks if frozen else self.config.blocks
                if blocks:
                    self.backbone.freeze(blocks)
        for module in self.modules:
            module.requires_grad_(False)
        self.train_mode()
        if not any(p.requires_grad for p in self.net.parameters()):
            raise ConfigError(f"freeze: all modules are frozen at step {step}; freeze fewer modules")

    def train_mode(self) -> None:
        """Set training mode, except for BatchNorm of frozen modules."""
        self.net.train()
        for module in self.modules:
            for layer in batch_norms(module):
                layer.eval()


def make_samples(
    sources: Sequence[Source], root: Path, net: Network, recipe: Recipe, augment: AugmentConfig, cache: Path
) -> Samples:
    """Make the training samples for a network's kind of output.

    Args:
        sources: data sets.
        root: folder that the sources are relative to.
        net: the network.
        recipe: supplies sizes and seed.
        augment: augmentation; none for validation.
        cache: folder for decoded images.

    Raises:
        ConfigError: images are mirrored, but a joint of one side has no partner on the other.
    """
    lonely = net.head.skeleton.unpaired if isinstance(net.head, Head) and augment.flip else ()
    if lonely:
        raise ConfigError(
            f"augment.flip = {augment.flip}: {', '.join(lonely)} belong to one side, but have no counterpart on the"
            " other; mirrored images would teach the wrong side. Use matching names (left_hip, right_hip), set"
            " flip_pairs in the category, or set flip = 0"
        )
    if isinstance(net.head, CropHead):
        shapes = [(net.crop, 1.0 - recipe.small_share * bool(net.small_crop)), (net.small_crop, recipe.small_share)]
        shapes = [(shape, share) for shape, share in shapes if shape]
        return CropSamples(sources, root, net.head, shapes, augment, recipe.seed, cache)
    if isinstance(net.head, BoxHead):
        return DetectionSamples(sources, root, recipe.size, augment, recipe.seed, cache)
    return PoseSamples(list(sources), root, net.head, recipe.size, augment, recipe.seed)
