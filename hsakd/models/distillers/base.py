from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel, ModuleList
from mmpretrain.models.losses import CrossEntropyLoss, LabelSmoothLoss
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from hsakd.models.method import Batch, FrozenPart, Method
from hsakd.models.networks.branched_classifier import Outputs, build_preprocessor
from hsakd.registry import MODELS
from hsakd.utils.errors import ConfigError
from hsakd.utils.normalization import Normalization


class Distiller(Method, BaseModel):
    """A method of networks that learn, one or several, by more than their labels.

    Methods are built on :class:`OfflineDistiller`, :class:`OnlineDistiller` or
    :class:`SelfDistiller`. Those that write ``compare`` are also called on given tensors: made of
    the shapes of outputs in the place of networks.

    A subclass writes ``default_weights`` and ``losses``. Helper layers that learn (regressors,
    projections, memories) are ordinary modules of it, made for the shapes that the networks'
    ``output_shapes`` tells: they are trained by the same optimizer, are in checkpoints, and are no
    part of a published student. It predicts with its first network.

    Args:
        image_size: Height and width of the images in pixels, for helper layers; of configs with
            others than 32 the pair of networks says it.
        data_preprocessor: Config of mmpretrain's ``ClsDataPreprocessor``.
        init_cfg: Initialization config.
    """

    #: What the networks' ``outputs`` give beside logits, see ``BranchedClassifier.tap``.
    taps: Sequence[str] = ()

    def __init__(
        self,
        image_size: int = 32,
        data_preprocessor: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(build_preprocessor(data_preprocessor), init_cfg)
        self.image_size = image_size

    @property
    def predictor(self) -> nn.Module:
        """The network whose predictions are the distiller's."""
        return next(iter(self.trained_networks().values()))

    def cross_entropy(self, logits: Tensor, y: Tensor, number: int = 0) -> Tensor:
        """CE(z, y), by the head of one of the networks that learn, where there are networks.

        Args:
            logits: z [N, K].
            y: Class labels [N], or scores [N, K].
            number: Of the network.
        """
        networks = list(self.trained_networks().values())
        return networks[number].cross_entropy(logits, y) if networks else F.cross_entropy(logits, y)

    def check_labels(self, y: Tensor) -> None:
        """Raise a ConfigError for scores of classes, where a method asks for the right one."""
        where, expected = f'model.type={type(self).__name__}', 'one label an image'
        expected += ', without data_preprocessor.batch_augments'
        ConfigError.check(y.ndim == 1, where, expected, 'scores of classes')

    @cached_property
    def shapes(self) -> tuple[Outputs, ...]:
        """The shapes of the outputs of each network, for an image of ``image_size``."""
        networks = [*self.trained_networks().values(), *self.frozen_networks().values()]
        return tuple(network.output_shapes(self.image_size) for network in networks)

    def forward(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None, mode: str = 'tensor'
    ) -> tuple[Tensor, tuple[Tensor, ...]] | list[DataSample] | dict[str, Tensor]:
        """'loss' is the distiller's; 'tensor' and 'predict' are those of its first network."""
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        return self.predictor(inputs, data_samples, mode)

    def val_step(self, data: dict) -> list[DataSample]:
        """Predictions of the first network, with those of its branches."""
        return self.predictor.predict_with_branches(**self.data_preprocessor(data, False))

    def test_step(self, data: dict) -> list[DataSample]:
        """Predict as in validation."""
        return self.val_step(data)


class OfflineDistiller(Distiller):
    """A student learns from a frozen teacher, which checkpoints leave out.

    Args:
        student: Config of the network that learns.
        teacher: Config of the network it learns from, with the same classes.
        teacher_ckpt: The teacher's checkpoint: of ours or a converted one. None builds, for
            callers that load weights themselves; training with it is an error.
        teacher_normalization: None for a teacher that was trained with the normalization of the
            student's images. Of another one, 'checkpoint' for that which its checkpoint says it was
            trained with, or ``dict(mean=[..], std=[..], rgb=True)``.
        loss_weights: Factors of the terms, see :class:`~hsakd.models.losses.LossWeights`.
        **kwargs: Of :class:`Distiller`.

    Raises:
        ConfigError: The networks have other numbers of classes.
    """

    #: What a user may do about a teacher of another normalization.
    normalization_advice = (
        " (or model.teacher_normalization='checkpoint', by which the teacher gets images with it)"
    )
    #: As ``taps``, of the teacher alone; by default the same.
    teacher_taps: Sequence[str] | None = None

    def __init__(
        self,
        student: dict,
        teacher: dict,
        teacher_ckpt: str | None = None,
        teacher_normalization: Literal['checkpoint'] | dict | None = None,
        loss_weights: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        known = {'mean', 'std', 'rgb'}
        ConfigError.check(
            teacher_normalization in (None, 'checkpoint')
            or isinstance(teacher_normalization, dict)
            and {'mean', 'std'} <= teacher_normalization.keys() <= known,
            'model.teacher_normalization',
            "'checkpoint', or dict(mean=[..], std=[..], rgb=True)",
            repr(teacher_normalization),
        )
        self.teacher_normalization = teacher_normalization
        self.renormalize: Callable[[Tensor], Tensor] | None = None
        self.student = MODELS.build(student)
        self.teacher = MODELS.build(teacher)
        self.student.tap(*self.taps)
        self.teacher.tap(*(self.taps if self.teacher_taps is None else self.teacher_taps))
        self.teacher.is_init = True  # it is loaded, and not initialized
        self.frozen_parts = [FrozenPart(self.teacher, [], teacher_ckpt, 'model.teacher_ckpt')]
        check_compatible(self, 'classes')
        self.set_loss_weights(loss_weights)
        self.register_state_dict_post_hook(_drop_teacher)
        self.register_load_state_dict_post_hook(_expect_no_teacher)

    def trained_networks(self) -> dict[str, nn.Module]:
        """Return the student, by its config key."""
        return {'model.student': self.student} if hasattr(self, 'student') else {}

    def frozen_networks(self) -> dict[str, nn.Module]:
        """Return the teacher, by its config key."""
        return {'model.teacher': self.teacher}

    def serve_teacher(self, ours: Normalization | None) -> None:
        """Give the teacher images as ``teacher_normalization`` says from here on.

        Args:
            ours: The normalization of the images that the distiller gets.

        Raises:
            ConfigError: It is not known, or not which one the teacher was trained with.
        """
        key, given = 'model.teacher_normalization', self.teacher_normalization
        if given == 'checkpoint':
            part = self.frozen_parts[0]
            theirs = part.trained_with.normalization if part.trained_with else None
            expected = 'dict(mean=[..], std=[..], rgb=True), since the checkpoint does not say it'
            ConfigError.check(theirs, key, expected, repr(given))
        else:
            theirs = Normalization.from_preprocessor(given, given.get('rgb', True))
        expected = 'mean and std in data_preprocessor, from which to go to those of the teacher'
        ConfigError.check(ours, key, expected, 'none')
        self.renormalize = ours.to(theirs)

    def teacher_outputs(self, x: Tensor, transformed: Tensor | None = None) -> Outputs:
        """What the teacher gives for images, without a gradient.

        Args:
            x: [B, C, H, W], normalized for the student.
            transformed: Of ``x`` by the transforms of the networks, where these are what the
                teacher gets.
        """
        with torch.no_grad():
            if self.teacher_normalization:
                served = 'a training by DistillationRunner, or serve_teacher(..) before'
                where = 'model.teacher_normalization'
                ConfigError.check(self.renormalize, where, served, repr(self.teacher_normalization))
                x = self.renormalize(x)
                transformed = None if transformed is None else self.teacher.transforms(x)
            return self.teacher.outputs(x if transformed is None else transformed)


class OnlineDistiller(Distiller):
    """Two or more networks learn together and teach each other, without a teacher.

    A subclass writes ``compare``, or ``losses``.

    Args:
        networks: Configs of the networks, alike or not, with the same classes; or the shapes of
            their outputs, to call :meth:`compare` on tensors without networks.
        loss_weights: Factors of the terms, of every network alike; see
            :class:`~hsakd.models.losses.LossWeights`.
        **kwargs: Of :class:`Distiller`.

    Raises:
        ConfigError: There are fewer than two, or they have other numbers of classes.
    """

    def __init__(
        self, networks: Sequence[dict | Outputs], loss_weights: dict | None = None, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        several = isinstance(networks, list | tuple)
        ConfigError.check(
            several and len(networks) > 1,
            'model.networks',
            'a list of the configs of two or more networks',
            f'{len(networks)} network(s)' if several else repr(networks),
        )
        if isinstance(networks[0], Outputs):
            self.networks, self.shapes = [], tuple(networks)
            return
        self.networks = ModuleList(MODELS.build(network) for network in networks)
        for network in self.networks:
            network.tap(*self.taps)
        check_compatible(self, 'classes')
        self.set_loss_weights(loss_weights)

    def losses(self, x: Tensor, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """See :meth:`compare`."""
        return self.compare([network.outputs(x) for network in self.networks], y, batch)

    def compare(self, outputs: Sequence[Outputs], y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """All terms, unweighted, of the outputs of each network for the same images."""
        raise NotImplementedError

    def trained_networks(self) -> dict[str, nn.Module]:
        """Return all networks, by their config keys."""
        return {f'model.networks.{i}': network for i, network in enumerate(self.networks)}

    def val_step(self, data: dict) -> list[DataSample]:
        """Predictions of the first network, with those of all in the field ``networks``."""
        data = self.data_preprocessor(data, False)
        inputs, data_samples = data['inputs'], data['data_samples']
        per_network = [
            network.predict_with_branches(inputs, [sample.clone() for sample in data_samples])
            for network in self.networks
        ]
        for sample, predicted in zip(per_network[0], zip(*per_network, strict=True), strict=True):
            sample.set_field([one.to_dict() for one in predicted], 'networks')
        return per_network[0]


class SelfDistiller(Distiller):
    """One network, the student, that learns from itself.

    A subclass writes ``compare``, or ``losses``. The student may have branches, copies of its last
    stages: with ``stages=[1, 1]`` and without transforms two peers that share what is before.

    Args:
        student: Config of the network; or the shapes of its outputs, to call :meth:`compare` on
            tensors without a network.
        loss_weights: Factors of the terms, see :class:`~hsakd.models.losses.LossWeights`.
        **kwargs: Of :class:`Distiller`.
    """

    #: Whether the student has to have branches, and no transforms, so that they tell classes.
    branched = False

    def __init__(self, student: dict | Outputs, loss_weights: dict | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        if isinstance(student, Outputs):
            self.shapes = (student,)
            return
        self.student = MODELS.build(student)
        self.student.tap(*self.taps)
        if self.branched:
            check_branches(self.trained_networks())
            m = self.student.transforms.num_transforms
            ConfigError.check(m == 1, 'model.student.transforms', "dict(type='NoTransform')", m)
        self.set_loss_weights(loss_weights)

    def losses(self, x: Tensor, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """See :meth:`compare`."""
        return self.compare(self.student.outputs(x), y, batch)

    def compare(self, o: Outputs, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """All terms, unweighted, of the outputs of the student."""
        raise NotImplementedError

    def trained_networks(self) -> dict[str, nn.Module]:
        """Return the student, by its config key."""
        return {'model.student': self.student} if hasattr(self, 'student') else {}


_COUNTS = dict(
    classes=lambda network: network.head.num_classes,
    branches=lambda network: network.num_branches,
    transforms=lambda network: network.transforms,
)


def check_compatible(distiller: Distiller, *what: str) -> None:
    """Check that the networks of a distiller can learn from each other.

    Args:
        distiller: With its networks.
        *what: What has to be the same in all: 'classes', 'branches', 'transforms'; of branches
            there has to be one at least.

    Raises:
        ConfigError: They differ.
    """
    networks = {**distiller.trained_networks(), **distiller.frozen_networks()}
    (first_key, first), *others = networks.items()
    for name in what:
        of = _COUNTS[name]
        for key, other in others:
            ConfigError.check(
                repr(of(first)) == repr(of(other)),
                f'{key}.head.num_classes' if name == 'classes' else key,
                f'the same {name} as {first_key} ({of(first)})',
                of(other),
            )
    if 'branches' in what:
        check_branches(networks)


def check_branches(networks: dict[str, nn.Module]) -> None:
    """Check that every network has branches.

    Raises:
        ConfigError: One has none.
    """
    for key, network in networks.items():
        ConfigError.check(
            network.num_branches,
            f'{key}.branches',
            "auxiliary branches, e.g. dict(type='AuxiliaryBranches')",
            None,
        )


def check_joint_losses(networks: dict[str, nn.Module]) -> None:
    """Check that the joint task can follow the loss of each network's head.

    Raises:
        ConfigError: It is no cross entropy of one class an image.
    """
    for key, network in networks.items():
        loss = network.head.loss_module
        known = isinstance(loss, CrossEntropyLoss | LabelSmoothLoss)
        package = type(loss).__module__.split('.')[0]
        sigmoid = known and getattr(loss, 'ce', loss).use_sigmoid
        summed = known and loss.reduction == 'sum'
        found = f'{package}.{type(loss).__name__}' + ' with use_sigmoid' * sigmoid
        ConfigError.check(
            known and not sigmoid and not summed,
            f'{key}.head.loss',
            'mmpretrain.CrossEntropyLoss or mmpretrain.LabelSmoothLoss, a mean over images of one '
            'class each, which the joint task follows',
            found + " with reduction='sum'" * summed,
        )


def _drop_teacher(module: OfflineDistiller, state_dict: dict, prefix: str, local_metadata) -> None:
    for key in [key for key in state_dict if key.startswith(f'{prefix}teacher.')]:
        del state_dict[key]


def _expect_no_teacher(module: OfflineDistiller, incompatible_keys) -> None:
    incompatible_keys.missing_keys[:] = [
        key for key in incompatible_keys.missing_keys if not key.startswith('teacher.')
    ]
