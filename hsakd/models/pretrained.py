"""``init_cfg`` of type ``Pretrained``: weights of a checkpoint, whole or not at all."""

from mmengine.logging import MMLogger
from mmengine.model import PretrainedInit
from mmengine.runner import CheckpointLoader
from torch import nn

from hsakd.registry import WEIGHT_INITIALIZERS
from hsakd.utils.checkpoint import checkpoint_weights, describe_mismatch, with_counters
from hsakd.utils.errors import CheckpointError
from hsakd.utils.foreign_keys import as_mmpretrain
from hsakd.utils.normalization import TrainedWith


@WEIGHT_INITIALIZERS.register_module(name='Pretrained')
class PretrainedWeights(PretrainedInit):
    """Starts a module from a checkpoint, where mmengine's would start it from whatever matches.

    A backbone takes the weights of a network's backbone, by the names of mmpretrain, torchvision or
    timm. A whole network takes what ``load_from`` would take.

    Args:
        checkpoint: File, or address of mmengine's such as ``torchvision://resnet50``.
        prefix: Of the names of the module's weights in the checkpoint; found by itself where None.
        map_location: Of ``torch.load``.
    """

    def __call__(self, module: nn.Module) -> None:
        """Load the weights; ``module.pretrained_with`` is what the checkpoint says of its data.

        Raises:
            CheckpointError: It cannot be read, or weights are missing from it.
        """
        from hsakd.engine.loading import load_what_fits, starting_weights

        logger = MMLogger.get_current_instance()
        content = CheckpointLoader.load_checkpoint(self.checkpoint, self.map_location, logger=None)
        where = f'init_cfg.checkpoint={str(self.checkpoint)!r}'
        module.pretrained_with = TrainedWith.of(content, where)
        if hasattr(module, 'backbone') and not self.prefix:
            weights = starting_weights(module, content, self.checkpoint)
            load_what_fits(module, weights, self.checkpoint, logger)
            return
        weights = with_counters(checkpoint_weights(content))
        wanted, found = module.state_dict(), {}
        prefixes = [f'{self.prefix.rstrip(".")}.'] if self.prefix else ['', 'backbone.']
        for named in (weights, as_mmpretrain(weights) or {}):
            for prefix in prefixes:
                inside = {
                    k.removeprefix(prefix): v for k, v in named.items() if k.startswith(prefix)
                }
                found = max(found, inside, key=lambda weights: len(wanted.keys() & weights.keys()))
        if not wanted.keys() & found.keys() and not hasattr(module, 'out_indices'):
            return  # a block, such as RepVGG's, to which a backbone hands its own init_cfg
        # A deeper network has all the weights of a shallower one, and more in the same stages.
        stages = {name.split('.')[0] for name in wanted}
        found = {name: value for name, value in found.items() if name.split('.')[0] in stages}
        mismatch = describe_mismatch(wanted, found)
        expected = f'weights of a {type(module).__name__} as in the config'
        CheckpointError.check(not mismatch, where, expected, mismatch)
        module.load_state_dict(found)
        logger.info(f'{where}: {len(found)} weights loaded')
