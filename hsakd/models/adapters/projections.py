from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
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


class MLP(nn.ModuleList):
    """Linear layers with ReLU between them.

    Args:
        *widths: Of the input, and of what each layer gives.
    """

    def __init__(self, *widths: int) -> None:
        super().__init__(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(self, h: Tensor) -> Tensor:
        """[B, first width] to [B, last width]."""
        *first, last = self
        for layer in first:
            h = layer(h).relu()
        return last(h)


class Paraphraser(nn.Module):
    """A teacher's map to a factor of half the channels, and back.

    Args:
        channels: T of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        t, f = channels, channels // 2
        for index, pair in enumerate(((t, t), (t, f), (f, f))):
            self.add_module(f'enc_{index}', nn.Conv2d(*pair, 3, padding=1))
        for index, pair in enumerate(((f, f), (f, t), (t, t))):
            self.add_module(f'dec_{index}', nn.ConvTranspose2d(*pair, 3, padding=1))

    def forward(self, maps: Tensor) -> Tensor:
        """Factor [B, T / 2, H, W] of a map [B, T, H, W]."""
        return _leaky(maps, self.enc_0, self.enc_1, self.enc_2)

    def reconstructed(self, maps: Tensor) -> Tensor:
        """A map [B, T, H, W] by its factor."""
        return _leaky(self(maps), self.dec_0, self.dec_1, self.dec_2)


class Translator(nn.Sequential):
    """A student's map [B, S, H, W] to a factor [B, F, H, W].

    Args:
        channels: S.
        factor: Channels F of the factor.
    """

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        for index, pair in enumerate(((channels,) * 2, (channels, factor), (factor,) * 2)):
            self.add_module(f'conv_{index}', nn.Conv2d(*pair, 3, padding=1))
            self.add_module(f'bn_{index}', nn.BatchNorm2d(pair[1]))
            self.add_module(f'relu_{index}', nn.LeakyReLU(0.1))


def _leaky(x: Tensor, *layers: nn.Module) -> Tensor:
    for layer in layers:
        x = F.leaky_relu(layer(x), 0.1)
    return x


class SelfTeacher(nn.Module):
    """Logits [B, K] of several maps [B, C, H, W] of one side together.

    Args:
        channels: C of each.
        classes: K.
    """

    def __init__(self, channels: Sequence[int], classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(sum(channels), channels[0], 1, bias=False)
        self.fc = nn.Linear(channels[0], classes)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The logits."""
        return self.fc(self.conv(torch.cat([*maps], dim=1)).mean((2, 3)))
