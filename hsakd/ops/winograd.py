"""3x3 convolutions in float32 on a CPU, with a quarter of the multiplications (winograd.cpp).

They differ from the direct ones by rounding: about 2e-6 of the size of the result, where direct
ones in float32 differ from float64 by 5e-7.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from hsakd.utils.errors import ConfigError

_SOURCE = Path(__file__).with_name('winograd.cpp')
_FLAGS = ('-O3', '-march=native', '-std=c++17', '-fopenmp', '-fPIC', '-shared')
_PANEL = 16  # channels come in so many, see winograd.cpp


def takes_winograd(conv: nn.Module) -> bool:
    """Whether a layer is a convolution of the kind that there is an operator for."""
    return (
        type(conv) is nn.Conv2d
        and conv.kernel_size == (3, 3)
        and conv.stride == conv.padding == conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.padding_mode == 'zeros'
        and conv.in_channels % _PANEL == conv.out_channels % _PANEL == 0
        and conv.weight.dtype == torch.float32
        and conv.weight.device.type == 'cpu'
    )


class WinogradConv2d(nn.Conv2d):
    """A ``Conv2d`` that learns; set as the class of a layer that :func:`takes_winograd`."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] to [N, C_out, H, W]."""
        out = _convolve(x, self.weight)
        return out if self.bias is None else out + self.bias[:, None, None]


class FixedWinogradConv2d(nn.Module):
    """A ``Conv2d`` whose weights never change, so that they are transformed once.

    Args:
        conv: A layer that :func:`takes_winograd`.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.register_buffer('weights', _transformed(conv.weight.detach()))
        self.register_buffer('bias', None if conv.bias is None else conv.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] to [N, C_out, H, W]; no gradient flows."""
        return torch.ops.hsakd.winograd_fixed(x, self.weights, self.bias, None, False)


@torch.library.custom_op('hsakd::winograd', mutates_args=())
def _convolve(x: Tensor, weight: Tensor) -> Tensor:
    """Convolution of maps [N, C_in, H, W] with weights [C_out, C_in, 3, 3], differentiable."""
    return _forward(x, _transformed(weight))


@torch.library.custom_op('hsakd::winograd_gradient', mutates_args=())
def _input_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    """Gradient of the maps, which is a convolution with turned weights."""
    return _forward(gradient, _transformed(weight.flip(2, 3).transpose(0, 1)))


@torch.library.custom_op('hsakd::winograd_weight_gradient', mutates_args=())
def _weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """Gradient of the weights, [C_out, C_in, 3, 3]."""
    x, gradient = _nhwc(x), _nhwc(gradient)
    n, inputs, h, w = x.shape
    outputs = gradient.shape[1]
    result = _maps(x, outputs, inputs, 3, 3)
    threads = torch.get_num_threads()
    sums = x.new_empty(threads, 36, inputs, outputs)
    _library().hsakd_winograd_weight_gradient(
        _at(x), _at(gradient), _at(result), *map(_int, (n, h, w, inputs, outputs)),
        *map(_int, result.stride()), _at(sums), threads,
    )  # fmt: skip
    return result


@torch.library.custom_op('hsakd::winograd_fixed', mutates_args=())
def _convolve_fixed(
    x: Tensor, weights: Tensor, bias: Tensor | None, residual: Tensor | None, relu: bool
) -> Tensor:
    """act(convolution + bias + residual), with transformed weights; no gradient flows.

    Args:
        x: [N, C_in, H, W].
        weights: Of :func:`_transformed`.
        bias: [C_out].
        residual: As the result.
        relu: Whether act is ReLU.
    """
    return _forward(x, weights, bias, residual, relu)


@_convolve.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return _maps(x, x.shape[0], weight.shape[0], *x.shape[2:])


@_input_gradient.register_fake
def _(gradient: Tensor, weight: Tensor) -> Tensor:
    return _maps(gradient, gradient.shape[0], weight.shape[1], *gradient.shape[2:])


@_weight_gradient.register_fake
def _(x: Tensor, gradient: Tensor) -> Tensor:
    return _maps(x, gradient.shape[1], x.shape[1], 3, 3)


@_convolve_fixed.register_fake
def _(
    x: Tensor, weights: Tensor, bias: Tensor | None, residual: Tensor | None, relu: bool
) -> Tensor:
    return _maps(x, x.shape[0], weights.shape[1] * _PANEL, *x.shape[2:])


def _setup_context(ctx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
    x, weight = ctx.saved_tensors
    return (
        _input_gradient(gradient, weight) if ctx.needs_input_grad[0] else None,
        _weight_gradient(x, gradient) if ctx.needs_input_grad[1] else None,
    )


_convolve.register_autograd(_backward, setup_context=_setup_context)


def _transformed(weight: Tensor) -> Tensor:
    """Weights [C_out, C_in, 3, 3] as the operators take them: [36, C_out / 16, C_in, 16]."""
    outputs, inputs = weight.shape[:2]
    result = weight.new_empty(36, outputs // _PANEL, inputs, _PANEL)
    _library().hsakd_winograd_weights(
        _at(weight), *map(_int, (outputs, inputs, *weight.stride())), _at(result)
    )
    return result


def _forward(
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    x = _nhwc(x)
    n, inputs, h, w = x.shape
    outputs = weights.shape[1] * _PANEL
    result = _maps(x, n, outputs, h, w)
    residual = None if residual is None else _nhwc(residual)
    _library().hsakd_winograd_forward(
        _at(x), _at(weights), _at(bias), _at(residual), relu, _at(result),
        *map(_int, (n, h, w, inputs, outputs)),
    )  # fmt: skip
    return result


def _maps(like: Tensor, n: int, channels: int, h: int, w: int) -> Tensor:
    return torch.empty_strided(
        (n, channels, h, w), (channels * h * w, 1, channels * w, channels), dtype=like.dtype,
        device=like.device,
    )  # fmt: skip


def _nhwc(maps: Tensor) -> Tensor:
    """In that order in memory. ``contiguous`` takes strides of dimensions of size 1 as they are."""
    return maps.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def _at(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


_int = ctypes.c_int64


@functools.cache
def _library() -> ctypes.CDLL:
    """The compiled operators; compiling takes a second, once on a machine.

    Raises:
        ConfigError: They cannot be compiled.
    """
    compiler = os.environ.get('CXX', 'g++')
    needed = 'fast=True on a CPU without bfloat16 needs a C++ compiler with OpenMP, as g++'
    if shutil.which(compiler) is None:
        raise ConfigError(f'{needed}: {compiler!r} (CXX) is not found; accepted is fast=False')
    version = subprocess.run([compiler, '--version'], capture_output=True).stdout
    key = repr((_SOURCE.read_bytes(), compiler, version, _FLAGS, platform.machine(), _processor()))
    name = f'winograd-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so'
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'hsakd'
    cache.mkdir(parents=True, exist_ok=True)
    if not (cache / name).exists():
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            command = [compiler, *_FLAGS, str(_SOURCE), '-o', str(Path(folder) / name)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                error = (done.stderr.strip().splitlines() or ['no message'])[0]
                raise ConfigError(f'{needed}: {compiler!r} ended with {error!r}')
            os.replace(Path(folder) / name, cache / name)  # other processes see it whole
    return ctypes.CDLL(str(cache / name))


def _processor() -> dict:
    """What -march=native depends on; home folders are shared between machines."""
    return dict(torch.cpu.get_capabilities())
