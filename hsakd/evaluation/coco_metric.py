import contextlib
import io

from mmdet.evaluation import CocoMetric as MMDetCocoMetric

from hsakd.registry import METRICS


@METRICS.register_module()
class CocoMetric(MMDetCocoMetric):
    """mmdet's ``CocoMetric``, of the images that were tested.

    mmdet's takes all images of its file, so that those which the data set leaves out
    (``skip_bad_images``, ``indices``) count as images in which nothing was found. The boxes are
    those of the file, also where the data set drops or clips some.
    """

    def __init__(self, *args, **kwargs) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
            super().__init__(*args, **kwargs)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """See mmdet's.

        Args:
            results: A pair (ground truth, predictions) an image.
        """
        self.img_ids = [predictions['img_id'] for _, predictions in results]
        return super().compute_metrics(results)
