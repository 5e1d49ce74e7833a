"""Teacher, plain student and distilled student, side by side."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hsakd.utils.errors import DataError


def read_scalars(path: str | Path) -> list[dict[str, float]]:
    """Records of mmengine's ``vis_data/scalars.json``, also of one that is being written.

    Raises:
        DataError: The file cannot be read, or a line, other than a last one that is cut, is broken.
    """
    records = []
    try:
        lines = Path(path).read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise DataError(f'{str(path)!r}: {error.strerror}') from error
    for number, line in enumerate(lines, 1):
        if not line.endswith(b'\n'):
            break
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not (isinstance(record, dict) and 'step' in record):
            raise DataError(
                f'{str(path)!r}, line {number}: {line[:40]!r}; accepted is a JSON object with '
                '"step" a line, as mmengine writes it'
            )
        records.append(record)
    return records


@dataclass
class Run:
    """One training and what came of it.

    Attributes:
        command: What a user would type to repeat it.
        seconds: Wall-clock time of that command.
        history: Records as of :func:`read_scalars`; those of evaluations count epochs as ``step``.
        parameters: Parameters of the network at inference, without branches.
        predictions: Predicted classes [N] of the test images.
    """

    command: str
    seconds: float
    history: list[dict[str, float]]
    parameters: int
    predictions: np.ndarray

    def curve(self, key: str) -> tuple[list[float], list[float]]:
        """Epochs, and the values of ``key`` after them."""
        records = [record for record in self.history if key in record]
        return [r.get('epoch', r['step']) for r in records], [r[key] for r in records]

    def last(self, key: str) -> float:
        """The value of ``key`` after the last epoch."""
        return self.curve(key)[1][-1]

    @property
    def top1(self) -> float:
        """Percent of the test images that the network's own head got right after the last epoch."""
        return self.last('accuracy/top1')


@dataclass
class Comparison:
    """Three runs a seed, in the order of ``seeds``.

    Attributes:
        teacher: Runs of the network with auxiliary branches that the student learns from.
        plain: Runs of the student's network by itself.
        distilled: Runs of the same network with the teacher.
        networks: Name of the network of each of the three.
        seeds: One a run.
        train_size: Number of training images.
        images: Test images [N, H, W, 3], uint8.
        labels: Their classes [N].
    """

    teacher: list[Run]
    plain: list[Run]
    distilled: list[Run]
    networks: tuple[str, str, str]
    seeds: Sequence[int]
    train_size: int
    images: np.ndarray
    labels: np.ndarray

    def __iter__(self) -> Iterator[tuple[str, list[Run]]]:
        """Label and runs of the three."""
        roles = ('teacher', 'plain student', 'distilled student')
        for role, network, runs in zip(
            roles, self.networks, (self.teacher, self.plain, self.distilled), strict=True
        ):
            yield f'{role} {network}', runs

    @property
    def gains(self) -> np.ndarray:
        """Top-1 of the distilled student minus that of the plain one, points, by seed."""
        pairs = zip(self.distilled, self.plain, strict=True)
        return np.array([distilled.top1 - plain.top1 for distilled, plain in pairs])

    def only_right(self) -> tuple[np.ndarray, np.ndarray]:
        """Test images right only with distillation, and only without; indices, first seed."""
        distilled = self.distilled[0].predictions == self.labels
        plain = self.plain[0].predictions == self.labels
        return np.flatnonzero(distilled & ~plain), np.flatnonzero(plain & ~distilled)


def mean_std(values: Sequence[float], form: str = '.2f') -> str:
    """Mean and, of several values, their sample standard deviation."""
    text = f'{np.mean(values):{form}}'
    if len(values) > 1:
        text += f' ± {np.std(values, ddof=1):{form.lstrip("+")}}'
    return text
