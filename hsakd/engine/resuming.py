"""Going on from a checkpoint exactly where it was saved."""

import shlex
import warnings
from collections.abc import Mapping
from copy import deepcopy

import torch
from mmengine.config import Config
from mmengine.dist import all_reduce
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from hsakd.results.settings import changed_settings, comparable_settings
from hsakd.utils.checkpoint import checkpoint_meta, checkpoint_weights, describe_mismatch
from hsakd.utils.config_text import parse_config
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
        f'are what --cfg-options load_from={shlex.quote(path)} takes)',
        f'one without {", ".join(missing)}',
    )
    model = unwrap(model)
    mismatch = describe_mismatch(model.state_dict(), checkpoint_weights(checkpoint))
    expected = f'weights of the model of the config, a {type(model).__name__}'
    CheckpointError.check(not mismatch, f'resume={path!r}', expected, mismatch)


def other_settings(checkpoint: Mapping, config: Config) -> dict[str, tuple[object, object]]:
    """Settings of a run in which it differs from the training of a checkpoint: before and now."""
    text = checkpoint_meta(checkpoint).get('cfg')
    if not isinstance(text, str):
        return {}
    try:
        # Both from their texts, in which types are names.
        before, now = (
            comparable_settings({**parse_config(part).to_dict(), 'resume': True}, follow=False)
            for part in (text, config.pretty_text)
        )
    except (SyntaxError, ValueError):  # a config of others, with values that are not plain
        return {}
    return {key: (before.get(key), now.get(key)) for key in changed_settings(before, now)}


def check_optimizer_state(
    checkpoint: Mapping, optim_wrapper: OptimWrapper, changes: Mapping, path: str
) -> None:
    """Check that the state in a checkpoint is of the optimizer of the config.

    Raises:
        CheckpointError: It is of another kind, or has other groups of weights.
    """
    before, now = changes.get('optim_wrapper.optimizer.type', (None, None))
    advice = f'or, for a new optimizer, --cfg-options load_from={shlex.quote(path)}'
    CheckpointError.check(
        before == now, f'resume={path!r}', f'optim_wrapper.optimizer.type={before} {advice}', now
    )
    found = checkpoint['optimizer'].get('param_groups')
    if found is not None:
        CheckpointError.check(
            len(found) == len(_flat(optim_wrapper.param_groups)),
            f'resume={path!r}',
            f'{len(found)} groups of weights in the optimizer (paramwise_cfg), as before, {advice}',
            len(_flat(optim_wrapper.param_groups)),
        )


class FreshSchedule:
    """Settings of an optimizer and its schedules, as at the start of a training with a config.

    Checkpoints bring those of before along, and the values of the config would count for nothing.

    Args:
        optim_wrapper: Before it loads a checkpoint.
        schedules: Of it, before they load one.
    """

    def __init__(self, optim_wrapper: OptimWrapper, schedules: list | dict | None) -> None:
        self.schedules = _flat(schedules)
        self.states = [deepcopy(schedule.state_dict()) for schedule in self.schedules]
        self.optim_wrapper = optim_wrapper
        self.groups = [
            {key: deepcopy(value) for key, value in group.items() if key != 'params'}
            for group in _flat(optim_wrapper.param_groups)
        ]

    def take_effect(self, changes: Mapping, iteration: int, batches: int) -> str:
        """Let the settings of the config count, after a checkpoint was loaded.

        Where a schedule, its end, or an initial value such as the learning rate is another one than
        before, all that schedules set is what it would be here in a training with them from the
        start. Those that follow validations keep their state where training only gets longer.

        Args:
            changes: Of :func:`other_settings`.
            iteration: The place in training.
            batches: Iterations between two steps of schedules by epochs.

        Returns:
            What the user has to know; empty if nothing differs.
        """
        pairs = list(zip(self.groups, _flat(self.optim_wrapper.param_groups), strict=True))
        restart = any(key.startswith('param_scheduler') for key in changes) or any(
            fresh[key] != loaded.get(key)
            for fresh, loaded in pairs
            for key in fresh
            if key.startswith('initial_')
        )
        if not restart and {'train_cfg.max_epochs', 'train_cfg.max_iters'} & changes.keys():
            for schedule, state in zip(self.schedules, self.states, strict=True):
                schedule.end = state['end']  # mmengine's default is the length of training
            restart = not any(hasattr(schedule, 'need_val_args') for schedule in self.schedules)
        if restart or any(key.startswith('optim_wrapper') for key in changes):
            for fresh, loaded in pairs:
                kept = [] if restart else [key for key in fresh if f'initial_{key}' in fresh]
                loaded.update({key: value for key, value in fresh.items() if key not in kept})
        if restart:
            self._go_to(iteration, batches)
        if not (changes or restart):
            return ''
        shown = [f'{key}={now!r} (was {before!r})' for key, (before, now) in changes.items()]
        rates = self.optim_wrapper.get_lr().get('lr', [])
        shown += [f'schedules as if from the start: learning rate {rates[0]:.6g} here'] * restart
        return f'--resume with other settings, which count from here on: {", ".join(shown)}'

    def _go_to(self, iteration: int, batches: int) -> None:
        """Step as mmengine's hook does."""
        for schedule, state in zip(self.schedules, self.states, strict=True):
            schedule.load_state_dict(state)
        with warnings.catch_warnings():  # of schedules that step before the optimizer
            warnings.simplefilter('ignore')
            for done in range(1, iteration + 1):
                for schedule in self.schedules:
                    if not schedule.by_epoch or done % batches == 0:
                        schedule.step()


def _flat(parts: object) -> list:
    """A list, or those of several optimizers one after the other."""
    if isinstance(parts, Mapping):
        return [item for part in parts.values() for item in part]
    return list(parts or ())


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
