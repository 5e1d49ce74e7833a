import json
from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from hsakd.datasets import FewShotSubset
from hsakd.registry import HOOKS
from hsakd.utils.files import write_files


@HOOKS.register_module()
class FewShotRecordHook(Hook):
    """Writes which images are trained on to ``few_shot_indices.json`` in the work dir.

    It does so once, when training starts, and where the training data are a
    :class:`~hsakd.datasets.FewShotSubset` only. ``dataset.indices_file`` takes the file.
    """

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Write the record of the images of a few-shot subset."""
        dataset = runner.train_dataloader.dataset
        if isinstance(dataset, FewShotSubset):
            content = json.dumps(dataset.record()).encode()
            write_files({Path(runner.work_dir) / 'few_shot_indices.json': content}, force=True)
            runner.logger.info(
                f'{len(dataset)} of {dataset.num_images} training images, listed in '
                'few_shot_indices.json'
            )
