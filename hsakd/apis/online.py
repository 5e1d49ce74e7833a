"""Which of the networks that learned online to take."""

import re
from pathlib import Path

from hsakd.utils.checkpoint import read_checkpoint
from hsakd.utils.config_text import checkpoint_config
from hsakd.utils.errors import CheckpointError
from hsakd.visualization import read_scalars


def best_network(path: str | Path) -> int:
    """The number of the network with the highest top-1 accuracy at the validation of a checkpoint.

    It comes from the logs that tools/train.py writes to the folder of its checkpoints. Of equals
    the first is taken.

    Args:
        path: A checkpoint of an online distiller, in its work dir.

    Raises:
        CheckpointError: The logs are not there or have no validation at the checkpoint's epoch.
    """
    checkpoint = read_checkpoint(path, 'checkpoint')
    by_epoch = checkpoint_config(checkpoint, path, 'checkpoint').train_cfg.get('by_epoch', True)
    unit = 'epoch' if by_epoch else 'iter'
    step = checkpoint['meta'][unit]
    accuracies: dict[int, dict[int, float]] = {}  # of each network, by step
    for log in sorted(Path(path).parent.glob('*/vis_data/scalars.json')):  # the newest last
        for record in read_scalars(log):
            for name, value in record.items():
                network = re.fullmatch(r'net(\d+)/accuracy/top1', name)
                if network:
                    accuracies.setdefault(record['step'], {})[int(network[1])] = value
    if step not in accuracies:
        found = f'{unit}s {sorted(accuracies)}' if accuracies else 'none'
        raise CheckpointError(
            f'--network best: no validation of several networks at {unit} {step} in the logs by '
            f'checkpoint={str(path)!r} (found: {found}); accepted are a checkpoint of such a '
            f'{unit} in its work dir, and --network N'
        )
    return max(accuracies[step], key=accuracies[step].get)
