"""Branches of mmpretrain's backbones: of their own stages, or of plain convolutions."""

import copy

import pytest
import torch
from mmpretrain.models import ImageClassifier
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn

from hsakd.models.backbones.stages import Stages, repeat_last_stage, run_stages, split_stages
from hsakd.models.necks import AuxiliaryBranches, ConvBranches
from hsakd.registry import MODELS
from hsakd.utils.errors import ConfigError
from tests.conftest import batch

NARROW = dict(base_channels=8, stem_channels=8)
GROUPS = dict(groups=2, width_per_group=4)
CONVNEXT = dict(
    type='ConvNeXt', arch=dict(depths=[1, 1, 2, 1], channels=[8, 16, 24, 32]), drop_path_rate=0.1
)
SWIN = dict(
    type='SwinTransformer',
    arch=dict(embed_dims=8, depths=[2, 2, 2, 2], num_heads=[1, 2, 2, 4]),
    img_size=64,
    window_size=2,
    use_abs_pos_embed=True,
)
#: Backbone, channels that the head takes, stages.
FAMILIES = {
    'resnet-18': (dict(type='ResNet', depth=18, **NARROW), 64, 4),
    'resnet-50 frozen': (dict(type='ResNet', depth=50, frozen_stages=4, **NARROW), 256, 4),
    'resnet-v1d-50': (dict(type='ResNetV1d', depth=50, drop_path_rate=0.1, **NARROW), 256, 4),
    'resnext-50': (dict(type='ResNeXt', depth=50, **NARROW, **GROUPS), 256, 4),
    'se-resnet-50': (dict(type='SEResNet', depth=50, **NARROW), 256, 4),
    'se-resnext-50': (dict(type='SEResNeXt', depth=50, **NARROW, **GROUPS), 256, 4),
    'regnet': (dict(type='RegNet', arch='regnetx_400mf'), 384, 4),
    'mobilenet-v2': (dict(type='MobileNetV2', widen_factor=0.1), 1280, 4),
    'mobilenet-v3-small': (dict(type='MobileNetV3', arch='small_050'), 288, 4),
    'mobilenet-v3-large': (dict(type='MobileNetV3', arch='large'), 960, 4),
    'shufflenet-v1': (dict(type='ShuffleNetV1', widen_factor=0.5), 480, 3),
    'shufflenet-v2': (dict(type='ShuffleNetV2', widen_factor=0.5), 1024, 3),
    'vgg-11': (dict(type='VGG', depth=11), 512, 5),
    'vgg-13 with norm': (dict(type='VGG', depth=13, norm_cfg=dict(type='BN')), 512, 5),
    'repvgg-a0': (dict(type='RepVGG', arch='A0', base_channels=8), 160, 4),
    'repvgg-d2se with pooling': (
        dict(type='RepVGG', arch='D2se', base_channels=4, add_ppf=True),
        160,
        4,
    ),
    'efficientnet-b0': (dict(type='EfficientNet', arch='b0', drop_path_rate=0.2), 1280, 4),
    'efficientnet-es': (dict(type='EfficientNet', arch='es'), 1280, 4),
    'convnext': (CONVNEXT, 32, 4),
    'convnext-v2': (dict(CONVNEXT, use_grn=True, layer_scale_init_value=0.0), 32, 4),
    'convnext, norm before pooling': (dict(CONVNEXT, gap_before_final_norm=False), 32, 4),
    'convnext-atto': (dict(type='ConvNeXt', arch='atto'), 320, 4),
    'swin': (SWIN, 64, 4),
    'swin-tiny': (dict(type='SwinTransformer', img_size=64, window_size=2), 768, 4),
}
#: Not the large ones whose family has a small one.
TRAINED = [
    name
    for name in FAMILIES
    if name not in ('regnet', 'repvgg-d2se with pooling', 'efficientnet-es', 'swin-tiny')
]
BRANCHES = dict(type='AuxiliaryBranches')


