from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric

from hsakd.registry import METRICS


@METRICS.register_module()
class BranchAccuracy(BaseMetric):
    """Accuracy (percent) of each auxiliary branch l, counted from 1.

    * ``branch_l/joint_top1``: over the M * N joint labels, on all M transformed copies.
    * ``branch_l/class_top1``: over the N classes, on the images as they are; the class
      distribution is the joint one summed over transforms.

    Nothing is reported for networks without branches. The accuracies of the network's own head are
    mmpretrain's ``accuracy/top1`` and ``accuracy/top5``.

    Args:
        collect_device: Device for gathering over ranks.
        prefix: Put before the names.
    """

    default_prefix = ''

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Note which labels of each branch are right, [L, M] joint and [L] class, an image."""
        for sample in data_samples:
            if 'pred_joint_label' not in sample:
                self.results.append(None)
                continue
            joint = sample['pred_joint_label'].cpu()
            label = sample['gt_label'].cpu()
            m = joint.shape[1]
            self.results.append(
                (joint == label * m + torch.arange(m), sample['pred_branch_label'].cpu() == label)
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Average over images."""
        results = [result for result in results if result is not None]
        if not results:
            return {}
        joint = torch.stack([right for right, _ in results]).double().mean(dim=(0, 2))
        classes = torch.stack([right for _, right in results]).double().mean(dim=0)
        metrics = {}
        for index in range(len(joint)):
            metrics[f'branch_{index + 1}/class_top1'] = 100 * classes[index].item()
            metrics[f'branch_{index + 1}/joint_top1'] = 100 * joint[index].item()
        return metrics
