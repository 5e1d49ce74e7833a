"""Predictions for images from files."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmpretrain import ImageClassificationInferencer
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from mmpretrain.visualization import UniversalVisualizer

from hsakd.datasets.base import IMAGE_EXTENSIONS, files_below
from hsakd.datasets.image_folder import read_image
from hsakd.utils.errors import DataError, UserError
from hsakd.utils.files import write_files
from hsakd.utils.networks import image_channels

#: Small pictures are enlarged until their short edge has the first of these numbers of pixels or
#: their long edge the second, since text has to be read on them.
_ENLARGED = 400, 1600


@dataclass(frozen=True)
class Prediction:
    """The best classes of one image, best first; ``classes`` are numbers where names lack."""

    image: Path
    classes: list[str]
    scores: list[float]


def find_images(path: str | Path) -> list[Path]:
    """One image, or those of a folder and its subfolders but hidden ones, sorted.

    Raises:
        DataError: There is none.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return [path]
    DataError.check(path.is_dir(), repr(str(path)), 'an image or a folder', 'no such file')
    files = [path / name for name in files_below(path)]
    images = sorted(file for file in files if file.suffix.lower() in IMAGE_EXTENSIONS)
    wanted = f'images ({", ".join(IMAGE_EXTENSIONS)}) in the folder'
    DataError.check(images, repr(str(path)), wanted, 'none')
    return images


def readable_images(images: Iterable[Path]) -> tuple[list[Path], dict[Path, DataError]]:
    """Decode every image once.

    Returns:
        Those that can be decoded, and what is wrong with each of the others.
    """
    good, bad = [], {}
    for image in images:
        try:
            read_image(image)
            good.append(image)
        except DataError as error:
            bad[image] = error
    return good, bad


def predict(
    classifier: ImageClassifier,
    images: Sequence[Path],
    topk: int = 5,
    pictures: Mapping[Path, Path] | None = None,
    batch_size: int = 32,
) -> Iterator[Prediction]:
    """Classify images of any size, each through the test pipeline of the classifier's config.

    Args:
        classifier: As :func:`~hsakd.apis.load_classifier` gives it, on any device.
        images: Files.
        topk: How many classes to tell of each; at most all.
        pictures: Files (.png) to draw each image and its predictions to. Folders are made, and
            earlier pictures replaced.
        batch_size: Images at a time.

    Yields:
        One prediction an image, in order.

    Raises:
        DataError: An image cannot be decoded, or a picture cannot be written.
    """
    inferencer = ImageClassificationInferencer(classifier)
    visualizer = UniversalVisualizer()
    names = inferencer.classes or [str(i) for i in range(classifier.head.num_classes)]
    channels = image_channels(classifier.backbone)
    for start in range(0, len(images), batch_size):
        paths = images[start : start + batch_size]
        arrays = [read_image(path, channels) for path in paths]
        (batch,) = inferencer.preprocess(arrays, batch_size=len(arrays))
        samples = inferencer.forward(batch)
        for path, array, sample in zip(paths, arrays, samples, strict=True):
            scores, labels = sample.pred_score.topk(min(topk, len(names)))
            if pictures is not None:
                sample.set_pred_label(labels)
                _draw(visualizer, array, sample, inferencer.classes, pictures[path])
            yield Prediction(path, [names[i] for i in labels], scores.tolist())


def save_predictions(predictions: Iterable[Prediction], path: str | Path, folder: Path) -> None:
    """Write predictions, or detections, to a file, which replaces an earlier one.

    A .json file is a list with an object for each image: ``image``, ``classes``, ``scores`` and,
    of a detector, ``boxes``. A .csv file has a line for each class: image, class, score and, of a
    detector, x1, y1, x2, y2.

    Args:
        predictions: Of :func:`predict` or :func:`~hsakd.apis.detect`.
        path: The file.
        folder: Images are named by their paths in it.

    Raises:
        UserError: It is of another kind, or cannot be written.
    """
    kind, where = Path(path).suffix.lower(), f'file for predictions {str(path)!r}'
    UserError.check(kind in ('.json', '.csv'), where, 'a name that ends in .json or .csv', kind)
    found = [vars(p) | dict(image=str(p.image.relative_to(folder))) for p in predictions]
    if kind == '.json':
        text = json.dumps(found, indent=1)
    else:
        boxed = any('boxes' in one for one in found)
        head = ['image', 'class', 'score', *(['x1', 'y1', 'x2', 'y2'] if boxed else [])]
        file = io.StringIO()
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(head)
        for one in found:
            boxes = one.get('boxes') or [()] * len(one['classes'])
            for name, score, box in zip(one['classes'], one['scores'], boxes, strict=True):
                writer.writerow([one['image'], name, score, *box])
        text = file.getvalue()
    write_files({path: text.encode()}, force=True)


def enlargement(image: np.ndarray) -> float:
    """By how much to enlarge an image so that text on it can be read; 1 for large ones."""
    short, long = sorted(image.shape[:2])
    return max(1, min(_ENLARGED[0] / short, _ENLARGED[1] / long))


def _draw(
    visualizer: UniversalVisualizer,
    image: np.ndarray,
    sample: DataSample,
    classes: Sequence[str] | None,
    file: Path,
) -> None:
    try:
        visualizer.visualize_cls(
            image[..., ::-1],
            sample,
            classes=classes,
            draw_gt=False,
            resize=round(min(image.shape[:2]) * enlargement(image)),
            out_file=str(file),
        )
    except OSError as error:
        raise DataError.expected(str(file), 'a file that can be written', error.strerror) from error
