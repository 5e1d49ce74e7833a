import copy
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from mmengine.model import ModuleList
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import ImageClassifier
from mmpretrain.models.heads import ClsHead, LinearClsHead
from mmpretrain.models.losses import AsymmetricLoss, FocalLoss, LabelSmoothLoss
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from hsakd.models.backbones.stages import Stages, find_stages, run_stages
from hsakd.models.backbones.starting_weights import starting_weights
from hsakd.models.data_preprocessor import DataPreprocessor
from hsakd.models.method import Batch, Method
from hsakd.models.necks.base import pool
from hsakd.registry import MODELS
from hsakd.utils.errors import ConfigError
from hsakd.utils.networks import image_channels


class Outputs(NamedTuple):
    """What one pass of B images through a network gives.

    Attributes:
        logits: f(x), logits [B, N] of the network's own head.
        joint_logits: c_l(x), joint logits [B, M * N] of each branch; empty without branches.
        maps: Feature maps f0, f1, ... of stem and stages [B, C_l, H_l, W_l]; empty unless tapped.
        pre_activations: For each map what enters its last ReLU; empty unless tapped.
        embedding: Pooled features [B, D] that the head takes; None unless tapped.
        branch_embeddings: The same of each branch; empty unless tapped.
        last_maps: What is pooled [B, C, H, W], by the network itself and then by each branch;
            empty unless tapped.
    """

    logits: Tensor
    joint_logits: tuple[Tensor, ...] = ()
    maps: tuple[Tensor, ...] = ()
    pre_activations: tuple[Tensor, ...] = ()
    embedding: Tensor | None = None
    branch_embeddings: tuple[Tensor, ...] = ()
    last_maps: tuple[Tensor, ...] = ()

    @property
    def shapes(self) -> 'Outputs':
        """Shapes of the outputs without the batch, e.g. [C, H, W] of a map."""
        return tree_map_only(Tensor, lambda output: output.shape[1:], self)


#: The outputs that a network gives only where they are asked for.
TAPS = ('maps', 'pre_activations', 'embedding', 'branch_embeddings', 'last_maps')


#: Classes of a network that leaves them open, until its data or its weights say how many they are:
#: as many as networks of others have by default.
_OPEN_CLASSES = 1000


