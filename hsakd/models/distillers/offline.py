from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmpretrain.structures import DataSample
from torch import Tensor

from hsakd.models.losses import LossWeights
from hsakd.models.networks.branched_classifier import build_preprocessor, class_labels
from hsakd.registry import MODELS
from hsakd.utils.checkpoint import load_network
from hsakd.utils.errors import ConfigError

from .matching import check_same_outputs


@MODELS.register_module()
class HSAKDOffline(BaseModel):
    """The student learns from a fixed teacher, at the head and at every branch (section 3.3).

    Checkpoints leave the teacher out.

    Args:
        student: Config of the network that learns, with branches.
        teacher: Config of the network it learns from, with the same classes and transforms.
        teacher_ckpt: The teacher's checkpoint: of ours or a converted one. None builds, for
            callers that load weights themselves; training with it is an error.
        kd_loss: Config of KL_t.
        branch_pairs: Which branch of the student learns from which of the teacher, pairs of numbers
            from 0; every branch of the student learns from at least one. By default each from the
            one of its number, of as many.
        loss_weights: Factors of the terms, see :class:`LossWeights`.
        data_preprocessor: Config of mmpretrain's ``ClsDataPreprocessor``.
        init_cfg: Initialisation config.
    """

    def __init__(
        self,
        student: dict,
        teacher: dict,
        teacher_ckpt: str | None = None,
        kd_loss: dict | None = None,
        branch_pairs: Sequence[tuple[int, int]] | None = None,
        loss_weights: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(build_preprocessor(data_preprocessor), init_cfg)
        self.student = MODELS.build(student)
        self.teacher = MODELS.build(teacher).requires_grad_(False)
        self.teacher_logits = self.teacher.logits
        self.teacher_ckpt = teacher_ckpt
        self.kl = MODELS.build(kd_loss or dict(type='KLDivergence'))
        check_same_outputs(
            'model.student', self.student, 'model.teacher', self.teacher, branch_pairs is None
        )
        self.branch_pairs = _branch_pairs(self.student, self.teacher, branch_pairs)
        branches = range(self.student.num_branches)
        terms = ['loss_cls', 'loss_kd_logits', *(f'loss_kd_aux_{index}' for index in branches)]
        self.loss_weights = LossWeights(loss_weights, terms)
        self._teacher_loaded = False
        self.teacher.register_load_state_dict_post_hook(self._note_teacher_loaded)
        self.register_state_dict_post_hook(_drop_teacher)
        self.register_load_state_dict_post_hook(_expect_no_teacher)

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """CE(f_S(x_0), y) + KL_t(f_S || f_T)(x_rot) + sum_l KL_t(c_l_S || c_l_T)(x_rot).

        The sum is over ``branch_pairs``.

        Args:
            inputs: [N, C, H, W], not rotated.
            data_samples: With ``gt_label`` y.
        """
        y = class_labels(data_samples)
        x_rot = self.student.transforms(inputs)
        with torch.no_grad():
            f_teacher, c_teacher = self.teacher_logits(x_rot)
        f_student, c_student = self.student.logits(x_rot)

        f_upright = f_student[:: self.student.transforms.num_transforms]
        losses = dict(
            loss_cls=self.student.head.loss_module(f_upright, y),
            loss_kd_logits=self.kl(f_student, f_teacher),
        )
        for s, t in self.branch_pairs:
            divergence = self.kl(c_student[s], c_teacher[t])
            losses[f'loss_kd_aux_{s}'] = losses.get(f'loss_kd_aux_{s}', 0) + divergence
        return self.loss_weights(losses)

    def forward(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None, mode: str = 'tensor'
    ) -> tuple[Tensor, tuple[Tensor, ...]] | list[DataSample] | dict[str, Tensor]:
        """'loss' is the distiller's; 'tensor' and 'predict' are the student's."""
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        return self.student(inputs, data_samples, mode)

    def trained_networks(self) -> dict[str, torch.nn.Module]:
        """The networks that learn, by their keys in the config."""
        return {'model.student': self.student}

    def frozen_networks(self) -> dict[str, torch.nn.Module]:
        """The networks that others learn from and that do not learn."""
        return {'model.teacher': self.teacher}

    def check_weights(self) -> None:
        """See that what is fixed was trained.

        Raises:
            ConfigError: The teacher never got its weights.
        """
        if not self._teacher_loaded:
            raise ConfigError(
                'model.teacher_ckpt is None, so the teacher has random weights; accepted is the '
                'path of a trained teacher, e.g. --cfg-options '
                'model.teacher_ckpt=work_dirs/TEACHER/epoch_240.pth'
            )

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One step of training, after :meth:`check_weights`."""
        self.check_weights()
        return super().train_step(data, optim_wrapper)

    def val_step(self, data: dict) -> list[DataSample]:
        """The student's predictions, with those of its branches."""
        return self.student.predict_with_branches(**self.data_preprocessor(data, False))

    test_step = val_step

    def init_weights(self) -> None:
        """Initialise the student and load the teacher."""
        self.student.init_weights()
        if self.teacher_ckpt is not None:
            load_network(self.teacher, self.teacher_ckpt, 'model.teacher_ckpt')

    def train(self, mode: bool = True) -> 'HSAKDOffline':
        """Set the student's mode; the teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def _note_teacher_loaded(self, teacher: torch.nn.Module, incompatible_keys) -> None:
        if not incompatible_keys.missing_keys:
            self._teacher_loaded = True


def _branch_pairs(
    student: torch.nn.Module, teacher: torch.nn.Module, pairs: Sequence[tuple[int, int]] | None
) -> list[tuple[int, int]]:
    """The pairs sorted, or each branch with that of its number."""
    if pairs is None:
        return [(index, index) for index in range(student.num_branches)]
    known = range(student.num_branches), range(teacher.num_branches)
    accepted = (
        f'accepted are different pairs of a branch of the student, 0..{known[0][-1]}, and one of '
        f'the teacher, 0..{known[1][-1]}, e.g. [[0,0],[1,2]]'
    )
    if not isinstance(pairs, list | tuple):
        raise ConfigError(f'model.branch_pairs={pairs!r}: {accepted}')
    for pair in pairs:
        fits = isinstance(pair, list | tuple) and len(pair) == 2
        if not (fits and pair[0] in known[0] and pair[1] in known[1]) or pairs.count(pair) > 1:
            raise ConfigError(f'model.branch_pairs={pairs!r}: {pair!r}; {accepted}')
    idle = sorted(set(known[0]) - {s for s, _ in pairs})
    if idle:
        raise ConfigError(
            f'model.branch_pairs={[list(pair) for pair in pairs]}: branches {idle} of the student '
            'learn from none; accepted are pairs of every one, or model.student.branches.stages '
            'without them'
        )
    return sorted(tuple(pair) for pair in pairs)


def _drop_teacher(module: HSAKDOffline, state_dict: dict, prefix: str, local_metadata) -> None:
    for key in [key for key in state_dict if key.startswith(f'{prefix}teacher.')]:
        del state_dict[key]


def _expect_no_teacher(module: HSAKDOffline, incompatible_keys) -> None:
    incompatible_keys.missing_keys[:] = [
        key for key in incompatible_keys.missing_keys if not key.startswith('teacher.')
    ]