@MODELS.register_module()
class Pyramid(BaseBackbone):
    """A user's backbone that nobody registered: three convolutions, their maps as outputs."""

    def __init__(self, out_indices: tuple[int, ...] = (0, 1, 2)) -> None:
        super().__init__()
        self.out_indices = out_indices
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.Dropout())
        self.second = nn.Conv2d(4, 6, 3, 4, 1)
        self.third = nn.Conv2d(6, 10, 3, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        first = self.first(x)
        second = self.second(first)
        maps = (first, second, self.third(second))
        return tuple(maps[i] for i in self.out_indices)


def scoped(backbone: dict) -> dict:
    scope = 'hsakd' if backbone['type'] == 'Pyramid' else 'mmpretrain'
    return dict(copy.deepcopy(backbone), type=f'{scope}.{backbone["type"]}')


def network_cfg(
    backbone: dict, channels: int, branches: dict = BRANCHES, neck: list[dict] | None = None
) -> dict:
    """Config of a network with mmpretrain's usual neck for the backbone."""
    pools = backbone['type'] == 'ConvNeXt' and backbone.get('gap_before_final_norm', True)
    gap = None if pools else dict(type='mmpretrain.GlobalAveragePooling')
    return dict(
        type='BranchedClassifier',
        backbone=scoped(backbone),
        neck=neck or gap,
        head=dict(
            type='mmpretrain.LinearClsHead',
            num_classes=5,
            in_channels=channels,
            loss=dict(type='mmpretrain.CrossEntropyLoss'),
        ),
        branches=branches,
    )


def image_size(backbone: dict) -> int:
    return backbone.get('img_size', 32)


def train_one_step(student: dict, teacher: dict, size: int) -> nn.Module:
    """A student's network after one training step, in eval mode, with its gradients."""
    model = MODELS.build(dict(type='HSAKDOffline', student=student, teacher=teacher))
    model.teacher.load_state_dict(model.teacher.state_dict())  # which other weights are not needed
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    inputs, samples = batch(1, size=size)
    losses = model(inputs, samples, mode='loss')
    assert len(losses) == 2 + model.student.num_branches
    sum(losses.values()).backward()
    optimizer.step()
    return model.student.eval()


def check_branches_drop(network: nn.Module, cfg: dict, size: int) -> None:
    """What is left without the branches is mmpretrain's classifier, with the same logits."""
    plain_cfg = {key: cfg[key] for key in ('backbone', 'neck', 'head') if cfg[key]}
    preprocessor = dict(type='mmpretrain.ClsDataPreprocessor')
    plain: ImageClassifier = MODELS.build(
        dict(type='mmpretrain.ImageClassifier', data_preprocessor=preprocessor, **plain_cfg)
    )
    state = {
        key: value
        for key, value in network.state_dict().items()
        if not key.startswith(('branches.', 'joint_heads.'))
    }
    plain.load_state_dict(state, strict=True)
    plain.eval()
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        expected = plain(images, mode='tensor')
        torch.testing.assert_close(network(images)[0], expected)


@pytest.mark.parametrize('name', TRAINED)
def test_student_trains_and_drops_its_branches(name: str) -> None:
    backbone, channels, num_stages = FAMILIES[name]
    cfg = network_cfg(backbone, channels)
    student = train_one_step(cfg, cfg, image_size(backbone))
    assert student.num_branches == num_stages
    missing = [n for n, p in student.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
    assert all(p.requires_grad for p in student.branches.parameters())
    check_branches_drop(student, cfg, image_size(backbone))


@pytest.mark.parametrize('name', FAMILIES)
def test_branches_follow_the_rule(name: str) -> None:
    """Fresh copies of the later stages and the tail, that start as the backbone's start."""
    definition, channels, num_stages = FAMILIES[name]
    network = MODELS.build(network_cfg(definition, channels))
    backbone, branches = network.backbone, network.branches
    parts = split_stages(backbone)
    assert len(branches) == len(parts.stages) == num_stages
    assert branches.embedding_channels == channels

    def check_fresh() -> None:
        for tap, branch in enumerate(branches):
            copies = [f'stage{i + 1}' for i in range(tap + 1, num_stages)]
            last = [f'stage{num_stages}'] if tap == num_stages - 1 else []
            assert [child for child, _ in branch.named_children()] == [*copies, *last, 'tail']
            for i, name in enumerate(copies, start=tap + 1):
                check_pair(getattr(branch, name), parts.stages[i])
            check_pair(branch.tail, parts.tail)

    check_fresh()
    network.init_weights()
    check_fresh()
    size = image_size(definition)
    with torch.no_grad():
        network.eval()
        images = torch.randn(1, 3, size, size)
        maps, _, _, outputs = run_stages(backbone, images)
        torch.testing.assert_close(outputs[-1], backbone(images)[-1])
        last = getattr(branches[-1], f'stage{num_stages}')
        assert last(maps[-1]).shape == maps[-1].shape
        assert [e.shape for e in branches(maps)] == [(1, channels)] * num_stages


def check_pair(copied: nn.Module, own: nn.Module) -> None:
    """Same shapes, same constants, random values that differ but spread as much."""
    own_parameters = {name: p.detach() for name, p in own.named_parameters()}
    parameters = {name: p.detach() for name, p in copied.named_parameters()}
    assert parameters.keys() == own_parameters.keys()
    for name, value in parameters.items():
        original = own_parameters[name]
        assert value is not original and value.shape == original.shape
        if (original == original.flatten()[0]).all():
            assert torch.equal(value, original), name
        else:
            assert not torch.equal(value, original), name
            if value.numel() > 1000:
                assert value.std() == pytest.approx(original.std().item(), rel=0.2), name


@pytest.mark.parametrize(
    'option, values, settings',
    [
        ('depth', (34, 101, 152), dict(type='ResNet', **NARROW)),
        ('depth', (50,), dict(type='ResNetV1c', **NARROW)),
        ('depth', (18,), dict(type='ResNet_CIFAR', **NARROW)),
        ('depth', (101, 152), dict(type='ResNeXt', **NARROW, **GROUPS)),
        ('depth', (101, 152), dict(type='SEResNet', **NARROW)),
        ('depth', (101, 152), dict(type='SEResNeXt', **NARROW, **GROUPS)),
        ('depth', (50,), dict(type='Res2Net', **NARROW)),
        ('depth', (50,), dict(type='ResNeSt', **NARROW)),
        ('depth', (16, 19), dict(type='VGG')),
        ('arch', ('small', 'small_075'), dict(type='MobileNetV3')),
        ('arch', ('A1', 'A2', 'B1g4'), dict(type='RepVGG', base_channels=8)),
        ('arch', ('tiny', 'small'), dict(type='ConvNeXt')),
    ],
    ids=lambda value: value.get('type') if isinstance(value, dict) else '',
)
def test_other_depths_and_archs(option: str, values: tuple, settings: dict) -> None:
    """Shapes, on the meta device."""
    for value in values:
        backbone = MODELS.build(scoped({**settings, option: value})).to('meta')
        with torch.device('meta'):
            branches = AuxiliaryBranches(backbone)
            maps, _, _, outputs = run_stages(backbone, torch.empty(2, 3, 64, 64))
        channels = outputs[-1].shape[1]
        assert [tuple(e.shape) for e in branches(maps)] == [(2, channels)] * len(maps)


class RegisteredPyramid(Pyramid):
    """A user's backbone that is registered as docs/extending.md says."""


@split_stages.register
def _(backbone: RegisteredPyramid) -> Stages:
    return Stages(
        stem=nn.Identity(), stages=[backbone.first, backbone.second, backbone.third], channels=10
    )


@repeat_last_stage.register
def _(backbone: RegisteredPyramid) -> nn.Module:
    return nn.Conv2d(10, 10, 3, 1, 1)


def test_a_family_of_the_users() -> None:
    backbone = RegisteredPyramid()
    branches = AuxiliaryBranches(backbone)
    backbone.eval()
    images = torch.randn(1, 3, 32, 32)
    maps, _, _, (last,) = run_stages(backbone, images)
    assert torch.equal(last, backbone(images)[-1])
    assert [[n for n, _ in branch.named_children()] for branch in branches] == [
        ['stage2', 'stage3', 'tail'],
        ['stage3', 'tail'],
        ['stage3', 'tail'],
    ]
    assert [e.shape for e in branches(maps)] == [(1, 10)] * 3


def test_stages_match_families_with_different_numbers_of_them() -> None:
    student = network_cfg(*FAMILIES['shufflenet-v2'][:2])
    teacher = network_cfg(*FAMILIES['resnet-18'][:2])
    with pytest.raises(ConfigError, match='branches.*3.*4'):
        MODELS.build(dict(type='HSAKDOffline', student=student, teacher=teacher))
    teacher['branches'] = dict(BRANCHES, stages=[1, 2, 3])
    check_branches_drop(train_one_step(student, teacher, 32), student, 32)


def test_copies_of_a_network_stand_alone() -> None:
    """As mmengine's averaged models need it."""
    network = MODELS.build(network_cfg(*FAMILIES['convnext'][:2])).eval()
    images = torch.randn(1, 3, 32, 32)
    before = network(images)[0]
    other = copy.deepcopy(network)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    assert not other(images)[0].any()
    assert torch.equal(network(images)[0], before)


def hrnet_stage(num_branches: int) -> dict:
    return dict(
        num_modules=1,
        num_branches=num_branches,
        block='BOTTLENECK' if num_branches == 1 else 'BASIC',
        num_blocks=(1,) * num_branches,
        num_channels=(4, 8, 16, 32)[:num_branches],
    )


HRNET = dict(type='HRNet', extra={f'stage{i}': hrnet_stage(i) for i in (1, 2, 3, 4)})
FUSE = dict(type='mmpretrain.HRFuseScales', in_channels=(4, 8, 16, 32), out_channels=64)
CONV_BRANCHES = dict(type='ConvBranches', input_size=64)


@pytest.mark.parametrize(
    'backbone, channels, neck, num_branches',
    [
        (dict(type='Pyramid'), 10, None, 3),
        (HRNET, 64, [FUSE, dict(type='mmpretrain.GlobalAveragePooling')], 4),
        (*FAMILIES['swin'][:2], None, 4),
    ],
    ids=['user', 'hrnet-fused', 'swin'],
)
def test_plain_convolutions_for_any_backbone(
    backbone: dict, channels: int, neck: list[dict] | None, num_branches: int
) -> None:
    student = network_cfg(backbone, channels, CONV_BRANCHES, neck)
    network = train_one_step(student, student, 64)
    assert network.num_branches == num_branches
    assert all(p.grad is not None for p in network.branches.parameters())
    check_branches_drop(network, student, 64)


def test_plain_convolutions_take_widths_and_strides_of_the_backbone() -> None:
    backbone = MODELS.build(dict(type='Pyramid'))
    before = copy.deepcopy(backbone.state_dict())
    branches = ConvBranches(backbone, input_size=64)
    assert all(module.training for module in backbone.modules())
    assert all(torch.equal(v, before[k]) for k, v in backbone.state_dict().items())
    convs = [
        {name: (s.in_channels, s.out_channels, s.stride) for name, s in branch.named_children()}
        for branch in branches
    ]
    assert convs == [
        dict(stage2=(4, 6, (4, 4)), stage3=(6, 10, (1, 1))),
        dict(stage3=(6, 10, (1, 1))),
        dict(stage3=(10, 10, (1, 1))),
    ]
    assert branches.embedding_channels == 10


AUXILIARY = 'AuxiliaryBranches'


@pytest.mark.parametrize(
    'kind, backbone, stages, words',
    [
        (AUXILIARY, dict(type='Pyramid'), None, 'Pyramid'),
        ('ConvBranches', dict(type='Pyramid', out_indices=(2,)), None, 'Pyramid'),
        ('ConvBranches', dict(type='Pyramid'), [3], r'0\.\.2'),
        *((AUXILIARY, dict(type='ShuffleNetV1'), s, r'0\.\.2') for s in ([], [-1], 1)),
        (AUXILIARY, dict(type='VGG', depth=11, num_classes=5), None, 'num_classes.*5'),
        (AUXILIARY, dict(CONVNEXT, out_indices=[1]), None, r'out_indices.*\(1,\)'),
        (AUXILIARY, dict(type='MobileNetV2', out_indices=(2, 6)), None, r'out_indices.*\(2, 6\)'),
        (AUXILIARY, dict(type='RegNet', arch='regnetx_6.4gf'), None, 'Bottleneck'),
    ],
)
def test_backbones_that_cannot_be_branched(kind, backbone, stages, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        MODELS.build(dict(type=kind, backbone=MODELS.build(scoped(backbone)), stages=stages))
