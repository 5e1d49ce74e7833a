"""Which of the networks that learned online to take."""

import re
from pathlib import Path

from hsakd.results.runs import Run
from hsakd.utils.checkpoint import read_checkpoint
from hsakd.utils.errors import CheckpointError


def best_network(path: str | Path) -> int:
    """The number of the network with the highest top-1 accuracy at the validation of a checkpoint.

    It comes from the logs that tools/train.py writes to the folder of its checkpoints. Of equals
    the first is taken.

    Args:
        path: A checkpoint of an online distiller, in its work dir.

    Raises:
        CheckpointError: The logs are not there or have no validation at the checkpoint's epoch.
    """
    meta = read_checkpoint(path, 'checkpoint').get('meta') or {}
    run = Run.of(Path(path).parent)
    at = run and meta.get('epoch' if run.unit == 'epoch' else 'iter')
    networks = re.findall(r'\bnet(\d+)/accuracy/top1\b', ' '.join(run.keys if run else ()))
    curves = {int(i): run.curve(f'net{i}/accuracy/top1') for i in sorted(networks, key=int)}
    accuracies = {number: curve[at] for number, curve in curves.items() if at in curve}
    CheckpointError.check(
        accuracies,
        '--network best',
        'a checkpoint in its work dir, of an epoch (iteration) with a validation of its networks',
        f'checkpoint={str(path)!r} of {at}, validations {sorted(set().union(*curves.values()))}; '
        '--network N takes any',
    )
    return max(accuracies, key=accuracies.get)
