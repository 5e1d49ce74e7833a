from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hsakd.utils.errors import ConfigError


class Regressor(nn.Sequential):
    """A student's map to channels and side of a teacher's: convolution, batch norm, ReLU.

    Args:
        student: Shape [C, H, W] of the map.
        teacher: Shape of what it becomes.
        relu: Whether a ReLU follows.

    Raises:
        ConfigError: The student's map is smaller, and not by half.
    """

    def __init__(self, student: Sequence[int], teacher: Sequence[int], relu: bool = True) -> None:
        (c_s, a, _), (c_t, b, _) = student, teacher
        if a == 2 * b:
            conv = nn.Conv2d(c_s, c_t, 3, stride=2, padding=1)
        elif 2 * a == b:
            conv = nn.ConvTranspose2d(c_s, c_t, 4, stride=2, padding=1)
        else:
            ConfigError.check(
                a >= b,
                'model.student and model.teacher',
                f"a map of the student not smaller than the teacher's {tuple(teacher)}, or by half",
                tuple(student),
            )
            conv = nn.Conv2d(c_s, c_t, 1 + a - b)
        super().__init__()
        self.conv, self.bn = conv, nn.BatchNorm2d(c_t)
        if relu:
            self.relu = nn.ReLU()


class VariationalHead(nn.Module):
    """Mean of a teacher's map [B, T, H, W] by a student's, and ``log_scale`` [T] of its variance.

    Args:
        student: Channels of the student's map.
        teacher: Channels T.
        variance: That it starts with.
    """

    def __init__(self, student: int, teacher: int, variance: float = 5.0) -> None:
        super().__init__()
        for index, channels in enumerate((student, teacher, teacher)):
            self.add_module(f'conv_{index}', nn.Conv2d(channels, teacher, 1, bias=False))
        start = torch.tensor(variance - 1e-5).expm1().log()
        self.log_scale = nn.Parameter(start.repeat(teacher))

    def forward(self, maps: Tensor) -> Tensor:
        """The mean."""
        return self.conv_2(self.conv_1(self.conv_0(maps).relu()).relu())
