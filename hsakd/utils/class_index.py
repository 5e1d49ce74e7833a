import numpy as np
from torch import Tensor

from hsakd.utils.errors import ConfigError


class ClassIndex:
    """Draws training images of the class of given ones, and of other classes.

    Args:
        labels: The class [n] of every training image.

    Attributes:
        order: Images sorted by class.
        group: Number of the class of each image, among those that have images.
        counts: Images of each class.
        starts: Place in ``order`` of the first image of each class.
    """

    def __init__(self, labels: Tensor) -> None:
        numbers = labels.numpy()
        self.order = np.argsort(numbers, kind='stable')
        _, self.group, self.counts = np.unique(numbers, return_inverse=True, return_counts=True)
        self.starts = np.cumsum(self.counts) - self.counts

    def others(
        self, own: np.ndarray, number: int, random: np.random.Generator, replace: bool = False
    ) -> np.ndarray:
        """Images [B, number] of other classes than those of images [B].

        Args:
            own: By their numbers.
            number: How many for each image.
            random: What draws.
            replace: Whether one may come twice, as it has to where there are fewer.

        Raises:
            ConfigError: There is one class alone.
        """
        expected = 'images of two or more classes, since the method needs others'
        ConfigError.check(len(self.counts) > 1, 'train_dataloader.dataset', expected, 'one class')
        found, total = np.empty((len(own), number), dtype=np.int64), len(self.order)
        for row, group in zip(found, self.group[own], strict=True):
            rest = total - self.counts[group]
            place = random.choice(rest, number, replace or number > rest, shuffle=False)
            row[:] = self.order[(self.starts[group] + self.counts[group] + place) % total]
        return found

    def same(self, own: np.ndarray, random: np.random.Generator, number: int = 1) -> np.ndarray:
        """Images [B, number] of the class of images [B], which may be among them."""
        group = self.group[own][:, None]
        place = random.integers(self.counts[group], size=(len(own), number))
        return self.order[self.starts[group] + place]

    def of_group(self, group: int, number: int, random: np.random.Generator) -> np.ndarray:
        """Different images [number] of a class."""
        place = random.choice(self.counts[group], number, replace=False)
        return self.order[self.starts[group] + place]
