"""Training made fast: exact by default, and faster at less precision where that is asked for."""

import contextlib
import copy
import functools
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MethodType

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from hsakd.models import BranchedClassifier
from hsakd.models.networks import Outputs
from hsakd.utils.errors import ConfigError, UserError
from hsakd.utils.networks import frozen_networks, trained_networks

from .display import slow

#: Largest relative difference between a network and its copy with batch norms folded.
FOLDING_TOLERANCE = 1e-4

#: Networks times shapes of batches that are compiled in a process; beyond them torch runs eager.
_GRAPHS = 64


def accelerate(model: nn.Module, fast: bool = False) -> None:
    """Set up what is trained for speed, where it is and as it is.

    To be called when its weights are loaded. Keys and values of its state dict do not change. What
    is replaced is ``outputs``, the one call by which methods run networks: of all networks under
    training, and of all frozen ones.

    By default what is computed stays the same up to rounding: on a CPU, maps are in
    ``channels_last``; frozen networks run without gradients with their batch norms folded.

    Args:
        model: Any model; one without networks of ours, such as a detector, is left as it is.
        fast: Also run networks by ``torch.compile``, in bfloat16 where the hardware has it, on CPUs
            without it with the operators of :mod:`hsakd.ops`. Losses and weights stay float32;
            validation is not compiled, and in float32.

    Raises:
        ConfigError: ``fast`` of a model without networks of ours, or on a CPU without a C++
            compiler.
    """
    networks = trained_networks(model)
    ConfigError.check(
        networks or not fast,
        'fast (--fast)',
        'False with a model that has no networks of hsakd',
        f'True with a {type(model).__name__}',
    )
    if not networks:
        return
    device = next(model.parameters()).device
    use_channels_last(model, device, fast)
    with _compiling('compiling operators' if fast and device.type == 'cpu' else None):
        for network in networks.values() if fast else ():
            network.outputs = CompiledNetwork(network, _exchange_layers(network))
    for network in frozen_networks(model).values():
        network.outputs = FrozenNetwork(network, fast)


def use_channels_last(model: nn.Module, device: torch.device, fast: bool = False) -> None:
    """Put weights, and so maps, into that order in memory where it wins; see :func:`accelerate`.

    Args:
        model: As that of :func:`accelerate`.
        device: Where it will be trained.
        fast: As that of :func:`accelerate`.
    """
    if not trained_networks(model):
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


def _exchange_layers(network: nn.Module, frozen: bool = False) -> dict:
    """Exchange layers for faster ones, on CPUs without bfloat16; options of the compiler for it."""
    device = next(network.parameters()).device
    if device.type == 'cuda':
        return {'triton.cudagraphs': True}
    if device.type != 'cpu' or has_bfloat16(device):
        return {}
    try:
        from hsakd import ops  # which registers operators, and compiles them
    except (ImportError, AttributeError) as error:  # of torch's private names, which may move
        missing = str(error).split(' (')[0]  # without the path of a file
        _say_once(f'plain torch.compile, since in torch {torch.__version__}: {missing}')
        return {}
    return ops.exchange_layers(network, frozen)


class FrozenNetwork:
    """The outputs of a network that does not learn, without gradients.

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
        self._outputs: Callable[[Tensor], Outputs] | None = None

    def __call__(self, images: Tensor) -> Outputs:
        """Compute the network's ``outputs`` without a gradient."""
        with torch.no_grad():
            if self._outputs is None:
                self.prepared = fold_batch_norms(self.network, images[:2])
                self._outputs = self.prepared.outputs
                if self.fast:
                    options = _exchange_layers(self.prepared, frozen=True)
                    self._outputs = _compiled(self.prepared, options)
            return self._outputs(images)

    def __deepcopy__(self, memo: dict) -> 'FrozenNetwork':
        return FrozenNetwork(copy.deepcopy(self.network, memo), self.fast)


class CompiledNetwork:
    """The outputs of a network under training: compiled then, and not where it is validated."""

    def __init__(self, network: BranchedClassifier, options: dict) -> None:
        self._network = network
        self._options = options
        self._compiled: Callable[[Tensor], Outputs] | None = None

    def __call__(self, images: Tensor) -> Outputs:
        """Compute the network's ``outputs``."""
        if not self._network.training:
            return _eager(self._network)(images)
        if self._compiled is None:
            self._compiled = _compiled(self._network, self._options)
        return self._compiled(images)

    def __deepcopy__(self, memo: dict) -> 'CompiledNetwork':
        return CompiledNetwork(copy.deepcopy(self._network, memo), self._options)


def _eager(network: BranchedClassifier) -> Callable[[Tensor], Outputs]:
    """The method ``outputs`` of the class, which an attribute of the network may hide."""
    return MethodType(type(network).outputs, network)


