"""Muon: orthogonal updates of matrices, AdamW for all else."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from lithepose.training.optim import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(3, 8, 40), (2, 40, 8), (1, 16, 16)])
def test_singular_values_come_near_to_one(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(x))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_the_sign_of_the_gradient_is_kept():
    x = torch.randn(1, 8, 30, generator=torch.Generator().manual_seed(1))
    assert (orthogonalize(x) * x).sum() > 0
    assert torch.allclose(orthogonalize(-x), -orthogonalize(x), atol=1e-2)


def test_groups_without_muon_step_as_adamw():
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(4, 3)), torch.nn.Parameter(torch.randn(5))]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    one = Muon([{"params": ours, "weight_decay": 0.1}], lr=0.01)
    two = torch.optim.AdamW(theirs, lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    for _ in range(5):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        one.step()
        two.step()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_convolution_learns_a_known_kernel():
    torch.manual_seed(0)
    target, net = (torch.nn.Conv2d(3, 8, 3, padding=1, bias=False) for _ in range(2))
    optimizer = Muon([{"params": list(net.parameters()), "muon": True}], lr=0.05)
    x = torch.randn(8, 3, 12, 12)
    losses = []
    for step in range(60):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - step / 60)
        loss = (net(x) - target(x)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.02 * losses[0]


def test_state_goes_through_a_checkpoint():
    def make():
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
        kernels, others = [net[0].weight], [p for n, p in net.named_parameters() if n != "0.weight"]
        return net, Muon([{"params": kernels, "muon": True}, {"params": others}], lr=0.01)

    def run(net, optimizer, steps):
        for step in steps:
            net(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(step))).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    whole, optimizer = make()
    run(whole, optimizer, range(6))
    first, before = make()
    run(first, before, range(3))
    second, after = make()
    second.load_state_dict(first.state_dict())
    after.load_state_dict(before.state_dict())
    run(second, after, range(3, 6))
    assert torch.allclose(whole[0].weight, second[0].weight, atol=1e-6)
