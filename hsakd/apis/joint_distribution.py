"""What a distiller's two networks say of images, for pictures of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from mmpretrain import ImageClassificationInferencer
from mmpretrain.models import ImageClassifier
from torch import Tensor, nn

from hsakd.datasets.image_folder import read_image
from hsakd.engine.checks import check_frozen_parts
from hsakd.models.distillers import OfflineDistiller
from hsakd.models.losses import KLDivergence
from hsakd.registry import DATASETS, MODELS
from hsakd.utils.checkpoint import load_network
from hsakd.utils.errors import ConfigError
from hsakd.utils.networks import has_teacher, image_channels, trained_networks
from hsakd.visualization.joint_distribution import JointDistributions

from .classifier import class_names, load_classifier


@dataclass
class Pair:
    """A student, its teacher, and one branch of each.

    Attributes:
        config: Of the distiller.
        distiller: With weights, in eval mode.
        student: Its network that learned.
        classifier: The student as a plain classifier, whose config reads files.
        branch: Number of the student's branch, from 0.
        teacher_branch: Number of the teacher's that it learns from.
    """

    config: Config
    distiller: OfflineDistiller
    student: nn.Module
    classifier: ImageClassifier
    branch: int
    teacher_branch: int

    @property
    def classes(self) -> list[str]:
        """Names of the classes; numbers where names lack."""
        return class_names(self.classifier)

    @property
    def transforms(self) -> list[str]:
        """Names of the M transforms; numbers where names lack."""
        transforms = self.student.transforms
        numbers = [str(j) for j in range(transforms.num_transforms)]
        return list(getattr(transforms, 'names', numbers))

    @property
    def names(self) -> tuple[str, str]:
        """What to call the branches of teacher and student."""
        return f'teacher, branch {self.teacher_branch + 1}', f'student, branch {self.branch + 1}'

    @torch.no_grad()
    def examine(self, titles: Sequence[str], inputs: Tensor) -> list[JointDistributions]:
        """The joint distributions of both branches for every copy of images.

        Args:
            titles: One an image.
            inputs: [B, C, H, W], normalized.
        """
        transforms = self.student.transforms
        m = transforms.num_transforms
        x = transforms(inputs)
        c_t = self.distiller.teacher_outputs(inputs, x).joint_logits[self.teacher_branch]
        c_s = self.student.outputs(x).joint_logits[self.branch]
        kl = KLDivergence(temperature=3.0)
        divergences = [kl(s, t).item() for s, t in zip(c_s.split(1), c_t.split(1), strict=True)]
        # [B, M, N, M]: image, its copy, class, transform
        joint = [c.softmax(1).unflatten(1, (-1, m)).unflatten(0, (-1, m)) for c in (c_t, c_s)]
        copies = shown_pixels(self.distiller.data_preprocessor, x).unflatten(0, (-1, m))
        return [
            JointDistributions(
                title,
                copies[i].numpy(),
                *(c[i].numpy() for c in joint),
                np.array(divergences[i * m : (i + 1) * m]),
            )
            for i, title in enumerate(titles)
        ]


def shown_pixels(preprocessor: nn.Module, inputs: Tensor) -> Tensor:
    """Normalized images [B, C, H, W] as they were, 0..255, [B, H, W, 3] of uint8.

    Other than three channels are shown by the first one, in gray.
    """
    if preprocessor._enable_normalize:
        inputs = inputs * preprocessor.std + preprocessor.mean
    if inputs.shape[1] != 3:
        inputs = inputs[:, :1].expand(-1, 3, -1, -1)
    return inputs.round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu()


def load_pair(config: Config, checkpoint: str, branch: int | None = None) -> Pair:
    """The two networks of an offline distiller.

    Args:
        config: Of the distiller, with ``model.teacher_ckpt``.
        checkpoint: The student's.
        branch: Number of its branch, from 1; None is the last.

    Raises:
        ConfigError: The config is of something else, or there is no such branch.
        CheckpointError: A checkpoint is missing or broken, or does not fit.
    """
    model = config.get('model') or {}
    wanted = 'a distiller with teacher and student'
    ConfigError.check(has_teacher(model), 'model', wanted, repr(model.get('type')))
    trained = 'a trained teacher, e.g. --cfg-options model.teacher_ckpt=FILE'
    ConfigError.check(model.get('teacher_ckpt'), 'model.teacher_ckpt', trained, None)
    classifier = load_classifier(checkpoint, config)
    model = model.to_dict()
    model.setdefault('data_preprocessor', config.get('data_preprocessor'))
    with DefaultScope.overwrite_default_scope(config.get('default_scope') or 'hsakd'):
        distiller = MODELS.build(model).eval()
    for part in distiller.frozen_parts:
        part.load()
    check_frozen_parts(distiller, config)
    (student,) = trained_networks(distiller).values()
    load_network(student, checkpoint, 'checkpoint')
    number = student.num_branches
    ok = number and (branch is None or 1 <= branch <= number)
    ConfigError.check(ok, '--branch', f"a number of the student's branches, 1..{number}", branch)
    index = (branch or number) - 1
    teachers = [t for s, t in getattr(distiller, 'branch_pairs', [(index, index)]) if s == index]
    return Pair(config, distiller, student, classifier, index, teachers[-1])


def read_images(pair: Pair, files: Sequence[Path]) -> tuple[list[str], Tensor]:
    """Names and normalized pixels [B, C, H, W] of images from files, through the test pipeline.

    Raises:
        DataError: One cannot be decoded.
    """
    channels = image_channels(pair.classifier.backbone)
    arrays = [read_image(file, channels) for file in files]
    inferencer = ImageClassificationInferencer(pair.classifier)
    (batch,) = inferencer.preprocess(arrays, batch_size=len(arrays))
    return [file.name for file in files], pair.classifier.data_preprocessor(batch)['inputs']


def test_images(pair: Pair, indices: Sequence[int]) -> tuple[list[str], Tensor]:
    """Titles and normalized pixels [B, C, H, W] of images of the config's test set.

    Raises:
        ConfigError: There is no such image.
    """
    with DefaultScope.overwrite_default_scope(pair.config.get('default_scope') or 'hsakd'):
        dataset = DATASETS.build(pair.config.test_dataloader.dataset)
    ok = all(0 <= index < len(dataset) for index in indices)
    ConfigError.check(ok, '--indices', f'numbers of images, 0..{len(dataset) - 1}', indices)
    batch = pseudo_collate([dataset[index] for index in indices])
    inputs = pair.distiller.data_preprocessor(batch)['inputs']
    labels = [dataset.get_data_info(index)['gt_label'] for index in indices]
    titles = [
        f'image {index} of the test set: {pair.classes[label]}'
        for index, label in zip(indices, labels, strict=True)
    ]
    return titles, inputs
