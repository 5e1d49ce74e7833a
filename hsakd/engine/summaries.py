"""What a training says at its start and at its end."""

import os
import shlex
from datetime import timedelta
from pathlib import Path

from mmengine.dist import get_world_size
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from hsakd.commands import typed
from hsakd.models.distillers import HSAKDTeacher
from hsakd.results.runs import Run, shown_path
from hsakd.utils.cli import ERROR_FILE
from hsakd.utils.networks import frozen_networks, trained_networks, unwrap

from .acceleration import has_bfloat16
from .checks import classes_of
from .hooks.run_record_hook import RunRecordHook


def record_of(runner: Runner) -> Run:
    """The record of a run, which the first process keeps while it trains."""
    return next(hook.run for hook in runner.hooks if isinstance(hook, RunRecordHook))


def at_the_start(runner: Runner) -> str:
    """What is trained, on what, for how long and how."""
    run, model, loader = record_of(runner), unwrap(runner.model), runner.train_dataloader
    lines = {'work dir': shown_path(run.folder.absolute())}
    networks = trained_networks(model) | frozen_networks(model)
    for key, network in (networks or {'model': model}).items():
        lines['network' if key == 'model' else key.removeprefix('model.')] = _described(network)
    images = f'{len(loader.dataset):,} to train on'
    if runner.val_loop is not None:
        images += f', {len(runner.val_dataloader.dataset):,} to validate on'
    classes = classes_of(loader.dataset)
    lines['images'] = images + (f', of {len(classes)} classes' if classes else '')
    size, processes = getattr(loader, 'batch_size', None), get_world_size()
    batches = f' of {size} images' if size else ''
    batches += f' in each of {processes} processes' if processes > 1 else ''
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        epochs, each = _number(runner.max_epochs, 'epoch'), _number(len(loader), 'batch', 'es')
        length = f'{epochs} of {each}{batches}'
    else:
        length = _number(runner.max_iters, 'batch', 'es') + batches
    lines['length'] = length
    if runner._load_from:
        start = shown_path(Path(runner._load_from).absolute())
        at = f', at iteration {runner.iter:,} of {runner.max_iters:,}' if runner._resume else ''
        lines['goes on from' if runner._resume else 'starts from'] = start + at
    lines['device'] = f'{run.versions["device"]}; {_mode(runner)}; seed {runner.seed}'
    return _table(f'training {run.name}: {type(model).__name__}', lines)


def at_the_end(runner: Runner, speed: float | None) -> str:
    """What came out, where it is, and what may be done with it.

    The latter is left out where another tool trains, which does it.

    Args:
        runner: Of the training.
        speed: Images a second.
    """
    run, info = record_of(runner), runner.message_hub.runtime_info
    lines = {}
    for key, value in [*run.metrics.items()][:1]:
        lines[key] = f'{value:.4g}, at best {run.best.get(key, value):.4g}'
    for name in ('last_ckpt', 'best_ckpt'):
        if name in info:
            path = shown_path(Path(info[name]).absolute())
            lines['checkpoint' if name == 'last_ckpt' else 'the best'] = path
    if 'last_ckpt' in info and runner.cfg.filename and ERROR_FILE not in os.environ:
        config = run.folder.absolute() / Path(runner.cfg.filename).name  # with all options
        lines |= _next(runner, shown_path(config), lines['checkpoint'])
    took = timedelta(seconds=round(run.seconds))
    state = 'trained' if run.finished else f'trained up to {run.progress} of'
    at = f', {speed:,.0f} images/s' if speed else ''
    return _table(f'{state} {run.name} in {took}{at}', lines)


def _next(runner: Runner, config: str, checkpoint: str) -> dict[str, str]:
    config, path = shlex.quote(config), shlex.quote(checkpoint)
    commands = {'test': f'{typed("test")} {config} {path}'}
    if isinstance(unwrap(runner.model), HSAKDTeacher):
        option = f'--cfg-options model.teacher_ckpt={path}'
        commands['a student'] = f'{typed("train")} CONFIG {option}'
    elif trained_networks(runner.model):
        commands['publish'] = f'{typed("publish")} {path} models/'
    commands['predict'] = f'{typed("predict")} IMAGES --model {path}'
    return commands


def _number(count: int, of: str, ending: str = 's') -> str:
    return f'{count:,} {of}{ending * (count != 1)}'


def _described(network: nn.Module) -> str:
    parts = {name: _parameters(part) for name, part in network.named_children()}
    branches = parts.get('branches', 0) + parts.get('joint_heads', 0)
    backbone = getattr(network, 'backbone', network)
    text = f'{type(backbone).__name__}, {_parameters(network) - branches:,} parameters'
    text += f' and {branches:,} of branches' if branches else ''
    learn = sum(p.numel() for p in network.parameters() if p.requires_grad)
    if learn < _parameters(network):
        text += f', of which {learn:,} learn' if learn else ', frozen'
    return text


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _mode(runner: Runner) -> str:
    if runner.cfg.get('fast', False):
        device = next(runner.model.parameters()).device
        return 'fast: compiled' + ', in bfloat16' * has_bfloat16(device)
    amp = isinstance(runner.optim_wrapper, AmpOptimWrapper)
    return 'mixed precision (AMP)' if amp else 'exact, in float32'


def _table(title: str, lines: dict[str, str]) -> str:
    width = max(map(len, lines), default=0)
    return '\n'.join([title, *(f'  {key:{width}}  {text}' for key, text in lines.items())])
