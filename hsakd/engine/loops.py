"""mmengine's loops of training, which go on anywhere and draw the same random numbers there."""

from collections.abc import Sequence

from mmengine.dist import get_rank
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch.utils.data import DataLoader

from .tensor_loader import TensorLoader
from .training_data import seed_all

#: Tells the random numbers of a step from those of an image.
_STEP = 1


class ResumableEpochs(EpochBasedTrainLoop):
    """A loop over epochs that can start in the middle of one.

    A step's random numbers are set from the seed, its iteration and the rank, so that there is no
    state of them to be saved. Data come from a
    :class:`~hsakd.engine.training_data.ResumableBatchSampler`.
    """

    def start_at(self, iteration: int) -> None:
        """Set the iteration that :meth:`run_epoch` goes on with, in the epoch at hand."""
        self._iter = iteration

    def run_epoch(self) -> None:
        """Run an epoch, or what is left of it."""
        done = self._iter - self._epoch * len(self.dataloader)
        self.dataloader.batch_sampler.start_at(self._epoch, done)
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for index, data_batch in enumerate(self.dataloader, done):
            self.run_iter(index, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Sequence[dict]) -> None:
        """Run an iteration with random states set for it."""
        seed_all(self.runner.seed, self._iter, get_rank(), _STEP)
        super().run_iter(idx, data_batch)


class ResumableIterations(IterBasedTrainLoop):
    """A loop over iterations that can start anywhere, as :class:`ResumableEpochs`.

    It takes a loader without an end, whose workers prefetch beyond the end of the data.
    """

    def __init__(self, runner, dataloader: DataLoader | TensorLoader, **kwargs) -> None:
        super().__init__(runner, dataloader, **kwargs)
        self.dataloader_iterator = _Batches(self.dataloader)

    def run_iter(self, data_batch: Sequence[dict]) -> None:
        """Run an iteration with random states set for it."""
        seed_all(self.runner.seed, self._iter, get_rank(), _STEP)
        # For loss weights that grow over epochs; mmengine's stays at 0.
        hub, length = self.runner.message_hub, len(self.dataloader)
        hub.update_info('epoch', self._iter // length)
        hub.update_info('max_epochs', -(-self.max_iters // length))
        super().run_iter(data_batch)


class _Batches:
    """Stands in for the iterator that mmengine's loop asks for batches."""

    def __init__(self, dataloader: DataLoader | TensorLoader) -> None:
        self.dataloader = dataloader
        self._iterator = None

    def skip_iter(self, num_iters: int) -> None:
        """Start after ``num_iters`` batches."""
        self.dataloader.batch_sampler.start_at(0, num_iters)

    def __next__(self) -> Sequence[dict]:
        self._iterator = self._iterator or iter(self.dataloader)
        return next(self._iterator)


#: By the names that configs have for mmengine's; True and False are those of ``by_epoch``.
TRAIN_LOOPS = {
    'EpochBasedTrainLoop': ResumableEpochs,
    'IterBasedTrainLoop': ResumableIterations,
    'True': ResumableEpochs,
    'False': ResumableIterations,
}
