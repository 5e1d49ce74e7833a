"""3x3 convolutions in float32 on a CPU, with fewer multiplications (winograd.cpp).

A quarter of the direct ones' at stride 1, 9/16 at stride 2.

They differ from the direct ones by rounding: about 2e-6 of the size of the result, where direct
ones in float32 differ from float64 by 5e-7.
"""

import ctypes
import functools
import hashlib
import os
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
_NHWC = torch.channels_last
_PLACES = {1: 36, 2: 81}  # of transformed weights, by stride


def supports_winograd(conv: nn.Module) -> bool:
    """Whether a layer is a convolution of the kind that there is an operator for."""
    return (
        type(conv) is nn.Conv2d
        and conv.kernel_size == (3, 3)
        and conv.stride in ((1, 1), (2, 2))
        and conv.padding == conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.padding_mode == 'zeros'
        and conv.in_channels % _PANEL == conv.out_channels % _PANEL == 0
        and conv.weight.dtype == torch.float32
        and conv.weight.device.type == 'cpu'
    )


class WinogradConv2d(nn.Conv2d):
    """A ``Conv2d`` that learns, to be set as the class of a layer (:func:`supports_winograd`)."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] to [N, C_out, H / s, W / s], rounded up, at a stride of s.

        In other types than float32 as torch does.
        """
        if not x.dtype == self.weight.dtype == torch.float32:
            return super().forward(x)
        out = torch.ops.hsakd.winograd(x, self.weight, self.stride[0])
        return out if self.bias is None else out + self.bias[:, None, None]


class FrozenWinogradConv2d(nn.Module):
    """A ``Conv2d`` whose weights never change, so that they are transformed once.

    Args:
        conv: A layer that fulfills :func:`supports_winograd`.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.stride = conv.stride[0]
        self.register_buffer('weights', _transformed(conv.weight.detach(), self.stride))
        self.register_buffer('bias', None if conv.bias is None else conv.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] to [N, C_out, H / s, W / s]; no gradient flows."""
        return torch.ops.hsakd.winograd_frozen(x, self.weights, self.bias, self.stride, None, False)


