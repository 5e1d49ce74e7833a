"""What a branch of teacher and student says of an image: classes and transforms together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.patches import Rectangle

from .style import COLORS, new_figure, png

#: Classes and copies shown of an image, at most.
_MAX_CLASSES, _MAX_COPIES = 10, 6


@dataclass
class JointDistributions:
    """One image, as one branch of two networks sees it.

    Attributes:
        title: Of the image.
        copies: The image under each of the M transforms [M, H, W, 3], uint8.
        teacher: Joint probabilities [M, N, M] of (class, transform) for each copy.
        student: The same.
        divergences: KL_3(S || T) of each copy [M].
    """

    title: str
    copies: np.ndarray
    teacher: np.ndarray
    student: np.ndarray
    divergences: np.ndarray


def draw_joint_distributions(
    images: Sequence[JointDistributions],
    classes: Sequence[str],
    transforms: Sequence[str],
    networks: tuple[str, str],
) -> bytes:
    """One block an image: its copies, and under each what teacher and student say of it.

    Classes are those that the teacher finds likeliest over all copies, ten at most, and copies six
    at most, evenly chosen. A frame marks the transform that was applied.

    Args:
        images: One or more.
        classes: Names of the N classes.
        transforms: Names of the M transforms.
        networks: What to call teacher and student.
    """
    shown = min(len(classes), _MAX_CLASSES)
    m = len(transforms)
    copies = np.linspace(0, m - 1, min(m, _MAX_COPIES)).round().astype(int)
    # Inches, so that the labels have room.
    vertical = m > 8 or max(map(len, transforms)) > 4
    panel = max((0.15 if vertical else 0.3) * m, 1.3)
    heat = max(0.15 * shown, 1.1)
    width = max(panel * len(copies) + 0.08 * max(map(len, classes)) + 1.6, 4)
    height = 2 * heat + 2.4 + (0.06 * max(map(len, transforms)) if vertical else 0)
    figure = new_figure(width, height * len(images))
    blocks = figure.subfigures(len(images), 1, squeeze=False)[:, 0]
    for block, image in zip(blocks, images, strict=True):
        chosen = np.argsort(-image.teacher.sum(axis=(0, 2)), kind='stable')[:shown]
        axes = block.subplots(3, len(copies), squeeze=False, height_ratios=[1, heat, heat])
        _draw_image(axes, image, copies, chosen, [classes[k] for k in chosen])
        letters = int(11 * width)
        title = image.title if len(image.title) <= letters else f'…{image.title[-letters:]}'
        block.suptitle(title, fontsize=10, x=0.02, ha='left')
        for j, column in zip(copies, axes.T, strict=True):
            column[0].set_title(transforms[j], fontsize=9, pad=3)
            column[2].set_xticks(range(m), transforms, rotation=90 if vertical else 0)
        for row, name in enumerate(networks, 1):
            axes[row, 0].set_ylabel(name, fontsize=8)
        bar = block.colorbar(axes[1, 0].images[0], ax=axes[1:], shrink=0.8, aspect=25, pad=0.02)
        bar.set_label('probability of (class, transform)', fontsize=8)
        bar.ax.tick_params(labelsize=7)
    return png(figure)


def _draw_image(
    axes: np.ndarray,
    image: JointDistributions,
    copies: Sequence[int],
    classes: Sequence[int],
    names: Sequence[str],
) -> None:
    """Draw to axes [3, copies]: the copies, the teacher's matrices and the student's."""
    # Square roots, so that small probabilities can be told from none.
    scale = PowerNorm(0.5, vmin=0, vmax=max(image.teacher.max(), image.student.max()))
    for position, (j, column) in enumerate(zip(copies, axes.T, strict=True)):
        column[0].imshow(image.copies[j], interpolation='nearest')
        column[0].set_axis_off()
        for panel, of in zip(column[1:], (image.teacher, image.student), strict=True):
            panel.imshow(of[j, classes], cmap='Blues', norm=scale, aspect='auto')
            panel.tick_params(labelsize=7, length=0)
            panel.set_xticks([])
            panel.set_yticks(range(len(names)), [] if position else names)
            applied = Rectangle((j - 0.5, -0.5), 1, len(names), fill=False, edgecolor=COLORS[1])
            applied.set(clip_on=False, zorder=3, linewidth=1)
            panel.add_patch(applied)
        column[2].set_title(rf'$KL_3$ = {image.divergences[j]:.2f}', fontsize=8, pad=3)
