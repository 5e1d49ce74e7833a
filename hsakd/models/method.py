"""What trainings have in common: named losses, the networks that learn, and what stays frozen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import OptimWrapper
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from hsakd.models.losses import LossWeights
from hsakd.structures import BatchedLabels, class_labels, sample_indices
from hsakd.utils.checkpoint import (
    checkpoint_weights,
    describe_mismatch,
    load_network,
    read_checkpoint,
)
from hsakd.utils.errors import CheckpointError, ConfigError
from hsakd.utils.normalization import TrainedWith

#: A mini-batch's samples, from either loader.
Samples = Sequence[DataSample] | BatchedLabels


@dataclass
class Batch:
    """What a method may want to know of a mini-batch beside images and labels.

    Attributes:
        samples: The data samples of the images.
        epoch: The epoch of training, from 0.
        epochs: How many the whole training has.
    """

    samples: Samples
    epoch: int = 0
    epochs: int = 1

    @property
    def indices(self) -> Tensor:
        """Index [N] of each image in its data set, as memory banks need it."""
        return sample_indices(self.samples)


class FrozenPart:
    """Trained modules that come from a checkpoint and do not learn.

    Their parameters get no gradient, and :class:`Method` keeps them in eval mode.

    Args:
        owner: The network that is frozen, whole or in part.
        names: Names of the frozen children of ``owner``; none for the whole of it.
        checkpoint: Path of the checkpoint; None for callers that load weights themselves.
        key: Config key of ``checkpoint``, for messages.
    """

    def __init__(
        self, owner: nn.Module, names: Sequence[str], checkpoint: str | None, key: str
    ) -> None:
        self.owner = owner
        self.names = tuple(names)
        self.checkpoint = checkpoint
        self.key = key
        self.loaded = False
        self.trained_with: TrainedWith | None = None
        for module in self.modules:
            module.requires_grad_(False).eval()
        owner.register_load_state_dict_post_hook(self._note_loaded)

    @property
    def modules(self) -> list[nn.Module]:
        """The modules that are frozen."""
        return [getattr(self.owner, name) for name in self.names] or [self.owner]

    @property
    def with_head(self) -> bool:
        """Whether the frozen modules tell classes."""
        return not self.names or 'head' in self.names

    def load(self) -> None:
        """Load the checkpoint, if one is named; ``trained_with`` is what it says of its data.

        Raises:
            CheckpointError: It cannot be read or does not fit.
        """
        if self.checkpoint is not None:
            content = read_checkpoint(self.checkpoint, self.key)
            load_network(self.owner, self.checkpoint, self.key, self.names, content)
            self.trained_with = TrainedWith.of(content, f'{self.key}={self.checkpoint!r}')

    def check_loaded(self) -> None:
        """Check that the modules have got trained weights.

        Raises:
            ConfigError: They never got any, so they would stay as they were initialized.
        """
        ConfigError.check(
            self.loaded,
            self.key,
            'the path of a trained network, whose weights stay as they are (e.g. --cfg-options '
            f'{self.key}=work_dirs/CONFIG/epoch_240.pth)',
            self.checkpoint,
        )

    def _note_loaded(self, owner: nn.Module, incompatible_keys) -> None:
        missing = (key.split('.') for key in incompatible_keys.missing_keys)
        self.loaded |= not any(not self.names or set(self.names) & set(key) for key in missing)


class FrozenHelper(FrozenPart):
    """Helper layers of a distiller that an earlier phase trained, by the same names.

    Args:
        *args: Of :class:`FrozenPart`.
    """

    with_head = False

    def load(self) -> None:
        """Load them, if a checkpoint is named.

        Raises:
            CheckpointError: It cannot be read, or has no such layers.
        """
        if self.checkpoint is None:
            return
        weights = checkpoint_weights(read_checkpoint(self.checkpoint, self.key))
        wanted, found = (
            {key: value for key, value in part.items() if key.split('.')[0] in self.names}
            for part in (self.owner.state_dict(), weights)
        )
        where = f'{self.key}={str(self.checkpoint)!r}'
        expected = f'a checkpoint of the phase before, with the layers {", ".join(self.names)}'
        mismatch = describe_mismatch(wanted, found)
        CheckpointError.check(not mismatch, where, expected, mismatch)
        self.owner.load_state_dict(found, strict=False)


class Method:
    """A way of training, to be mixed in before one of mmengine's or mmpretrain's models.

    A method says which networks learn and which are frozen, and gives named losses, of which
    ``loss_weights`` makes the total.
    """

    #: Every term of :meth:`losses` with its factor; ``*`` in a name stands for the number of a
    #: branch, as in ``loss_aux_*``.
    default_weights: Mapping[str, float] = {}

    #: Config of the batch sampler of ``train_dataloader`` that the method needs, if any.
    batch_sampler: Mapping | None = None
    #: Of a method that remembers images: makes its memories, before a checkpoint is loaded, for
    #: the class [n] of every training image, by the numbers that ``Batch.indices`` has.
    remember: Callable[[Tensor], None] | None = None

    #: Whether a runner has prepared the batches and memories of this training.
    set_up = False

    loss_weights: LossWeights
    frozen_parts: Sequence[FrozenPart] = ()

    def losses(self, x: Tensor, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss, unweighted: all that a method has to write.

        Args:
            x: Normalized images [N, C, H, W], not rotated.
            y: Class labels [N], or scores of classes [N, K] where samples have them.
            batch: What else is known of these images.
        """
        raise NotImplementedError

    def trained_networks(self) -> dict[str, nn.Module]:
        """The networks that learn, by their keys in the config."""
        raise NotImplementedError

    def frozen_networks(self) -> dict[str, nn.Module]:
        """The networks that others learn from and that do not learn, by their config keys."""
        return {}

    def set_loss_weights(self, given: Mapping | None, without_gradient: Sequence[str] = ()) -> None:
        """Check the config's ``loss_weights``; to be called once the networks are built.

        Args:
            given: See :class:`LossWeights`.
            without_gradient: Terms that are logged, and from which nothing learns.
        """
        network = next(iter(self.trained_networks().values()))
        if getattr(self.data_preprocessor, 'num_classes', 0) is None:  # for scores of mixed images
            self.data_preprocessor.num_classes = getattr(network.head, 'num_classes', None)
        terms = {
            term.replace('*', str(index)): weight
            for term, weight in self.default_weights.items()
            for index in (range(network.num_branches) if '*' in term else [0])
        }
        self.loss_weights = LossWeights(given, terms, without_gradient)

    def loss(self, inputs: Tensor, data_samples: Samples) -> dict[str, Tensor]:
        """Weighted terms of the loss, whose sum is minimized.

        Accuracies of networks whose head has ``cal_acc`` are beside them, for the log.

        Args:
            inputs: Normalized images [N, C, H, W], not rotated.
            data_samples: Their samples, with ``gt_label`` or ``gt_score``.
        """
        info = MessageHub.get_current_instance().runtime_info
        epoch = info.get('epoch', 0)
        batch = Batch(data_samples, epoch, info.get('max_epochs', 1))
        losses = self.losses(inputs, class_labels(data_samples), batch)
        terms = self.loss_weights(losses, epoch)
        for key, network in self.trained_networks().items():
            prefix = f'net{key.split(".")[-1]}_' if '.networks.' in key else ''
            for name, value in getattr(network, 'train_accuracies', {}).items():
                terms[prefix + name] = value
        return terms

    def check_weights(self) -> None:
        """Check that what is frozen was trained before.

        Raises:
            ConfigError: A frozen part never got weights.
        """
        for part in self.frozen_parts:
            part.check_loaded()

    def check_set_up(self) -> None:
        """Check what our runner prepares, where another one, as mmengine's own, trains.

        Raises:
            ConfigError: The method draws images in a way of its own, or remembers them.
        """
        runner = "hsakd's runner (tools/train.py, or runner_type='hsakd.DistillationRunner')"
        alone = not (self.remember or self.batch_sampler)
        expected = f'{runner}, which prepares its images'
        ConfigError.check(alone, f'model.type={type(self).__name__}', expected, 'another runner')
        for key, network in self.trained_networks().items():
            if getattr(network, 'open_classes', False):
                network.open_classes = False
                MMLogger.get_current_instance().warning(
                    f'{key}.head.num_classes: {network.head.num_classes} where the config has None '
                    f'and this runner asks no data; a number, or {runner}, makes it that of them'
                )

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One step of training, after :meth:`check_weights` and :meth:`check_set_up`."""
        self.check_weights()
        if not self.set_up:
            self.check_set_up()
        return super().train_step(data, optim_wrapper)

    def init_weights(self) -> None:
        """Initialize what learns, and load what is frozen."""
        super().init_weights()
        for part in self.frozen_parts:
            part.load()
        teachers = self.frozen_networks().values()
        for network in self.trained_networks().values() if teachers else ():
            network.settle_classes(next(iter(teachers)).head.num_classes)

    def train(self, mode: bool = True) -> nn.Module:
        """Set the mode of what learns; what is frozen stays in eval mode."""
        super().train(mode)
        for part in self.frozen_parts:
            for module in part.modules:
                module.eval()
        return self
