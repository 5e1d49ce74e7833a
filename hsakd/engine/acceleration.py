"""Training made fast: exact by default, and faster at less precision where that is asked for."""

import copy
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from hsakd.models import BranchedClassifier
from hsakd.ops import (
    FixedWinogradConv2d,
    FuseEpilogues,
    RecomputeMasks,
    StridedPointwiseConv2d,
    WinogradConv2d,
    takes_product,
    takes_winograd,
    winograd,
)

Logits = Callable[[Tensor], tuple[Tensor, tuple[Tensor, ...]]]

#: Largest relative difference between a network and its copy with batch norms folded.
FOLDING_TOLERANCE = 1e-4

#: Networks times shapes of batches that are compiled in a process; beyond them torch runs eager.
_GRAPHS = 64


def accelerate(model: nn.Module, fast: bool = False) -> None:
    """Set up a distiller, teacher or plain network for training, where it is and as it is.

    To be called when its weights are loaded. Keys and values of its state dict do not change.

    By default what is computed stays the same up to rounding: on a CPU, maps are in
    ``channels_last``; a fixed teacher runs in inference mode with its batch norms folded.

    Args:
        model: Distiller or network; what has neither ``networks``, ``student`` nor ``logits`` is
            left as it is, as detectors are.
        fast: Also run networks under training by ``torch.compile``, in bfloat16 where the hardware
            has it, on CPUs without it with Winograd convolutions. Losses and weights stay float32;
            validation is not compiled, and in float32.

    Raises:
        ConfigError: ``fast`` on a CPU without a C++ compiler.
    """
    networks = _networks(model)
    if not networks:
        return
    device = next(model.parameters()).device
    use_channels_last(model, device, fast)
    if fast:
        if _by_winograd(device):
            winograd.library()  # which says so where there is no compiler
        for network in networks:
            if _by_winograd(device):
                for layer in network.modules():
                    if takes_winograd(layer):
                        layer.__class__ = WinogradConv2d
                    elif takes_product(layer):
                        layer.__class__ = StridedPointwiseConv2d
            network.logits = _TrainedNetwork(network)
    if hasattr(model, 'teacher'):
        model.teacher_logits = FixedNetwork(model.teacher, fast)


def use_channels_last(model: nn.Module, device: torch.device, fast: bool = False) -> None:
    """Put weights, and so maps, into that order in memory where it wins; see :func:`accelerate`.

    Args:
        model: As that of :func:`accelerate`.
        device: Where it will be trained.
        fast: As that of :func:`accelerate`.
    """
    if not _networks(model):
        return
    on_cpu = device.type == 'cpu'
    if (on_cpu or fast) and not (on_cpu and any(map(_breaks, model.modules()))):
        model.to(memory_format=torch.channels_last)


def _breaks(module: nn.Module) -> bool:
    """Whether torch 2.11's backward pass of it in ``channels_last`` spoils memory, on AVX2."""
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and module.stride != (1, 1)
        and module.in_channels < 8
    )


def _networks(model: nn.Module) -> list[BranchedClassifier]:
    """Those under training."""
    if hasattr(model, 'networks'):
        return list(model.networks)
    network = getattr(model, 'student', model)
    return [network] if isinstance(network, BranchedClassifier) else []