@MODELS.register_module()
class BranchedClassifier(Method, ImageClassifier):
    """An mmpretrain classifier, with or without auxiliary branches.

    Trained by itself it is the plain baseline: its own head, on unrotated images. Without
    ``branches.*`` and ``joint_heads.*`` its state dict is that of an mmpretrain
    ``ImageClassifier``.

    Args:
        backbone: Backbone config.
        neck: Config of the pooling before the head; None where the backbone pools.
        head: Config of the head, with ``num_classes`` N, ``in_channels`` and ``loss`` (CE on f),
            whose class weights and label smoothing hold for the joint task too. N=None is open:
            our runner takes it from the training data, else it is that of the first weights that
            are loaded.
        branches: Config of the auxiliary branches; None for a plain network.
        transforms: Config of the M self-supervision transforms.
        aggregate: Branches, numbers from 0 or 'all', whose :meth:`aggregated_logits` are what the
            network predicts, instead of its head's: M passes through network and branches where
            the head takes one through the network. None of them by default, which costs nothing.
        loss_weights: Factors of the terms, see :class:`~hsakd.models.losses.LossWeights`.
        train_cfg: ``augments`` of batches, where mmpretrain's configs have them; the same as
            ``data_preprocessor.batch_augments``.
        data_preprocessor: Config of mmpretrain's ``ClsDataPreprocessor``.
        init_cfg: Initialization config.
    """

    default_weights = dict(loss_cls=1.0)

    def __init__(
        self,
        backbone: dict,
        neck: dict | None,
        head: dict,
        branches: dict | None = None,
        transforms: dict | None = None,
        aggregate: Sequence[int] | Literal['all'] | None = None,
        loss_weights: dict | None = None,
        train_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if train_cfg:
            data_preprocessor = {'batch_augments': train_cfg, **(data_preprocessor or {})}
        is_open = head.get('num_classes', 0) is None
        head = dict(head, num_classes=_OPEN_CLASSES) if is_open else head
        super().__init__(
            backbone=MODELS.build(backbone),
            neck=MODELS.build(neck) if neck else None,
            head=MODELS.build(head),
            data_preprocessor=build_preprocessor(data_preprocessor),
            init_cfg=init_cfg,
        )
        self.open_classes = is_open  # until the number of classes is known
        self.register_load_state_dict_pre_hook(_settle_by_weights)
        ConfigError.check(
            isinstance(self.head, ClsHead) and type(self.head).loss is ClsHead.loss,
            'model.*.head.type',
            'a head of one class an image, whose loss compares its scores with labels, such as '
            'mmpretrain.LinearClsHead (any with model.type=mmpretrain.ImageClassifier)',
            type(self.head).__name__,
        )
        start = starting_weights(self.backbone)
        if type(self.head) is LinearClsHead and 'init_cfg' not in head:
            self.head.init_cfg = start.head
        ConfigError.check(
            isinstance(transforms, Mapping | None),
            'model.*.transforms',
            "a dict such as dict(type='Rotation')",
            repr(transforms),
        )
        self.transforms = MODELS.build(transforms or dict(type='Rotation'))
        self.branches = None
        if branches is not None:
            self.branches = MODELS.build(dict(branches, backbone=self.backbone))
            joint_head = dict(
                type='JointHead',
                num_classes=self.head.num_classes,
                num_transforms=self.transforms.num_transforms,
                in_channels=self.branches.embedding_channels,
                init_cfg=start.joint_heads,
            )
            self.joint_heads = ModuleList(MODELS.build(joint_head) for _ in self.branches)
        every = list(range(self.num_branches))
        self.aggregate = every if aggregate == 'all' else aggregate
        ConfigError.check(
            aggregate is None
            or isinstance(self.aggregate, list | tuple)
            and self.aggregate
            and all(index in every for index in self.aggregate)
            and len(set(self.aggregate)) == len(self.aggregate),
            'model.*.aggregate',
            f"'all' or a list of branches from {every}",
            repr(aggregate),
        )
        self.taps: frozenset[str] = frozenset()
        self._stages: Stages | None = None
        self.set_loss_weights(loss_weights)

    def trained_networks(self) -> dict[str, nn.Module]:
        """Return the network itself, by its config key."""
        return {'model': self}

    @property
    def num_branches(self) -> int:
        """L, the number of auxiliary branches."""
        return 0 if self.branches is None else len(self.branches)

    def settle_classes(self, number: int | None) -> None:
        """Make the heads of so many classes, where that was left open; None leaves it so.

        Parameters stay the same objects, which an optimizer may have.
        """
        if not self.open_classes or number is None:
            return
        self.open_classes = False
        _resize(self.head, self.head.num_classes, number)
        self.head.num_classes = number
        for head in self.joint_heads if self.branches is not None else ():
            _resize(head, _OPEN_CLASSES, number)

    def tap(self, *names: str) -> None:
        """Make :meth:`outputs` give more than logits; to be called before the network is compiled.

        Args:
            *names: Of :data:`TAPS`.
        """
        unknown = set(names) - set(TAPS)
        if unknown:
            raise ValueError(f'taps: expected some of {TAPS}, got {sorted(unknown)}')
        self.taps |= set(names)

    def cache_stages(self) -> None:
        """Take the backbone apart once, instead of in every call; no module may be replaced then.

        A compiler cannot follow how it is taken apart.
        """
        self._stages = find_stages(self.backbone)

    def outputs(self, images: Tensor) -> Outputs:
        """One pass through the network, of images taken as they are.

        Args:
            images: [B, C, H, W].
        """
        if not (self.branches or self.taps):
            return Outputs(self.head(self.extract_feat(images)))
        features = run_stages(self.backbone, images, self._stages, 'pre_activations' in self.taps)
        pooled = self.neck(features.outputs) if self.with_neck else features.outputs
        joint_logits, last_maps, embeddings = (), (), ()
        if self.branches is not None:
            last_maps = self.branches.last_maps(features.stage_maps)
            embeddings = tuple(map(pool, last_maps))
            joint_logits = (h(e) for h, e in zip(self.joint_heads, embeddings, strict=True))
        return Outputs(
            self.head(pooled),
            tuple(joint_logits),
            features.maps if 'maps' in self.taps else (),
            features.pre_activations,
            self.head.pre_logits(pooled) if 'embedding' in self.taps else None,
            embeddings if 'branch_embeddings' in self.taps else (),
            (features.outputs[-1], *last_maps) if 'last_maps' in self.taps else (),
        )

    @torch.no_grad()
    def output_shapes(self, image_size: int) -> Outputs:
        """Shapes of the outputs without the batch, e.g. [C, H, W] of a map.

        Args:
            image_size: Height and width of the images, in pixels.
        """
        network = copy.deepcopy(self).to('meta').eval()  # where shapes alone are computed
        shape = (1, image_channels(self.backbone), image_size, image_size)
        return network.outputs(torch.empty(shape, device='meta')).shapes

    def logits(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """f(x) and all c_l(x), see :meth:`outputs`."""
        return self.outputs(images)[:2]

    def forward(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None, mode: str = 'tensor'
    ) -> tuple[Tensor, tuple[Tensor, ...]] | list[DataSample] | dict[str, Tensor]:
        """One entry for ``mode`` 'tensor' (:meth:`logits`), 'predict' and 'loss'."""
        if mode == 'tensor':
            return self.logits(inputs)
        return super().forward(inputs, data_samples, mode)

    def losses(self, x: Tensor, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """CE(f(x), y): the plain baseline."""
        return dict(loss_cls=self.cross_entropy(self.outputs(x).logits, y))

    def cross_entropy(self, logits: Tensor, y: Tensor) -> Tensor:
        """CE(f(x), y): the head's own loss, as mmpretrain computes it.

        Args:
            logits: f(x) [N, K].
            y: Class labels [N], or scores [N, K].
        """
        head = self.head
        if getattr(head, 'cal_acc', False):  # mmpretrain counts no logits below 0
            right = y if y.ndim == 1 else y.argmax(1)
            found = Accuracy.calculate(logits.detach(), right, topk=head.topk, thrs=(None,))
            self.train_accuracies = {
                f'accuracy_top{k}': top[0] for k, top in zip(head.topk, found, strict=True)
            }
        loss = self.head.loss_module
        if _takes_scores(loss):
            y = F.one_hot(y, logits.shape[1]) if y.ndim == 1 else y
            y = _in_precision(y, logits)
            if isinstance(loss, LabelSmoothLoss):  # which would round them to float32
                loss.num_classes = loss.num_classes or self.head.num_classes
                y = loss.smooth_label(y)
                return loss.loss_weight * loss.ce(logits, y, avg_factor=len(logits))
            return loss(logits, y, avg_factor=len(logits))
        return loss(logits, y if y.ndim == 1 else _in_precision(y, logits))

    def joint_labels(self, y: Tensor) -> Tensor:
        """Joint labels k [M * N] of class labels [N], or scores [M * N, M * K].

        They are scores where classes have them, [N, K], or get them by the head's label smoothing.
        """
        loss = self.head.loss_module
        if isinstance(loss, LabelSmoothLoss):
            loss.num_classes = loss.num_classes or self.head.num_classes
            y = loss.smooth_label(loss.generate_one_hot_like_label(y))
        return self.transforms.joint_labels(y)

    def joint_cross_entropy(self, joint_logits: Tensor, k: Tensor) -> Tensor:
        """CE(c_l(x_rot), k), where a joint label has the head's weight of its class.

        Args:
            joint_logits: c_l(x_rot) [M * N, M * K].
            k: Of :meth:`joint_labels`.
        """
        loss = self.head.loss_module
        weight = getattr(getattr(loss, 'ce', loss), 'class_weight', None)
        if weight is not None:
            weight = joint_logits.new_tensor(weight).repeat_interleave(
                self.transforms.num_transforms
            )
        k = k if k.ndim == 1 else _in_precision(k, joint_logits)
        # With weights too, a mean over rows, as mmpretrain's.
        return F.cross_entropy(joint_logits, k, weight, reduction='sum') / len(joint_logits)

    def predict(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None, **kwargs
    ) -> list[DataSample]:
        """Scores and labels of the head, or aggregated over branches where that is asked for.

        Args:
            inputs: [N, C, H, W], not rotated.
            data_samples: To write to.
            **kwargs: Of the head's ``predict``.
        """
        if self.aggregate is None:
            return super().predict(inputs, data_samples, **kwargs)
        joint_logits = self.outputs(self.transforms(inputs)).joint_logits
        return self.head._get_predictions(self.aggregated_logits(joint_logits), data_samples)

    def aggregated_logits(self, joint_logits: Sequence[Tensor]) -> Tensor:
        """Class evidence [B, N] of the branches in ``aggregate``, averaged over transforms.

        The evidence for class y is the logit of the joint label (y, j) of the copy under transform
        j, averaged over all j and then over branches.

        Args:
            joint_logits: Of every branch, [M * B, M * N], for all M copies of B images.
        """
        m = self.transforms.num_transforms
        joint = torch.stack([joint_logits[index] for index in self.aggregate])
        joint = joint.unflatten(1, (-1, m)).unflatten(3, (-1, m))  # branch, image, j, class, j
        return joint.diagonal(dim1=2, dim2=4).mean(dim=(0, 3))

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
        if self.branches is None:
            return self.predict(inputs, data_samples)
        m = self.transforms.num_transforms
        joint_logits = self.outputs(self.transforms(inputs)).joint_logits
        if self.aggregate is None:
            data_samples = self.predict(inputs, data_samples)
        else:
            scores = self.aggregated_logits(joint_logits)
            data_samples = self.head._get_predictions(scores, data_samples)
        joint = torch.stack([c.argmax(1).unflatten(0, (-1, m)) for c in joint_logits], dim=1)
        heads = zip(self.joint_heads, joint_logits, strict=True)
        classes = torch.stack([h.class_scores(c[::m]).argmax(1) for h, c in heads], dim=1)
        for sample, joint_label, branch_label in zip(data_samples, joint, classes, strict=True):
            sample.set_field(joint_label, 'pred_joint_label')
            sample.set_field(branch_label, 'pred_branch_label')
        return data_samples


def _settle_by_weights(network: BranchedClassifier, weights: dict, prefix: str, *_) -> None:
    weight = weights.get(f'{prefix}head.fc.weight')
    network.settle_classes(None if weight is None else len(weight))


def _resize(head: nn.Module, classes: int, number: int) -> None:
    """Make the layers of a head for ``number`` classes, or joint labels of them, anew."""
    for layer in head.modules():
        if isinstance(layer, nn.Linear) and layer.out_features % classes == 0:
            weight = layer.weight
            layer.out_features = layer.out_features // classes * number
            layer.weight.data = weight.new_empty(layer.out_features, layer.in_features)
            if layer.bias is not None:
                layer.bias.data = weight.new_empty(layer.out_features)
            layer.reset_parameters()


def build_preprocessor(cfg: dict | None) -> nn.Module:
    """:class:`~hsakd.models.DataPreprocessor`, unless ``cfg`` names another."""
    return MODELS.build(dict(dict(type=DataPreprocessor), **(cfg or {})))


def _takes_scores(loss: nn.Module) -> bool:
    """Whether a loss of mmpretrain's takes no labels but scores."""
    cross_entropy = getattr(loss, 'ce', loss)
    return isinstance(loss, AsymmetricLoss | FocalLoss) or any(
        getattr(cross_entropy, name, False) for name in ('use_soft', 'use_sigmoid')
    )


def _in_precision(scores: Tensor, logits: Tensor) -> Tensor:
    """Scores in the precision in which a loss of logits is computed."""
    return scores.to(torch.promote_types(logits.dtype, torch.float32))
