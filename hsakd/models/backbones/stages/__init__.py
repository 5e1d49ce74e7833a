"""How a backbone is taken apart into stages, and its last stage is made again, for the branches.

Two functions have one implementation per backbone family, ``split_stages`` and
``repeat_last_stage``. Another family joins with ``register``::

    @split_stages.register
    def _(backbone: MyBackbone) -> Stages: ...

    @repeat_last_stage.register
    def _(backbone: MyBackbone) -> nn.Module: ...
"""

from . import (  # noqa: F401  each registers its families
    convnext,
    inverted_residual,
    repvgg,
    resnet,
    shufflenet,
    staged,
    swin,
    vgg,
)
from .interface import (
    Features,
    Stages,
    find_stages,
    fresh_copy,
    repeat_last_stage,
    run_before_relu,
    run_stages,
    settings_of,
    split_stages,
)

__all__ = [
    'Features',
    'Stages',
    'find_stages',
    'fresh_copy',
    'repeat_last_stage',
    'run_before_relu',
    'run_stages',
    'settings_of',
    'split_stages',
]
