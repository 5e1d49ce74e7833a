from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AttentionFusion(nn.Module):
    """A student's map joined with what comes from the level above, at a teacher's channels.

    Args:
        student: Channels of the student's map.
        middle: Channels in which levels are joined.
        teacher: Channels of the teacher's map.
        fuse: Whether there is a level above.
    """

    def __init__(self, student: int, middle: int, teacher: int, fuse: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(student, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.att = nn.Conv2d(2 * middle, 2, 1) if fuse else None
        self.conv2 = nn.Conv2d(middle, teacher, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(teacher)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_uniform_(conv.weight, a=1)

    def forward(self, student: Tensor, above: Tensor | None, side: int) -> tuple[Tensor, Tensor]:
        """Output [B, T, side, side] and what the level below is given.

        Args:
            student: Map [B, S, H, H].
            above: Of the level above [B, middle, h, h]; None at the last one.
            side: Of the teacher's map.
        """
        x = self.bn1(self.conv1(student))
        if self.att is not None:
            above = F.interpolate(above, x.shape[2:], mode='nearest')
            gates = self.att(torch.cat([x, above], 1)).sigmoid()
            x = x * gates[:, :1] + above * gates[:, 1:]
        if x.shape[2] != side:
            x = F.interpolate(x, (side, side), mode='nearest')
        return self.bn2(self.conv2(x)), x


class FusionModule(nn.Module):
    """Logits [B, K] of two maps [B, C, H, W] of two parts of a network.

    Args:
        channels: C.
        classes: K.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        both = 2 * channels
        self.depthwise = nn.Conv2d(both, both, 3, padding=1, groups=both, bias=False)
        self.norm_a = nn.BatchNorm2d(both)
        self.pointwise = nn.Conv2d(both, channels, 1, bias=False)
        self.norm_b = nn.BatchNorm2d(channels)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The logits."""
        x = self.norm_a(self.depthwise(torch.cat([*maps], dim=1))).relu()
        return self.classifier(self.norm_b(self.pointwise(x)).relu().mean((2, 3)))
