"""Optimizers, learning rate schedules and averaged weights."""

# torch exports its multi-tensor operations only under private names.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..networks.binary_paf import BinaryConv2d
from .config import FreezeConfig, OptimizerConfig, ScheduleConfig

REFINES = re.compile(r"stages\.[1-9]|refinements\.|refine\.")  # layers after the first stage of any network


class Schedule:
    """Learning rate of every optimizer step: linear warm-up, then the schedule named in the config.

    Args:
        config: schedule.
        lr: highest learning rate.
        steps: number of steps of the run.
        freeze: its ``lr``, if set, applies to the steps with a frozen backbone.

    Attributes:
        state: state of a plateau schedule, for the checkpoint: current factor, best loss, validations since then.
    """

    def __init__(self, config: ScheduleConfig, lr: float, steps: int, freeze: FreezeConfig | None = None) -> None:
        self.config, self.lr, self.steps, self.freeze = config, lr, steps, freeze or FreezeConfig()
        self.state: dict[str, float] = {"scale": 1.0, "best": math.inf, "waited": 0}

    def see(self, loss: float) -> None:
        """Record a validation loss; a plateau schedule lowers the learning rate when the loss no longer decreases."""
        state = self.state
        if loss < state["best"] * (1 - self.config.min_gain):
            state["best"], state["waited"] = loss, 0
            return
        state["waited"] += 1
        if state["waited"] > self.config.patience:
            state["scale"], state["waited"] = state["scale"] * self.config.factor, 0

    def at(self, step: int) -> float:
        """Return the learning rate of a step."""
        config = self.config
        if step < self.freeze.backbone_steps and self.freeze.lr:
            return self.freeze.lr
        if step < config.warmup:
            return self.lr * (step + 1) / config.warmup
        if config.name == "steps":
            return self.lr * config.factor ** sum(step >= m for m in config.milestones)
        if config.name == "plateau":
            return self.lr * self.state["scale"]
        if config.name == "constant":
            return self.lr
        done = (step - config.warmup) / max(1, self.steps - config.warmup)
        left = 1 - done if config.name == "linear" else (1 + math.cos(math.pi * done)) / 2
        return self.lr * (config.final_factor + (1 - config.final_factor) * left)


def make_optimizer(net: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Build the optimizer. Every parameter is in one group, by learning rate factor and weight decay.

    Weight decay applies to convolutions and linear layers. It does not apply to biases, BatchNorm and latent weights of
    binary layers, where it would only push weights towards a change of sign.
    """
    binary = {id(m.weight) for m in net.modules() if isinstance(m, BinaryConv2d)}
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        factor = config.backbone_factor if name.startswith(("backbone.", "detector.backbone.body.")) else 1.0
        factor *= config.refine_factor if REFINES.match(name) else 1.0
        factor *= config.bias_factor if name.endswith("bias") and parameter.ndim == 1 else 1.0
        decays = parameter.ndim > 1 and id(parameter) not in binary
        # A depthwise kernel does not mix channels, so it is not a matrix.
        muon = config.name == "muon" and parameter.ndim == 4 and parameter.shape[1] > 1
        groups.setdefault((factor, decays, muon), []).append(parameter)
    tables: list[dict[str, Any]] = [
        {"params": p, "scale": factor, "weight_decay": config.weight_decay * decays} | ({"muon": True} if muon else {})
        for (factor, decays, muon), p in sorted(groups.items(), key=lambda item: item[0])
    ]
    if config.name == "muon":
        return Muon(tables, lr=config.lr)
    # On a GPU, use few kernels for all parameters: launching one per parameter takes longer than the step.
    together = next(net.parameters()).is_cuda
    if config.name == "sgd":  # the fused form does not support layers that are unfrozen later
        return torch.optim.SGD(tables, lr=config.lr, momentum=config.momentum, foreach=together, fused=False)
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(tables, lr=config.lr, fused=together)


class Average:
    """Exponential moving average of parameters and BatchNorm statistics; these are the final weights."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone().float() for k, v in net.state_dict().items() if v.is_floating_point()}

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))  # a smaller decay at first
        state = net.state_dict()
        now = [state[name].float() for name in self.state]
        torch._foreach_lerp_(list(self.state.values()), now, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    def copy_to(self, net: nn.Module) -> None:
        """Load the averaged weights into a network of the same architecture."""
        net.load_state_dict(self.state, strict=False)


# Coefficients of the quintic Newton-Schulz iteration (Jordan et al. 2024); singular values end in 0.7 to 1.2.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Bring the singular values of a stack of matrices (B, M, N) close to 1.

    Returns:
        (B, M, N) float32. The computation uses bfloat16; its error is far smaller than that of five iterations.
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

    A convolution kernel is treated as a matrix (output channels, inputs x kernel). Its update has the root mean square
    of a typical AdamW update: 0.2 sqrt(max(M, N)) times an orthogonal matrix (Liu et al. 2025). So one learning rate
    fits both.

    Args:
        groups: parameter groups, each with ``params`` and any of the defaults below.
        lr: learning rate.
        momentum: Nesterov momentum of Muon.
        betas: betas of AdamW.
        eps: eps of AdamW.
        weight_decay: decoupled weight decay.
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
        steps = [float(self.state[p]["step"]) for p in parameters]  # a frozen module may have been unfrozen later
        roots = torch._foreach_div(squares, [1 - beta2**n for n in steps])
        torch._foreach_sqrt_(roots)
        torch._foreach_add_(roots, group["eps"])
        sizes = [-group["lr"] / (1 - beta1**n) for n in steps]
        torch._foreach_addcdiv_(parameters, means, roots, sizes)
