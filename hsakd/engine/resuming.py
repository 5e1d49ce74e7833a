"""Going on from a checkpoint exactly where it was saved."""

from collections.abc import Mapping

import torch
from mmengine.dist import all_reduce
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from hsakd.utils.checkpoint import checkpoint_meta, checkpoint_weights, describe_mismatch
from hsakd.utils.errors import CheckpointError
from hsakd.utils.networks import unwrap


def waiting_gradients(optim_wrapper: OptimWrapper, model: nn.Module) -> dict[str, Tensor]:
    """Gradients that were accumulated and wait for a step, as means over all processes."""
    if not isinstance(optim_wrapper, OptimWrapper) or optim_wrapper.should_update():
        return {}
    gradients = {}
    for name, parameter in unwrap(model).named_parameters():
        if parameter.grad is not None:
            gradient = parameter.grad.detach().clone()
            all_reduce(gradient, 'mean')
            gradients[name] = gradient.cpu()
    return gradients


def restore_gradients(gradients: Mapping[str, Tensor], model: nn.Module) -> None:
    """Put back what :func:`waiting_gradients` gave."""
    for name, parameter in unwrap(model).named_parameters():
        if name in gradients:
            parameter.grad = torch.empty_like(parameter).copy_(gradients[name])


def check_resumable(checkpoint: Mapping, model: nn.Module, path: str) -> None:
    """Check that a checkpoint has the state of a training, and of exactly this model.

    Raises:
        CheckpointError: It does not.
    """
    meta = checkpoint_meta(checkpoint)
    missing = [f'meta.{key}' for key in ('epoch', 'iter') if not isinstance(meta.get(key), int)]
    missing += [key for key in ('optimizer', 'message_hub') if key not in checkpoint]
    CheckpointError.check(
        not missing,
        f'resume={path!r}',
        'a checkpoint that tools/train.py saved at the end of an epoch or interval (weights alone '
        f'are what --cfg-options load_from={path} takes)',
        f'one without {", ".join(missing)}',
    )
    model = unwrap(model)
    mismatch = describe_mismatch(model.state_dict(), checkpoint_weights(checkpoint))
    expected = f'weights of the model of the config, a {type(model).__name__}'
    CheckpointError.check(not mismatch, f'resume={path!r}', expected, mismatch)


def place_in_training(meta: Mapping, batches: int) -> tuple[int, str]:
    """The iteration to go on with, by the share of the epoch that is done.

    And what to say where ``batches`` in an epoch are others than those of the checkpoint's meta.
    """
    then = meta.get('batches_per_epoch') or batches
    done, notice = meta['iter'] - meta['epoch'] * then, ''
    if then != batches:
        notice = (
            f'the checkpoint is of a training with {then} iterations an epoch, this one has '
            f'{batches}: it goes on, and not exactly as with the same batches and processes'
        )
        done = done * batches // then
    return meta['epoch'] * batches + min(max(done, 0), batches), notice
