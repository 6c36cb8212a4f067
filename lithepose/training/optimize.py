"""Optimizer, learning rate and averaged weights."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..networks.binary import BinaryConv2d
from .muon import Muon
from .recipe import Recipe

REFINES = re.compile(r"stages\.[1-9]|refinements\.|refine\.")  # layers behind the first stage, of any network


@dataclass
class Plateau:
    """Lowers the rate when the validation loss no longer falls."""

    scale: float = 1.0
    best: float = math.inf
    waited: int = 0

    def see(self, loss: float, recipe: Recipe) -> None:
        """Take notice of a validation."""
        if loss < self.best * (1 - recipe.gain):
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited > recipe.patience:
            self.scale, self.waited = self.scale * recipe.factor, 0


def rate_at(step: int, recipe: Recipe, plateau: Plateau | None = None) -> float:
    """Learning rate: linear warm-up, then by the recipe's schedule."""
    if step < recipe.frozen_steps and recipe.frozen_rate:
        return recipe.frozen_rate
    if step < recipe.warmup:
        return recipe.rate * (step + 1) / recipe.warmup
    if recipe.schedule == "steps":
        return recipe.rate * recipe.factor ** sum(step >= m for m in recipe.milestones)
    if recipe.schedule == "plateau":
        return recipe.rate * (plateau.scale if plateau else 1.0)
    if recipe.schedule == "constant":
        return recipe.rate
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    left = 1 - done if recipe.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return recipe.rate * (recipe.final_rate + (1 - recipe.final_rate) * left)


def make_optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Every parameter in exactly one group, by its rate and whether it decays.

    Weight decay is for convolutions and linear layers: not for biases, BatchNorm, or the latent weights of binary
    layers, which it would only push towards changing their signs.
    """
    binary = {id(m.weight) for m in net.modules() if isinstance(m, BinaryConv2d)}
    pretrained = "front.", "detector.backbone.body.", *(("backbone.",) if recipe.start else ())
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        scale = recipe.front_rate if name.startswith(pretrained) else 1.0
        scale *= recipe.refine_rate if REFINES.match(name) else 1.0
        scale *= recipe.bias_rate if name.endswith("bias") and parameter.ndim == 1 else 1.0
        decays = parameter.ndim > 1 and id(parameter) not in binary
        # A depthwise kernel is no matrix between channels.
        muon = recipe.optimizer == "muon" and parameter.ndim == 4 and parameter.shape[1] > 1
        groups.setdefault((scale, decays, muon), []).append(parameter)
    tables: list[dict[str, Any]] = [
        {"params": p, "scale": scale, "weight_decay": recipe.weight_decay * decays} | ({"muon": True} if muon else {})
        for (scale, decays, muon), p in sorted(groups.items(), key=lambda item: item[0])
    ]
    if recipe.optimizer == "muon":
        return Muon(tables, lr=recipe.rate)
    # On a GPU few kernels for all parameters: one by one their launches take longer than the step.
    together = next(net.parameters()).is_cuda
    if recipe.optimizer == "sgd":  # its fused form cannot have layers that wake up later
        return torch.optim.SGD(tables, lr=recipe.rate, momentum=recipe.momentum, foreach=together, fused=False)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(tables, lr=recipe.rate, fused=together)


class Average:
    """Exponential moving average of parameters and BatchNorm statistics, the weights that are shipped."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone().float() for k, v in net.state_dict().items() if v.is_floating_point()}

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))  # follow fast at first
        state = net.state_dict()
        now = [state[name].float() for name in self.state]
        torch._foreach_lerp_(list(self.state.values()), now, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    def copy_to(self, net: nn.Module) -> None:
        """Load the averaged weights into a network of the same shape."""
        net.load_state_dict(self.state, strict=False)
