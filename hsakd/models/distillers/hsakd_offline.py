from collections.abc import Sequence

from torch import Tensor

from hsakd.models.method import Batch
from hsakd.registry import MODELS
from hsakd.utils.errors import ConfigError

from .base import OfflineDistiller, check_branches, check_compatible


@MODELS.register_module()
class HSAKDOffline(OfflineDistiller):
    """The student learns from a frozen teacher, at the head and at every branch (section 3.3).

    Args:
        kd_loss: Config of KL_t.
        branch_pairs: Which branch of the student learns from which of the teacher, pairs of numbers
            from 0; every branch of the student learns from at least one. By default each from the
            one of its number, of as many.
        **kwargs: Of :class:`OfflineDistiller`; student and teacher have branches and the same
            transforms.
    """

    default_weights = {'loss_cls': 1.0, 'loss_kd_logits': 1.0, 'loss_kd_aux_*': 1.0}

    def __init__(
        self,
        *,
        kd_loss: dict | None = None,
        branch_pairs: Sequence[tuple[int, int]] | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.kl = MODELS.build(kd_loss or dict(type='KLDivergence'))
        check_branches({**self.trained_networks(), **self.frozen_networks()})
        check_compatible(self, 'transforms', *(() if branch_pairs else ('branches',)))
        self.branch_pairs = _checked_pairs(
            branch_pairs, self.student.num_branches, self.teacher.num_branches
        )

    def losses(self, x: Tensor, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """CE(f_S(x_0), y) + KL_t(f_S || f_T)(x_rot) + sum_(l, k) KL_t(c_l_S || c_k_T)(x_rot).

        The sum is over ``branch_pairs``.
        """
        transforms = self.student.transforms
        x_rot = transforms(x)
        f_t, c_t = self.teacher_outputs(x, x_rot)[:2]
        f_s, c_s = self.student.logits(x_rot)

        losses = dict(
            loss_cls=self.student.cross_entropy(f_s[:: transforms.num_transforms], y),
            loss_kd_logits=self.kl(f_s, f_t),
        )
        for l, k in self.branch_pairs:
            key = f'loss_kd_aux_{l}'
            losses[key] = losses.get(key, 0) + self.kl(c_s[l], c_t[k])
        return losses


def _checked_pairs(
    pairs: Sequence[tuple[int, int]] | None, students: int, teachers: int
) -> list[tuple[int, int]]:
    """The pairs sorted; by default each branch with that of its number."""
    if pairs is None:
        return [(index, index) for index in range(students)]
    known = {(s, t) for s in range(students) for t in range(teachers)}
    given = (
        [tuple(p) if isinstance(p, list) else p for p in pairs]
        if isinstance(pairs, list | tuple)
        else [pairs]
    )
    wrong = [pair for pair in given if pair not in known or given.count(pair) > 1]
    expected = (
        f'different pairs of a branch of the student, 0..{students - 1}, and one of the teacher, '
        f'0..{teachers - 1}, for every branch of the student, e.g. [[0,0],[1,2]]'
    )
    ConfigError.check(not wrong, 'model.branch_pairs', expected, f'{wrong[:1]} in {pairs!r}')
    left_out = sorted(set(range(students)) - {s for s, _ in given})
    ConfigError.check(
        not left_out, 'model.branch_pairs', expected, f'{pairs!r}, without branches {left_out}'
    )
    return sorted(given)
