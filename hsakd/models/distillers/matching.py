"""Whether networks can learn from each other."""

from torch import nn

from hsakd.utils.errors import ConfigError


def check_same_outputs(
    one_key: str, one: nn.Module, other_key: str, other: nn.Module, branches: bool = True
) -> None:
    """Compare what two networks with branches give.

    Args:
        one_key: Config key of a network, for messages.
        one: A :class:`~hsakd.models.BranchedClassifier`.
        other_key: As ``one_key``.
        other: The network to compare it with.
        branches: Compare the numbers of branches too.

    Raises:
        ConfigError: They have other numbers of branches, classes or transforms, or none of the
            former.
    """
    if one.num_branches == 0 or other.num_branches == 0:
        key = one_key if one.num_branches == 0 else other_key
        raise ConfigError(
            f"{key} has no branches: accepted is e.g. branches=dict(type='AuxiliaryBranches') in "
            f'both {one_key} and {other_key}'
        )
    for what, of in (
        ('branches', lambda network: network.num_branches),
        ('classes', lambda network: network.head.num_classes),
        ('transforms', lambda network: network.transforms.num_transforms),
    ):
        if of(one) != of(other) and (branches or what != 'branches'):
            raise ConfigError(
                f'{one_key} has {of(one)} {what} and {other_key} {of(other)}: accepted are equal '
                'numbers, since each output of one learns from one of the other'
            )
    if repr(one.transforms) != repr(other.transforms):
        raise ConfigError(
            f'{one_key} has the transforms {one.transforms} and {other_key} {other.transforms}: '
            'accepted are the same ones, since both see the same images'
        )