def _compiled(network: BranchedClassifier, options: dict) -> Callable[[Tensor], Outputs]:
    """What gives a network's outputs in float32, compiled for each shape of images.

    There are two in a training, since the last batch of an epoch may be smaller.
    """
    network.cache_stages()
    device = next(network.parameters()).device
    bfloat16 = has_bfloat16(device)
    if device.type == 'cpu':
        # That there is a CUDA compiler and no GPU, which nothing here needs.
        logging.getLogger('torch.utils.cpp_extension').setLevel(logging.ERROR)
    # All networks have their code in common, which counts as one that is compiled again and again.
    limit = torch.compiler.config.recompile_limit
    torch.compiler.config.recompile_limit = max(limit, _GRAPHS)
    run = _compile(_eager(network), options)
    shapes = set()

    def outputs(images: Tensor) -> Outputs:
        is_new = images.shape not in shapes
        shapes.add(images.shape)
        kind = 'frozen ' * (not network.training) + type(network.backbone).__name__
        what = f'compiling {kind} for batches of {len(images)} images' if is_new else None
        with _compiling(what), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            found = run(images)
        # Copies, since the next call of a CUDA graph writes to the same memory.
        return tree_map_only(Tensor, lambda x: x.to(torch.float32, copy=True), found)

    return outputs


def _compile(outputs: Callable[[Tensor], Outputs], options: dict) -> Callable[[Tensor], Outputs]:
    """``torch.compile``, without the compiler's options where this torch has not all of them."""
    try:
        return torch.compile(outputs, dynamic=False, options=options or None)
    except (RuntimeError, AttributeError):
        if not options:
            raise
        names = ' or '.join(options)
        _say_once(f'plain torch.compile, since torch {torch.__version__} has no option {names}')
        return torch.compile(outputs, dynamic=False, options=None)


@contextmanager
def removing_cut_off_libraries() -> Iterator[None]:
    """Remove what the compiler was stopped at writing, which torch would fail to load ever after.

    Raises:
        UserError: A library was cut off.
    """
    try:
        yield
    except RuntimeError as error:
        found = re.search(r'(/\S+\.so): (file too short|invalid ELF header)', str(error))
        if not found:
            raise
        Path(found[1]).unlink(missing_ok=True)
        raise UserError.expected(
            found[1],
            "a library whole, as torch's compiler writes it",
            f'{found[2]}; it is removed, and the same command with --resume goes on',
        ) from error


def _compiling(what: str | None) -> contextlib.AbstractContextManager:
    return contextlib.nullcontext() if what is None else slow(what)


@functools.cache
def _say_once(message: str) -> None:
    """Warn of what makes fast mode slower than it could be."""
    print_log(f'--fast: {message}', 'current', logging.WARNING)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 faster than float32."""
    if device.type == 'cpu':
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get('avx512_bf16') or capabilities.get('amx_bf16'))
    return device.type == 'cuda' and torch.cuda.is_bf16_supported(including_emulation=False)


def fold_batch_norms(network: BranchedClassifier, images: Tensor) -> BranchedClassifier:
    """A copy for inference, whose batch norms are part of the convolutions before them.

    Which convolution a norm follows is seen in a forward pass. Where the copy's outputs differ by
    more than ``FOLDING_TOLERANCE``, computed in float64, it keeps its batch norms.

    Args:
        network: Any network.
        images: [B, C, H, W], for that forward pass.
    """
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        plain = _copied(network).eval().requires_grad_(False)
        folded = copy.deepcopy(plain)
        identities = {}
        for conv, norm in _conv_norm_pairs(folded, images):
            statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
            identities[norm] = nn.Identity()
        for parent in list(folded.modules()):
            for name, child in parent.named_children():
                if child in identities:
                    setattr(parent, name, identities[child])
        pair = [copy.deepcopy(n).double().outputs(images.double()) for n in (folded, plain)]
        difference = max(
            (torch.dist(a, b) / b.norm()).item()
            for a, b in zip(*map(tree_leaves, pair), strict=True)
            if b is not None
        )
    if not difference <= FOLDING_TOLERANCE:
        print_log(
            f'the frozen teacher keeps its batch norms: folded into convolutions, they change its '
            f'outputs by {difference:.1e}, where {FOLDING_TOLERANCE:.0e} is expected at most',
            'current',
            logging.WARNING,
        )
        return plain
    return folded


def _copied(network: BranchedClassifier) -> BranchedClassifier:
    """A copy that runs by the method ``outputs`` of its class."""
    copied = copy.deepcopy(network)
    vars(copied).pop('outputs', None)
    return copied


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
        found = network.outputs(images)
    tapped = {id(leaf) for leaf in tree_leaves(found)}
    return [
        (conv, norm)
        for conv, output, norm in pairs
        if calls[conv] == calls[norm] == uses.count[id(output)] == 1 and id(output) not in tapped
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
