"""Work dirs as tools/train.py leaves them, without the training."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from unittest.mock import Mock, patch

from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from hsakd.engine.hooks import RunRecordHook
from tests.conftest import ROOT

STUDENT = 'hsakd-offline_wrn-40-2_wrn-16-2_1xb64-240e_cifar100'
PLAIN = 'wrn-16-2_1xb64-240e_cifar100'
ONLINE = 'hsakd-online_wrn-40-2_1xb64-240e_cifar100'


class Runner:
    """As much of mmengine's as the hook reads."""

    def __init__(self, config: Config, work_dir: Path, session: str, done: int) -> None:
        self.cfg, self.work_dir, self.timestamp = config, str(work_dir), session
        self.message_hub = Mock(runtime_info={})
        self.seed = config.randomness.seed
        self.epoch = self.iter = done
        loop = config.train_cfg
        self.max_epochs, self.max_iters = loop.get('max_epochs'), loop.get('max_iters')
        by_epoch = 'max_epochs' in loop
        self.train_loop = Mock(spec=EpochBasedTrainLoop if by_epoch else IterBasedTrainLoop)


@cache
def _config(name: str, options: str) -> Config:
    (file,) = (ROOT / 'configs').rglob(f'{name}.py')
    config = Config.fromfile(file)
    config.merge_from_dict(json.loads(options))
    return config


def write_run(
    work_dir: Path,
    name: str,
    top1: float | Sequence[float],
    seed: int = 0,
    epochs: int = 240,
    first: int = 1,
    session: str = '20260102_030405',
    gpus: int = 1,
    curve: bool = False,
    **options: object,
) -> Path:
    """One session of training, with a validation an epoch; recorded by the hook itself.

    Args:
        work_dir: Where.
        name: Of a config in configs/.
        top1: Of the head after the last epoch, or of each of several networks that learn online.
            Before, it rises by 0.01 an epoch, but for a peak of 99 in the middle.
        seed: ``randomness.seed``.
        epochs: The last that was trained.
        first: The first; later ones than 1 resume what is in the work dir.
        session: Name of its folder.
        gpus: How many processes.
        curve: Write scalars.json too.
        **options: More options of the config, with ``__`` for dots.
    """
    options = {key.replace('__', '.'): value for key, value in options.items()}
    options |= {'randomness.seed': seed, 'launcher': 'none', 'train_dataloader.num_workers': 1}
    config = _config(name, json.dumps(options))
    (work_dir / session / 'vis_data').mkdir(parents=True)
    runner, hook = Runner(config, work_dir, session, first - 1), RunRecordHook()
    with patch('hsakd.engine.hooks.run_record_hook.get_world_size', lambda: gpus):
        hook.before_train(runner)
    networks = list(top1) if isinstance(top1, Sequence) else [top1]
    lines = []
    for epoch in range(first, epochs + 1):
        for step in (2 * epoch - 1, 2 * epoch):
            loss = {'lr': 0.05, 'loss': 9 / step, 'loss_cls': 5 / step}
            lines.append({**loss, 'epoch': epoch, 'iter': step, 'step': step})
        now = [99 if epoch == 120 else value - 0.01 * (epochs - epoch) for value in networks]
        metrics = {'accuracy/top1': now[0], 'accuracy/top5': 0.5 * now[0] + 50}
        if len(now) > 1:
            metrics |= {f'net{i}/accuracy/top1': value for i, value in enumerate(now)}
        lines.append({**metrics, 'time': 0.1, 'step': epoch})
        runner.epoch = runner.iter = epoch
        if epoch in (120, epochs):
            hook.after_val_epoch(runner, metrics)
    if epochs >= hook.run.length:
        hook.after_train(runner)
    if curve:
        content = ''.join(json.dumps(line) + '\n' for line in lines)
        (work_dir / session / 'vis_data' / 'scalars.json').write_text(content)
    return work_dir
