from torch import Tensor

from hsakd.registry import MODELS

from .transform_set import TransformSet


@MODELS.register_module()
class CombinedTransforms(TransformSet):
    """Every transform of one set under every transform of another: M = M_1 * M_2.

    Transform ``M_2 * j_1 + j_2`` is j_1 of the first set, then j_2 of the second.

    Args:
        first: Config of the first set.
        second: Config of the second.
    """

    def __init__(self, first: dict, second: dict) -> None:
        self.first: TransformSet = MODELS.build(first)
        self.second: TransformSet = MODELS.build(second)
        self.num_transforms = self.first.num_transforms * self.second.num_transforms

    @property
    def names(self) -> list[str]:
        """The names of both transforms of each combination."""
        return [f'{one} {other}' for one in self.first.names for other in self.second.names]

    def transform(self, images: Tensor, j: int) -> Tensor:
        """One of the first set, then one of the second."""
        first, second = divmod(j, self.second.num_transforms)
        return self.second.transform(self.first.transform(images, first), second)

    def __repr__(self) -> str:
        return f'CombinedTransforms of {self.first} and {self.second}'
