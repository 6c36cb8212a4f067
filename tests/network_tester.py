"""What every network must do; a network's own test file names it and says what is special."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from live import enliven
from safetensors.torch import load_file, save_file

from lithepose.exporters.onnx import export_onnx
from lithepose.networks import Network, build
from lithepose.runtime.onnx import OnnxRuntime
from lithepose.runtime.torch import describe, exported


class NetworkTester:
    """Inherit, and set ``name``.

    ``options`` keep the network small, ``sizes`` are (batch, height, width), ``stages`` is the number that answer.
    """

    name: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    sizes: ClassVar[list[tuple[int, int, int]]] = [(1, 64, 64), (2, 64, 128)]
    stages: ClassVar[int] = 1
    alive: ClassVar[tuple[int, int]] = (128, 128)  # size of the images that layers are scaled by

    def make(self) -> Network:
        """A network of the class's options that is the test's own."""
        return copy.deepcopy(_made(type(self)))

    def fresh(self, seed: int) -> Network:
        torch.manual_seed(seed)
        net = build(self.name, **self.options)
        enliven(net, torch.rand(4, 3, *self.alive, generator=torch.Generator().manual_seed(2)) * 2 - 1)
        return net

    def image(self, size: int = 0) -> torch.Tensor:
        n, h, w = self.sizes[size]
        return torch.randn(n, 3, h, w, generator=torch.Generator().manual_seed(1))

    def outputs(self, net: Network, x: torch.Tensor) -> list[torch.Tensor]:
        """All outputs, stage by stage."""
        with torch.no_grad():
            return [maps for stage in net.eval()(x) for maps in stage]

    def loss(self, net: Network) -> torch.Tensor:
        """Something that depends on every output."""
        stages = net.train()(self.image(-1))
        return sum((maps - 0.5).square().mean() for stage in stages for maps in stage)

    def shapes(self, net: Network, n: int, h: int, w: int) -> list[tuple[int, ...]]:
        """Of one stage."""
        stride = net.head.stride
        return [(n, c, h // stride, w // stride) for c in net.head.channels if c]

    def test_shapes(self):
        net = self.make()
        for i, size in enumerate(self.sizes):
            outputs = self.outputs(net, self.image(i))
            assert all(t.std() > 0.1 for t in outputs)  # what the other tests compare is not nothing
            expected = self.shapes(net, *size)
            assert [tuple(t.shape) for t in outputs] == expected * self.stages
            assert all(t.isfinite().all() for t in outputs)

    def test_a_size_that_does_not_fit_is_refused_with_the_next_that_does(self):
        net = self.make()
        _, h, w = self.sizes[0]
        with pytest.raises(ValueError, match=f"{h}x{w}"):
            net(torch.zeros(1, 3, h - net.multiple + 1, w - 1))

    def test_gradient_reaches_every_parameter(self):
        net = self.make()
        self.loss(net).backward()
        trained = {n: p for n, p in net.named_parameters() if p.requires_grad}
        assert [n for n, p in trained.items() if p.grad is None or not p.grad.any()] == []

    def test_weights_go_through_a_file(self, tmp_path):
        net, other = self.make(), self.fresh(1)
        save_file({k: v.contiguous() for k, v in net.state_dict().items()}, tmp_path / "w.safetensors")
        before = self.outputs(other, self.image())
        other.load_state_dict(load_file(tmp_path / "w.safetensors"))
        expected, after = self.outputs(net, self.image()), self.outputs(other, self.image())
        assert all(torch.equal(a, b) for a, b in zip(expected, after, strict=True))
        assert not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(before, after, strict=True))

    def test_the_same_seed_gives_the_same_network(self):
        one, two = (self.outputs(self.fresh(3), self.image()) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))

    def test_channels_last_changes_nothing(self):
        net = self.make()
        expected = self.outputs(net, self.image())
        net = net.to(memory_format=torch.channels_last)
        x = self.image().contiguous(memory_format=torch.channels_last)
        for a, b in zip(expected, self.outputs(net, x), strict=True):
            assert torch.allclose(a, b, atol=1e-3, rtol=1e-3)

    @pytest.mark.filterwarnings("ignore")  # of the exporters, about themselves
    def test_export_agrees_with_torch(self, tmp_path):
        net = self.make().eval()
        side = max(self.sizes[0][1:])
        info = describe(self.name, net, side)
        assert export_onnx(net, info, tmp_path / "w.onnx", half=False) < self.tolerance
        runtime = OnnxRuntime(tmp_path / "w.onnx", 1)
        assert runtime.info == info
        names = {output.name for output in runtime.session.get_outputs()}
        assert names == set(exported(net).names)
        images = np.random.default_rng(0).integers(0, 255, (3, *self.sizes[0][1:], 3), np.uint8)
        assert len(runtime(images)) == 3

    tolerance: ClassVar[float] = 2e-3  # of outputs that deviate by 1


@lru_cache(maxsize=1)
def _made(tester: type[NetworkTester]) -> Network:
    """Made once for all tests of a class, which come one after the other: scaling the layers takes seconds."""
    return tester().fresh(0)