def _convolve(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Convolution of maps [N, C_in, H, W] with weights [C_out, C_in, 3, 3], differentiable."""
    return _convolve_frozen(x, _transformed(weight, stride), None, stride, None, False)


def _input_gradient(gradient: Tensor, weight: Tensor, stride: int, h: int, w: int) -> Tensor:
    """Gradient of the maps, [N, C_in, h, w], which is a convolution with turned weights."""
    gradient = gradient.contiguous(memory_format=_NHWC)
    n, (outputs, inputs) = gradient.shape[0], weight.shape[:2]
    _check(outputs, inputs, stride, gradient, weight)
    _check_shape(gradient, _outputs_shape(n, outputs, h, w, stride))
    weights = _transformed(weight, stride, back=True)
    result = _maps(gradient, n, inputs, h, w)
    library().hsakd_winograd_input_gradient(
        gradient.data_ptr(), weights.data_ptr(), result.data_ptr(), stride, n, h, w, inputs, outputs
    )
    return result


def _weight_gradient(x: Tensor, gradient: Tensor, stride: int) -> Tensor:
    """Gradient of the weights, [C_out, C_in, 3, 3]."""
    x, gradient = x.contiguous(memory_format=_NHWC), gradient.contiguous(memory_format=_NHWC)
    n, inputs, h, w = x.shape
    outputs = gradient.shape[1]
    _check(outputs, inputs, stride, x, gradient)
    _check_shape(gradient, _outputs_shape(n, outputs, h, w, stride))
    result = _maps(x, outputs, inputs, 3, 3)
    threads = torch.get_num_threads()
    sums = x.new_empty(threads, _PLACES[stride], inputs, outputs)
    library().hsakd_winograd_weight_gradient(
        x.data_ptr(), gradient.data_ptr(), result.data_ptr(), stride, n, h, w, inputs, outputs,
        *result.stride(), sums.data_ptr(), threads,
    )  # fmt: skip
    return result


def _convolve_frozen(
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None,
    stride: int,
    residual: Tensor | None,
    relu: bool,
) -> Tensor:
    """act(convolution + bias + residual), with transformed weights; no gradient flows.

    Args:
        x: [N, C_in, H, W].
        weights: Of :func:`_transformed`.
        bias: [C_out].
        stride: 1 or 2.
        residual: As the result.
        relu: Whether act is ReLU.
    """
    x, weights = x.contiguous(memory_format=_NHWC), weights.contiguous()
    n, inputs, h, w = x.shape
    outputs = weights.shape[1] * _PANEL
    others = (tensor for tensor in (bias, residual) if tensor is not None)
    _check(outputs, inputs, stride, x, weights, *others)
    _check_shape(weights, (_PLACES[stride], outputs // _PANEL, inputs, _PANEL))
    result = _outputs(x, outputs, stride)
    if bias is not None:
        _check_shape(bias, (outputs,))
        bias = bias.contiguous()
    if residual is not None:
        _check_shape(residual, result.shape)
        residual = residual.contiguous(memory_format=_NHWC)
    library().hsakd_winograd_forward(
        x.data_ptr(),
        weights.data_ptr(),
        None if bias is None else bias.data_ptr(),
        None if residual is None else residual.data_ptr(),
        *(relu, result.data_ptr(), stride, n, h, w, inputs, outputs),
    )
    return result


def _transformed(weight: Tensor, stride: int, back: bool = False) -> Tensor:
    """Weights [C_out, C_in, 3, 3] as the operators take them: [36 or 81, C_out / 16, C_in, 16].

    Args:
        weight: In any order in memory.
        stride: 1 or 2.
        back: Take those of the convolution back, whose inputs are the outputs, upside down.
    """
    outputs, inputs = weight.shape[:2]
    so, si, sy, sx = weight.stride()
    start = weight.data_ptr()
    if back:
        start += 2 * (sy + sx) * weight.element_size()
        outputs, inputs, so, si, sy, sx = inputs, outputs, si, so, -sy, -sx
    _check(outputs, inputs, stride, weight)
    result = weight.new_empty(_PLACES[stride], outputs // _PANEL, inputs, _PANEL)
    library().hsakd_winograd_weights(
        start, stride, back, outputs, inputs, so, si, sy, sx, result.data_ptr()
    )
    return result


def _check(outputs: int, inputs: int, stride: int, *tensors: Tensor) -> None:
    types = {str(tensor.dtype) for tensor in tensors}
    if outputs % _PANEL or inputs % _PANEL or stride not in _PLACES or types != {'torch.float32'}:
        raise ValueError(
            f'Winograd convolution: expected multiples of {_PANEL} channels, a stride of 1 or 2, '
            f'float32, got {inputs} to {outputs} channels, {stride!r} and {sorted(types)}'
        )


def _check_shape(tensor: Tensor, wanted: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != tuple(wanted):
        raise ValueError(
            f'Winograd convolution: expected a tensor of {tuple(wanted)}, got {tuple(tensor.shape)}'
        )


def _maps(like: Tensor, n: int, channels: int, h: int, w: int) -> Tensor:
    strides = channels * h * w, 1, channels * w, channels
    return torch.empty_strided((n, channels, h, w), strides, dtype=like.dtype, device=like.device)


def _outputs(x: Tensor, channels: int, stride: int) -> Tensor:
    n, _, h, w = x.shape
    return _maps(x, *_outputs_shape(n, channels, h, w, stride))


def _outputs_shape(n: int, channels: int, h: int, w: int, stride: int) -> tuple[int, ...]:
    return n, channels, (h + stride - 1) // stride, (w + stride - 1) // stride


def _setup_context(ctx, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
    x, weight, ctx.stride = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    x, weight = ctx.saved_tensors
    ops, needed = torch.ops.hsakd, ctx.needs_input_grad
    return (
        ops.winograd_gradient(gradient, weight, ctx.stride, *x.shape[2:]) if needed[0] else None,
        ops.winograd_weight_gradient(x, gradient, ctx.stride) if needed[1] else None,
        None,
    )


# Not by torch.library.custom_op, whose checks in every call take longer than small maps do.
_namespace = torch.library.Library('hsakd', 'DEF')
for _schema, _function, _fake in (
    (
        'winograd(Tensor x, Tensor weight, int stride) -> Tensor',
        _convolve,
        lambda x, weight, stride: _outputs(x, weight.shape[0], stride),
    ),
    (
        'winograd_gradient(Tensor gradient, Tensor weight, int stride, SymInt h, SymInt w)'
        ' -> Tensor',
        _input_gradient,
        lambda gradient, weight, stride, h, w: _maps(
            gradient, gradient.shape[0], weight.shape[1], h, w
        ),
    ),
    (
        'winograd_weight_gradient(Tensor x, Tensor gradient, int stride) -> Tensor',
        _weight_gradient,
        lambda x, gradient, stride: _maps(x, gradient.shape[1], x.shape[1], 3, 3),
    ),
    (
        'winograd_frozen(Tensor x, Tensor weights, Tensor? bias, int stride, Tensor? residual,'
        ' bool relu) -> Tensor',
        _convolve_frozen,
        lambda x, weights, bias, stride, residual, relu: _outputs(
            x, weights.shape[1] * _PANEL, stride
        ),
    ),
):
    _name = _schema.split('(')[0]
    _namespace.define(_schema, tags=torch.Tag.needs_fixed_stride_order)
    _namespace.impl(_name, _function, 'CPU')
    torch.library.register_fake(f'hsakd::{_name}', _fake, lib=_namespace)
torch.library.register_autograd(
    'hsakd::winograd', _backward, setup_context=_setup_context, lib=_namespace
)


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled operators; compiling takes a second, once on a machine.

    Raises:
        ConfigError: They cannot be compiled.
    """
    compiler = os.environ.get('CXX', 'g++')
    where = 'fast=True (--fast) on a CPU without bfloat16'
    needed = 'a C++ compiler with OpenMP, by CXX or as g++'
    ConfigError.check(shutil.which(compiler), where, needed, f'{compiler!r}, which is not found')
    # What it would run, with its version and what -march=native is here: home folders are shared.
    asked = [compiler, *_FLAGS, '-E', '-###', '-x', 'c++', '-']
    told = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True).stderr
    key = hashlib.sha256(_SOURCE.read_bytes() + repr(asked).encode() + told).hexdigest()[:16]
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'hsakd'
    path = cache / f'winograd-{key}.so'
    try:
        cache.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=cache) as folder:
                made = Path(folder) / path.name
                command = [compiler, *_FLAGS, str(_SOURCE), '-o', str(made)]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    lines = done.stderr.strip().splitlines() or ['no message']
                    error = next((line for line in lines if 'error' in line), lines[0])
                    raise ConfigError.expected(where, needed, f'{compiler!r} with {error!r}')
                os.replace(made, path)  # other processes see it whole
    except OSError as error:
        raise ConfigError.expected(
            where, 'a folder for compiled operators, by XDG_CACHE_HOME', error
        ) from error
    library = ctypes.CDLL(str(path))
    address, count, flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    for name, arguments in dict(
        weights=[address, flag, flag, *6 * [count], address],
        forward=[*4 * [address], flag, address, flag, *5 * [count]],
        input_gradient=[*3 * [address], flag, *5 * [count]],
        weight_gradient=[*3 * [address], flag, *9 * [count], address, flag],
    ).items():
        function = getattr(library, f'hsakd_winograd_{name}')
        function.argtypes, function.restype = arguments, None
    return library
