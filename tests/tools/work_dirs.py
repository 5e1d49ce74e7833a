"""Work dirs as tools/train.py leaves them, without the training."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from mmengine.config import Config

from tests.conftest import ROOT

STUDENT = 'hsakd-offline_wrn-40-2_wrn-16-2_1xb64-240e_cifar100'
PLAIN = 'wrn-16-2_1xb64-240e_cifar100'
ONLINE = 'hsakd-online_wrn-40-2_1xb64-240e_cifar100'


@cache
def _dumped(name: str, options: str) -> str:
    (file,) = (ROOT / 'configs').rglob(f'{name}.py')
    config = Config.fromfile(file)
    config.merge_from_dict(json.loads(options))
    return config.pretty_text


def write_run(
    work_dir: Path,
    name: str,
    top1: float | Sequence[float],
    seed: int | None = 0,
    epochs: int = 240,
    first: int = 1,
    session: str = '20260102_030405',
    gpus: int = 1,
    **options: object,
) -> Path:
    """One session of training, with a validation an epoch.

    Args:
        work_dir: Where.
        name: Of a config in configs/.
        top1: Of the head after the last epoch, or of each of several networks that learn online.
            Before, it rises by 0.01 an epoch, but for a peak of 99 in the middle.
        seed: ``randomness.seed``.
        epochs: The last that was trained.
        first: The first.
        session: Name of its folder.
        gpus: As the log tells.
        options: More options of the config, with ``__`` for dots.
    """
    options = {key.replace('__', '.'): value for key, value in options.items()}
    options |= {'randomness.seed': seed, 'launcher': 'none', 'train_dataloader.num_workers': 1}
    text = _dumped(name, json.dumps(options)) + f"work_dir = '{work_dir}'\n"
    folder = work_dir / session
    (folder / 'vis_data').mkdir(parents=True)
    (work_dir / f'{name}.py').write_text(text)
    (folder / 'vis_data' / 'config.py').write_text(text)
    (folder / f'{session}.log').write_text(f'Runtime environment:\n    GPU number: {gpus}\n')
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
    content = ''.join(json.dumps(line) + '\n' for line in lines)
    (folder / 'vis_data' / 'scalars.json').write_text(content)
    return work_dir
