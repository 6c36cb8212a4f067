"""Optimizers, learning rate schedules and averaged weights."""

# torch exports its multi-tensor operations under private names alone.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..networks.binary_conv import BinaryConv2d
from .config import Recipe

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


# Coefficients of the quintic Newton-Schulz iteration (Jordan et al. 2024): singular values end within 0.7 to 1.2.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Bring the singular values of a stack of matrices (B, M, N) near to 1.

    Returns:
        (B, M, N) float32; computed in bfloat16, which is less exact, but far more so than five iterations.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Muon for groups with ``muon=True``, AdamW for the others.

    A convolution kernel counts as a matrix (output channels, inputs x kernel). Its step has the root mean square of a
    typical AdamW step, 0.2 sqrt(max(M, N)) times an orthogonal matrix (Liu et al. 2025), so both share a learning rate.

    Args:
        groups: parameter groups, each with ``params`` and any of the defaults below.
        lr: learning rate.
        momentum: of Muon, in Nesterov's form.
        betas: of AdamW.
        eps: of AdamW.
        weight_decay: decoupled.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float = 5e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps}
        super().__init__(groups, defaults | {"weight_decay": weight_decay, "muon": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            (self._muon if group["muon"] else self._adam)(parameters, group)
        return loss

    def _muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for p in parameters:
            state = self.state[p]
            if not state:
                state["momentum"] = torch.zeros_like(p)
            assert p.grad is not None
            state["momentum"].lerp_(p.grad, 1 - group["momentum"])
            update = p.grad.lerp(state["momentum"], group["momentum"]).flatten(1)
            by_shape[update.shape[0], update.shape[1]].append((p, update))
        for shape, members in by_shape.items():
            steps = orthogonalize(torch.stack([update for _, update in members]))
            for (p, _), step in zip(members, steps, strict=True):
                p.sub_(step.view_as(p), alpha=group["lr"] * 0.2 * max(shape) ** 0.5)

    def _adam(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        (beta1, beta2), means, squares = group["betas"], [], []
        for p in parameters:
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros(())
                state["mean"], state["square"] = torch.zeros_like(p), torch.zeros_like(p)
            state["step"] += 1
            means.append(state["mean"])
            squares.append(state["square"])
        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        steps = [float(self.state[p]["step"]) for p in parameters]  # a frozen module may have woken up later
        roots = torch._foreach_div(squares, [1 - beta2**n for n in steps])
        torch._foreach_sqrt_(roots)
        torch._foreach_add_(roots, group["eps"])
        sizes = [-group["lr"] / (1 - beta1**n) for n in steps]
        torch._foreach_addcdiv_(parameters, means, roots, sizes)
