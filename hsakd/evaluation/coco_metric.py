from mmdet.evaluation import CocoMetric as MMDetCocoMetric

from hsakd.datasets.detection.coco import coco_api, read_coco
from hsakd.registry import METRICS


@METRICS.register_module()
class CocoMetric(MMDetCocoMetric):
    """COCO's metric of the images that were tested.

    mmdet's takes all images of its file, so that those which the data set leaves out
    (``skip_bad_images``, ``indices``) count as images in which nothing was found. The boxes are
    those of the file, also where the data set drops or clips some. A detector that finds nothing
    at all has an average precision of 0 and not none.
    """

    def __init__(self, ann_file: str | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        if ann_file:
            content = read_coco(ann_file)
            if kwargs.get('sort_categories'):
                content['categories'].sort(key=lambda category: category['id'])
            self._coco_api = coco_api(content)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the metrics of the images in ``results``.

        Args:
            results: A pair (ground truth, predictions) an image.
        """
        self.img_ids = [predictions['img_id'] for _, predictions in results]
        metrics = super().compute_metrics(results)
        if not metrics and not self.format_only:  # mmdet leaves out what found nothing
            items = self.metric_items or ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
            metrics = {f'{metric}_{item}': 0.0 for metric in self.metrics for item in items}
        return metrics
