"""Binary convolution by bit operations in torch, with two fallbacks without numba that give the same bits."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from ..errors import ModelError
from ..networks.binary_paf import BinaryConv2d, sign

if TYPE_CHECKING:
    from .bits import BinaryLayer

_layers = WeakTensorKeyDictionary()


@torch.library.custom_op("lithepose::binary_conv2d", mutates_args=(), device_types="cpu")
def binary_conv2d(x: Tensor, bits: Tensor, scale: Tensor, channels: int) -> Tensor:
    """Convolve the signs of x with packed signs, using the kernels of :mod:`lithepose.binary.bits`.

    Args:
        x: (N, C, H, W) float32; contiguous input is not copied.
        bits: (OC, kernel, kernel, ceil(C / 32)) int32.
        scale: (OC,) floats.
        channels: C, which cannot be derived from the bits.

    Returns:
        (N, OC, H, W) float32, without a gradient.

    Raises:
        ModelError: x has another number of channels.
    """
    from .planes import pack_activations

    if x.shape[1] != channels:
        raise ModelError(f"map has {x.shape[1]} channels; the layer expects {channels}")
    layer, team = _layer(bits, scale, channels), _team(torch.get_num_threads())
    signs = pack_activations(x.numpy(), kernel=layer.kernel, team=team)
    return torch.from_numpy(layer(signs, team, tight=True))


@binary_conv2d.register_fake
def _(x: Tensor, bits: Tensor, scale: Tensor, channels: int) -> Tensor:
    return x.new_empty(x.shape[0], bits.shape[0], x.shape[2], x.shape[3])


def _layer(bits: Tensor, scale: Tensor, channels: int) -> BinaryLayer:
    """Convert to the kernels' form, once while neither tensor changes; writes through ``.data`` are not detected."""
    from .bits import BinaryLayer

    # Tensors of inference mode have no version counter.
    stamp = None
    if not (bits.is_inference() or scale.is_inference()):
        stamp = bits._version, bits.data_ptr(), scale._version, scale.data_ptr(), channels
        known: Any = _layers.get(bits)
        if known and known[0] == stamp and known[1] is scale:
            return known[2]
    words = bits.contiguous().numpy().view(np.uint32)
    layer = BinaryLayer(words.copy(), scale.float().numpy().copy(), channels)
    if stamp:
        _layers[bits] = stamp, scale, layer
    return layer


@lru_cache
def _team(threads: int):  # noqa: ANN202
    from .planes import Team

    return Team(threads)


def by_integers(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """As :func:`binary_conv2d`, by a matrix product of 8-bit integers, (OC, C, k, k) int8 of +-1."""
    size = weight.shape[2]
    signs = F.pad(sign(x).to(torch.int8).permute(0, 2, 3, 1), (0, 0, *[size // 2] * 4))
    windows = signs.unfold(1, size, 1).unfold(2, size, 1)  # (N, H, W, C, k, k)
    rows = windows.reshape(
        windows.shape[:3].numel(), weight[0].numel()
    ).contiguous()  # with one channel it may be a view that overlaps itself
    sums = torch._int_mm(rows, weight.flatten(1).t().contiguous())  # pyright: ignore[reportPrivateImportUsage]
    return (sums.float() * scale).view(*windows.shape[:3], len(weight)).permute(0, 3, 1, 2)


def by_floats(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """As :func:`binary_conv2d`, by a float convolution with (OC, C, k, k) int8 of +-1; exact, as sums are integers."""
    with torch.autocast(x.device.type, enabled=False):
        return F.conv2d(sign(x.float()), weight.float(), padding=weight.shape[2] // 2) * scale[:, None, None]


BACKENDS = "bits", "integers", "floats"


def default_backend(device: str = "cpu") -> str:
    """Return the fastest available backend; bits needs numba and a CPU."""
    if device != "cpu":
        return "floats"
    return "bits" if _numba_works() else "integers"


@lru_cache
def _numba_works() -> bool:
    try:
        from . import kernel  # noqa: F401
    except ImportError:  # missing, or incompatible with the installed numpy
        return False
    return True


class PackedConv2d(nn.Module):
    """A :class:`~lithepose.networks.binary_paf.BinaryConv2d` with one bit per weight, only for inference.

    Args:
        layer: layer to pack; it must not scale by its input.
        backend: one of :data:`BACKENDS`; defaults to the fastest. All give the same bits.

    Raises:
        ModelError: the backend does not exist, or the layer has input_scale.
    """

    bits: Tensor
    scale: Tensor

    def __init__(self, layer: BinaryConv2d, backend: str = "") -> None:
        super().__init__()
        if backend and backend not in BACKENDS:
            raise ModelError(f"unknown backend {backend!r}; choose one of {', '.join(BACKENDS)}")
        weight, scale = layer.fixed()
        self.channels, self.backend = weight.shape[1], backend
        self.register_buffer("bits", _pack(weight.cpu()).to(weight.device))
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) float -> (N, OC, H, W) float32."""
        backend = self.backend or default_backend(x.device.type)
        if backend == "bits":
            return binary_conv2d(x.float(), self.bits, self.scale, self.channels)
        weight = _unpack(self.bits, self.channels)
        return (by_integers if backend == "integers" else by_floats)(x.float(), weight, self.scale.float())


def _pack(latent: Tensor) -> Tensor:
    """Pack (OC, C, k, k) floats to (OC, k, k, ceil(C / 32)) int32 signs, as in :mod:`lithepose.binary.bits`."""
    positive = F.pad((latent >= 0).permute(0, 2, 3, 1), (0, -latent.shape[1] % 32))
    place = torch.arange(32, dtype=torch.int64)
    words = (positive.unflatten(3, (-1, 32)).to(torch.int64) << place).sum(4)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32).contiguous()


def _unpack(bits: Tensor, channels: int) -> Tensor:
    """Unpack to (OC, C, k, k) int8 of +-1."""
    place = torch.arange(32, dtype=torch.int32, device=bits.device)
    ones = (bits[..., None] >> place & 1).flatten(3)[..., :channels]
    return (2 * ones - 1).to(torch.int8).permute(0, 3, 1, 2)


def pack_layers(net: nn.Module, backend: str = "") -> nn.Module:
    """Copy a network with packed binary layers, for inference only."""
    net = copy.deepcopy(net).eval()
    made: dict[nn.Module, nn.Module] = {
        m: PackedConv2d(m, backend) for m in net.modules() if isinstance(m, BinaryConv2d)
    }
    for module in list(net.modules()):
        for name, child in module._modules.items():  # named_children skips duplicates
            if child in made:
                module._modules[name] = made[child]
    return made.get(net, net)
