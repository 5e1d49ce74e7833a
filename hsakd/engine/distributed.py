"""What several processes need beyond mmengine's launchers and model wrappers."""

import gc
import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import torch
from mmengine.dist import all_reduce, barrier, broadcast, is_distributed
from mmengine.hooks import Hook
from mmengine.registry import MODEL_WRAPPERS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hsakd.utils.cli import STOP_DIR
from hsakd.utils.errors import ConfigError
from hsakd.utils.networks import unwrap


class SharedStatisticsHook(Hook):
    """Gives every process the statistics of the first one before they validate.

    Normalization that is not synchronized collects running statistics of its own in each process,
    while checkpoints hold those of the first. So what is validated is what is saved. They are taken
    from one process and not averaged, as mmengine's ``SyncBuffersHook`` does, so that a resumed run
    ends with the same numbers as one that was not interrupted. Other buffers stay as they are.
    """

    priority = 'VERY_LOW'  # after an EMAHook put its model in place

    def before_val_epoch(self, runner: Runner) -> None:
        """Broadcast the running statistics of the first process."""
        model = unwrap(runner.model)
        frozen = set(frozen_names(model))
        for name, buffer in model.named_buffers():
            if name.endswith(('running_mean', 'running_var')) and name not in frozen:
                broadcast(buffer)


def restarted() -> bool:
    """Whether a launcher starts this process again, after a fault or a pre-emption.

    To be asked once in a process. torchrun's own count is not enough: it stays at 0 on machines
    whose workers were fine and start again because others did not stay.
    """
    again = any(
        int(os.environ.get(count) or 0) > 0
        for count in ('TORCHELASTIC_RESTART_COUNT', 'SLURM_RESTART_COUNT')
    )
    folder = os.environ.get(STOP_DIR)  # of tools/dist_train.sh and tools/slurm_train.sh
    if folder and 'TORCHELASTIC_RUN_ID' in os.environ:
        started = Path(folder) / f'started.{os.environ["LOCAL_RANK"]}'
        again = again or started.exists()
        started.touch()
    return again


def anywhere(flag: bool) -> bool:
    """Whether ``flag`` is set in any of the processes, which all have to ask."""
    if not is_distributed():
        return flag
    value = torch.tensor(int(flag))
    all_reduce(value, 'max')
    return bool(value.item())


def shutdown_processes() -> None:
    """End the connections of a run that came to its end, when all processes have.

    Without it a process may abort: when another one ended before it, or while it ends itself, in
    a thread of gloo that lives as long as a model whose gradients it averaged.
    """
    if is_distributed():
        barrier()
        torch.distributed.destroy_process_group()
        gc.collect()  # a runner and its model refer to each other


def init_gloo(launcher: str, timeout: float | None = None) -> None:
    """Connect the processes of a machine without accelerator, where mmengine wants a GPU first.

    They wait for each other for ``timeout`` seconds (``env_cfg.dist_cfg.timeout``).

    Raises:
        ConfigError: Slurm does not say which machine is the first.
    """
    if is_distributed():
        return
    if launcher == 'slurm':
        os.environ.update(
            RANK=os.environ['SLURM_PROCID'],
            LOCAL_RANK=os.environ.get('SLURM_LOCALID', '0'),
            WORLD_SIZE=os.environ['SLURM_NTASKS'],
        )
        if 'MASTER_ADDR' not in os.environ:
            os.environ['MASTER_ADDR'] = _first_host(os.environ['SLURM_NODELIST'])
        os.environ.setdefault('MASTER_PORT', '29500')
    wait = None if timeout is None else timedelta(seconds=timeout)
    torch.distributed.init_process_group('gloo', timeout=wait)


def _first_host(nodes: str) -> str:
    try:
        command = ['scontrol', 'show', 'hostnames', nodes]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise ConfigError.expected(
            '--launcher slurm',
            'scontrol to name the first machine, or MASTER_ADDR, its address, in the environment',
            f'SLURM_NODELIST={nodes!r} and {error}',
        ) from error


def on_cpu(wrapper_cfg: dict | None, find_unused_parameters: bool) -> dict:
    """The config of a model wrapper without the CUDA device that mmengine takes for granted."""
    wrapper_cfg = wrapper_cfg or dict(
        broadcast_buffers=False, find_unused_parameters=find_unused_parameters
    )
    kind = wrapper_cfg.get('type', 'MMDistributedDataParallel')
    wrapper = MODEL_WRAPPERS.get(kind) if isinstance(kind, str) else kind
    if wrapper is not None and issubclass(wrapper, DistributedDataParallel):
        wrapper_cfg = dict(wrapper_cfg, device_ids=None)
    return wrapper_cfg


def leave_out_frozen_parts(model: nn.Module) -> None:
    """Keep what never changes out of the traffic of ``DistributedDataParallel``.

    That is a frozen teacher, or the backbone and head below a frozen teacher's branches: every
    process reads them from their file. Otherwise they are broadcast when the model is wrapped.
    """
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, frozen_names(model))


def frozen_names(model: nn.Module) -> list[str]:
    """Names of the parameters and buffers of parts in which no parameter learns."""
    names = []
    for prefix, part in _frozen_parts(model):
        named: list[tuple[str, Tensor]] = [*part.named_parameters(), *part.named_buffers()]
        names += [f'{prefix}.{name}' if prefix else name for name, _ in named]
    return names


def _frozen_parts(module: nn.Module, prefix: str = '') -> Iterator[tuple[str, nn.Module]]:
    """The outermost modules that have parameters, and none that learns."""
    learns = [parameter.requires_grad for parameter in module.parameters()]
    if learns and not any(learns):
        yield prefix, module
    elif learns:
        for name, child in module.named_children():
            yield from _frozen_parts(child, f'{prefix}.{name}' if prefix else name)
