import torch
from mmengine.model import ModuleList
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor

from hsakd.models.backbones.stages import expose_stages
from hsakd.registry import MODELS


def class_labels(data_samples: list[DataSample]) -> Tensor:
    """Ground-truth class labels [N] of a batch."""
    return torch.cat([sample.gt_label for sample in data_samples])


@MODELS.register_module()
class BranchedClassifier(ImageClassifier):
    """An mmpretrain classifier, with or without auxiliary branches.

    Trained by itself it is the plain baseline: its own head, on unrotated images. Without
    ``branches.*`` and ``joint_heads.*`` its state dict is that of an mmpretrain
    ``ImageClassifier``.

    Args:
        backbone: Backbone config.
        neck: Config of the pooling before the head.
        head: Config of the head, with ``num_classes`` N, ``in_channels`` and ``loss`` (CE on f).
        branches: Config of the auxiliary branches; None for a plain network.
        transforms: Config of the M self-supervision transforms.
        data_preprocessor: Config of mmpretrain's ``ClsDataPreprocessor``.
        init_cfg: Initialisation config.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        branches: dict | None = None,
        transforms: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(
            backbone=MODELS.build(backbone),
            neck=MODELS.build(neck),
            head=MODELS.build(head),
            data_preprocessor=build_preprocessor(data_preprocessor),
            init_cfg=init_cfg,
        )
        self.transforms = MODELS.build(transforms or dict(type='Rotation'))
        self.branches = None
        if branches is not None:
            expose_stages(self.backbone)
            self.branches = MODELS.build(dict(branches, backbone=self.backbone))
            # A branch ends as the backbone does, so its embedding has the size the head takes.
            joint_head = dict(
                type='JointHead',
                num_classes=self.head.num_classes,
                num_transforms=self.transforms.num_transforms,
                in_channels=self.head.in_channels,
            )
            self.joint_heads = ModuleList(MODELS.build(joint_head) for _ in self.branches)

    @property
    def num_branches(self) -> int:
        """L, the number of auxiliary branches."""
        return 0 if self.branches is None else len(self.branches)

    def logits(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """f(x) and all c_l(x) of images taken as they are.

        Args:
            inputs: [B, C, H, W].

        Returns:
            Logits [B, N] of the head, and joint logits [B, M * N] of each branch.
        """
        feature_maps = self.backbone(inputs)
        logits = self.head(self.neck(feature_maps[-1:]))
        if self.branches is None:
            return logits, ()
        embeddings = self.branches(feature_maps)
        return logits, tuple(h(e) for h, e in zip(self.joint_heads, embeddings, strict=True))

    def forward(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None, mode: str = 'tensor'
    ) -> tuple[Tensor, tuple[Tensor, ...]] | list[DataSample] | dict[str, Tensor]:
        """One entry for ``mode`` 'tensor' (:meth:`logits`), 'predict' and 'loss'."""
        if mode == 'tensor':
            return self.logits(inputs)
        return super().forward(inputs, data_samples, mode)

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """CE(f(x_0), y) alone: the plain baseline.

        Args:
            inputs: [N, C, H, W], not rotated.
            data_samples: With ``gt_label``.
        """
        logits = self.head(self.extract_feat(inputs))
        return dict(loss_cls=self.head.loss_module(logits, class_labels(data_samples)))

    def val_step(self, data: dict) -> list[DataSample]:
        """Predictions of the head and, for the metrics, of each branch."""
        return self.predict_with_branches(**self.data_preprocessor(data, False))

    test_step = val_step

    @torch.no_grad()
    def predict_with_branches(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None
    ) -> list[DataSample]:
        """What 'predict' gives, plus two fields where there are branches.

        ``pred_joint_label`` [L, M] is each branch's joint label of each transformed copy,
        ``pred_branch_label`` [L] the class that each branch's joint distribution implies for the
        image as it is.

        Args:
            inputs: [N, C, H, W], not rotated.
            data_samples: To write to.
        """
        data_samples = self.predict(inputs, data_samples)
        if self.branches is None:
            return data_samples
        m = self.transforms.num_transforms
        _, joint_logits = self.logits(self.transforms(inputs))
        joint = torch.stack([c.argmax(1).unflatten(0, (-1, m)) for c in joint_logits], dim=1)
        heads = zip(self.joint_heads, joint_logits, strict=True)
        classes = torch.stack([h.class_scores(c[::m]).argmax(1) for h, c in heads], dim=1)
        for sample, joint_label, branch_label in zip(data_samples, joint, classes, strict=True):
            sample.set_field(joint_label, 'pred_joint_label')
            sample.set_field(branch_label, 'pred_branch_label')
        return data_samples


def build_preprocessor(cfg: dict | None) -> torch.nn.Module:
    """Mmpretrain's ``ClsDataPreprocessor``, unless ``cfg`` names another."""
    return MODELS.build(dict(dict(type='mmpretrain.ClsDataPreprocessor'), **(cfg or {})))
