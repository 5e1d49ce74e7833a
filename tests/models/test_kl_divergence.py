import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hsakd.models.losses import KLDivergence
from hsakd.utils.errors import ConfigError


@given(
    rows=st.integers(1, 6),
    columns=st.integers(2, 8),
    t=st.floats(0.5, 10),
    seed=st.integers(0, 99),
)
def test_is_the_formula(rows, columns, t, seed):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, rows, columns, dtype=torch.float64, generator=generator) * 5
    p, q = (teacher / t).softmax(1), (student / t).softmax(1)
    expected = t**2 * (p * (p.log() - q.log())).sum(1).mean()
    torch.testing.assert_close(KLDivergence(t)(student, teacher), expected)


def test_is_zero_at_the_teacher_and_gives_it_no_gradient():
    student = torch.randn(4, 10, dtype=torch.float64, requires_grad=True)
    teacher = student.detach().clone().requires_grad_()
    assert abs(KLDivergence()(student, teacher).item()) < 1e-12
    KLDivergence()(student * 2, teacher).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize('temperature', [0, -1])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ConfigError, match='temperature'):
        KLDivergence(temperature)
