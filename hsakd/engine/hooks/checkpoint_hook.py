import re
from collections import deque
from collections.abc import Iterable
from copy import copy
from pathlib import Path

from mmengine.dist import is_main_process, master_only
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner

from hsakd.engine.building import building
from hsakd.engine.checkpoint_files import INTERRUPTED, POINTER, point_to
from hsakd.registry import HOOKS
from hsakd.utils.checks import as_number
from hsakd.utils.errors import CheckpointError, ConfigError

#: In the record of a run: the epoch or iteration of the last validation.
VALIDATED = 'last_validation'  # not val..., which mmengine would log
#: In the record of a run: the checkpoints that the one at hand makes superfluous.
_OUTDATED = 'outdated_ckpts'
_is_checkpoint = re.compile(r'(epoch_|iter_|best_).*\.pth').fullmatch
#: Where mmengine's hook keeps the best one, or those by several metrics.
_BEST = ('best_ckpt_path', 'best_ckpt_path_dict')


def done(loop: BaseLoop) -> int:
    """Epochs of a loop of training that are done; iterations, where it counts those."""
    return loop.epoch if isinstance(loop, EpochBasedTrainLoop) else loop.iter


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """Save checkpoints, and keep old ones until the new one is whole on the disk.

    ``last_checkpoint`` is of the training at work: one that starts from the beginning drops it.

    Args:
        stop_on_error: Whether a checkpoint that cannot be saved stops training; else training goes
            on with a warning, and saves when the next one is due.
        **kwargs: Passed on to mmengine's hook.
    """

    def __init__(self, stop_on_error: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        if self.args:  # which mmengine's hands on when it saves
            raise TypeError(f'got an unexpected keyword argument {next(iter(self.args))!r}')
        self.stop_on_error = stop_on_error

    def before_train(self, runner: Runner) -> None:
        """Point to the checkpoint that training starts from, and finish what a kill cut short."""
        super().before_train(runner)
        self._point_to_start(runner)
        # Of a work dir that was copied, what is in the copy is meant.
        if getattr(self, 'best_ckpt_path', None):
            self.best_ckpt_path = str(Path(self.out_dir) / Path(self.best_ckpt_path).name)
        paths = getattr(self, 'best_ckpt_path_dict', {})
        paths.update((k, str(Path(self.out_dir) / Path(v).name)) for k, v in paths.items() if v)
        if runner._resume:
            outdated = runner.message_hub.runtime_info.get(_OUTDATED, ())
            at_hand = Path(runner._load_from or '').absolute()
            if at_hand.parent.resolve() == Path(self.out_dir).resolve():  # of this training
                names = (Path(name).name for name in outdated)
                self._remove(n for n in names if n != at_hand.name and _is_checkpoint(n))

    @master_only
    def _point_to_start(self, runner: Runner) -> None:
        if runner._resume and runner._load_from:
            point_to(Path(runner._load_from).absolute(), runner.work_dir)
        elif not runner._resume:
            (Path(runner.work_dir) / POINTER).unlink(missing_ok=True)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Save the best checkpoint, and the last one again, as of after this validation."""
        runner.message_hub.update_info(VALIDATED, done(runner.train_loop))
        super().after_val_epoch(runner, metrics)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Save a checkpoint, point to it, and then remove those that are too many."""
        before = dict(runner.message_hub.runtime_info), self.last_ckpt
        kept = list(self.keep_ckpt_ids) if self.max_keep_ckpts > 0 else []
        steps = [*(other for other in kept if other != step), step]
        outdated = []
        if self.max_keep_ckpts > 0:
            runner.message_hub.update_info('keep_ckpt_ids', steps[-self.max_keep_ckpts :])
            outdated += map(self.filename_tmpl.format, steps[: -self.max_keep_ckpts])
        outdated += getattr(self.file_backend, 'outdated', ())
        runner.message_hub.update_info(_OUTDATED, outdated)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        try:
            self._save_and_point(runner, name, meta)
        except CheckpointError as error:
            _restore(runner, before[0])
            self.last_ckpt = before[1]
            self._report(runner, error)
            return
        if self.max_keep_ckpts > 0:
            self.keep_ckpt_ids = deque(steps, self.max_keep_ckpts)
        if is_main_process():
            (Path(runner.work_dir) / INTERRUPTED).unlink(missing_ok=True)
        self._remove(outdated)

    @master_only
    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            path = self.file_backend.join_path(self.out_dir, Path(name).name)
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)

    def _save_and_point(self, runner: Runner, name: str, meta: dict) -> None:
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            point_to(Path(self.out_dir) / name, runner.work_dir)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Save the best checkpoint, by metrics that are numbers, and then remove the previous one.

        Raises:
            ConfigError: The metric of ``save_best`` was not measured, or is no number.
        """
        metrics = {key: value for key, value in metrics.items() if as_number(value) is not None}
        where = 'default_hooks.checkpoint.save_best'
        expected = f'a metric that is a number ({", ".join(metrics) or "there is none"})'
        for key in self.key_indicators if self.save_best else ():
            ok = metrics if key == 'auto' else key in metrics
            ConfigError.check(ok, where, expected, repr(key))
        info = dict(runner.message_hub.runtime_info)
        best = {key: copy(vars(self)[key]) for key in _BEST if key in vars(self)}
        backend, self.file_backend = self.file_backend, _RemovesLater()
        try:
            with building(where, runner.cfg):
                super()._save_best_checkpoint(runner, metrics)
            outdated = self.file_backend.outdated
        except CheckpointError as error:
            _restore(runner, info)
            vars(self).update(best)
            self._report(runner, error)
            outdated = []
        finally:
            self.file_backend = backend
        paths = getattr(self, 'best_ckpt_path_dict', {}).values()
        self._remove({*outdated} - {getattr(self, 'best_ckpt_path', None), *paths})

    def _report(self, runner: Runner, error: CheckpointError) -> None:
        if self.stop_on_error:
            raise error
        runner.logger.warning(f'{error}; training goes on (stop_on_error=False)')


class _RemovesLater(LocalBackend):
    """A file backend that notes files to remove instead of removing them."""

    def __init__(self) -> None:
        self.outdated: list[str] = []

    def remove(self, filepath: str | Path) -> None:
        self.outdated.append(str(filepath))


def _restore(runner: Runner, info: dict) -> None:
    """Forget the record of what was not saved."""
    runner.message_hub.runtime_info.clear()
    runner.message_hub.runtime_info.update(info)