class FixedNetwork:
    """Logits of a network that does not learn any more, in inference mode.

    With the first batch it makes a copy of the network, whose batch norms it folds into the
    convolutions before them.

    Args:
        network: With its weights.
        fast: As that of :func:`accelerate`.

    Attributes:
        prepared: The copy, once there is one.
    """

    def __init__(self, network: BranchedClassifier, fast: bool = False) -> None:
        self.network = network
        self.fast = fast
        self.prepared: BranchedClassifier | None = None
        self._logits: Logits | None = None

    def __call__(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As the network's ``logits``, without a gradient."""
        with torch.no_grad():
            if self._logits is None:
                self._prepare(images)
            return self._logits(images)

    def _prepare(self, images: Tensor) -> None:
        self.prepared = network = fold_batch_norms(self.network, images[:2])
        if self.fast and _by_winograd(images.device):
            layers = [layer for layer in network.modules() if takes_winograd(layer)]
            _replace(network, {layer: FixedWinogradConv2d(layer) for layer in layers})
            for layer in network.modules():
                if takes_product(layer):
                    layer.__class__ = StridedPointwiseConv2d
        self._logits = _compiled(network) if self.fast else network.logits


class _TrainedNetwork:
    """Logits of a network under training: compiled then, and not where it is validated."""

    def __init__(self, network: BranchedClassifier) -> None:
        self._network = network
        self._compiled: Logits | None = None

    def __call__(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As the network's ``logits``."""
        if not self._network.training:
            return _eager(self._network)(images)
        if self._compiled is None:
            self._compiled = _compiled(self._network)
        return self._compiled(images)

    def __deepcopy__(self, memo: dict) -> '_TrainedNetwork':
        return _TrainedNetwork(copy.deepcopy(self._network, memo))  # not what is compiled of it


def _eager(network: BranchedClassifier) -> Logits:
    """Its logits, whatever stands in their place."""
    return MethodType(type(network).logits, network)


def _compiled(network: BranchedClassifier) -> Logits:
    """What gives a network's logits in float32, compiled for each shape of images.

    There are two in a training, since the last batch of an epoch may be smaller.
    """
    network.keep_stages()
    device = next(network.parameters()).device
    bfloat16 = has_bfloat16(device)
    if device.type == 'cuda':
        options = {'triton.cudagraphs': True}
    else:
        options = dict(
            joint_custom_post_pass=RecomputeMasks(), post_grad_custom_pre_pass=FuseEpilogues()
        )
        # That there is a CUDA compiler and no GPU, which nothing here needs.
        logging.getLogger('torch.utils.cpp_extension').setLevel(logging.ERROR)
    # All networks have their code in common, which counts as one that is compiled again and again.
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, _GRAPHS)
    run = torch.compile(_eager(network), dynamic=False, options=options)

    def logits(images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            f, c = run(images)
        # Copies, since the next call of a CUDA graph writes to the same memory.
        return f.to(torch.float32, copy=True), tuple(x.to(torch.float32, copy=True) for x in c)

    return logits


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 faster than float32."""
    if device.type == 'cpu':
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get('avx512_bf16') or capabilities.get('amx_bf16'))
    return device.type == 'cuda' and torch.cuda.is_bf16_supported(including_emulation=False)


def _by_winograd(device: torch.device) -> bool:
    return device.type == 'cpu' and not has_bfloat16(device)


def fold_batch_norms(network: BranchedClassifier, images: Tensor) -> BranchedClassifier:
    """A copy for inference, whose batch norms are part of the convolutions before them.

    Which convolution a norm follows is seen in a forward pass. Where the copy's logits differ by
    more than ``FOLDING_TOLERANCE``, computed in float64, it keeps its batch norms.

    Args:
        network: Any network.
        images: [B, C, H, W], for that forward pass.
    """
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        return _folded(network, images)


def _folded(network: BranchedClassifier, images: Tensor) -> BranchedClassifier:
    plain = copy.deepcopy(network).eval().requires_grad_(False)
    folded = copy.deepcopy(plain)
    identities = {}
    for conv, norm in _conv_norm_pairs(folded, images):
        statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
        identities[norm] = nn.Identity()
    _replace(folded, identities)
    pair = [copy.deepcopy(each).double().logits(images.double()) for each in (folded, plain)]
    difference = max(
        (torch.dist(a, b) / b.norm()).item() for a, b in zip(*map(_flat, pair), strict=True)
    )
    if not difference <= FOLDING_TOLERANCE:
        print_log(
            f'the fixed teacher keeps its batch norms: folded into convolutions, they change its '
            f'logits by {difference:.1e}, where {FOLDING_TOLERANCE:.0e} is accepted',
            'current',
            logging.WARNING,
        )
        return plain
    return folded


def _flat(logits: tuple[Tensor, tuple[Tensor, ...]]) -> list[Tensor]:
    return [logits[0], *logits[1]]


def _conv_norm_pairs(
    network: BranchedClassifier, images: Tensor
) -> list[tuple[nn.Conv2d, _BatchNorm]]:
    """Convolutions that run once, and whose output goes to a norm in eval mode and nowhere else."""
    made = {}  # by identity of the output
    calls, pairs = Counter(), []

    def after_conv(conv: nn.Conv2d, args: tuple, output: Tensor) -> None:
        made[id(output)] = conv, output
        calls[conv] += 1

    def before_norm(norm: _BatchNorm, args: tuple) -> None:
        calls[norm] += 1
        if id(args[0]) in made and norm.running_mean is not None:
            pairs.append((*made[id(args[0])], norm))

    with _hooks() as handles, _Uses() as uses:
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                handles.append(module.register_forward_hook(after_conv))
            elif isinstance(module, _BatchNorm):
                handles.append(module.register_forward_pre_hook(before_norm))
        network.logits(images)
    return [
        (conv, norm)
        for conv, output, norm in pairs
        if calls[conv] == calls[norm] == uses.count[id(output)] == 1
    ]


class _Uses(TorchFunctionMode):
    """Counts the operators that take a tensor, by its identity, and give another."""

    def __init__(self) -> None:
        super().__init__()
        self.count = Counter()
        self._kept = []  # so that identities are not given again

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            self._kept.append(result)
            leaves = tree_leaves((args, kwargs))
            self.count.update({id(leaf) for leaf in leaves if isinstance(leaf, Tensor)})
        return result


@contextmanager
def _hooks() -> Iterator[list]:
    handles = []
    try:
        yield handles
    finally:
        for handle in handles:
            handle.remove()


def _replace(network: nn.Module, replacements: dict[nn.Module, nn.Module]) -> None:
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if child in replacements:
                setattr(parent, name, replacements[child])
