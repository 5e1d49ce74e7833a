"""Types are found in any scope, and names of other packages say how to write them."""

import numpy as np
import pytest
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope
from mmpretrain.models import losses

from hsakd import registry
from hsakd.models import JointHead
from hsakd.utils.errors import ConfigError
from tests.conftest import network_cfg, write_image_folder

SCOPES = ['hsakd', 'mmpretrain', 'mmdet', 'mmengine']


@pytest.fixture(params=SCOPES)
def scope(request):
    if request.param == 'mmdet':
        pytest.importorskip('mmdet')
    with DefaultScope.overwrite_default_scope(request.param):
        yield request.param


def prefixed(**kwargs):
    """A network that says itself where its types are from, and leaves what they build."""
    cfg = network_cfg(**kwargs)
    for part in cfg.values():
        if isinstance(part, dict) and '.' not in part.get('type', '.'):
            part['type'] = f'hsakd.{part["type"]}'
    return dict(cfg, type=f'hsakd.{cfg["type"]}')


@pytest.mark.parametrize(
    'transform',
    [
        dict(type='mmpretrain.RandAugment', policies='timm_increasing', num_policies=2,
             magnitude_level=9),
        dict(type='mmpretrain.AutoAugment', policies='imagenet'),
    ],
)  # fmt: skip
def test_policies_of_mmpretrain(scope, transform):
    augment = TRANSFORMS.build(transform)
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    augmented = [augment(dict(img=image.copy()))['img'] for _ in range(20)]
    assert any((image != found).any() for found in augmented)
    built = [step for steps in augment.transforms for step in getattr(steps, 'transforms', [steps])]
    assert len(built) > 10
    assert all(type(step).__module__.startswith('mmpretrain.') for step in built)


@pytest.mark.parametrize('transforms', [None, dict(type='ColorPermutation')])
def test_defaults_of_ours(scope, transforms):
    extra = dict(transforms=transforms) if transforms else {}
    branches = dict(type='AuxiliaryBranches')  # without a prefix: code of ours builds it
    network = prefixed(branches=branches, num_classes=3, **extra)
    offline = dict(type='hsakd.HSAKDOffline', student=network, teacher=network)
    model = MODELS.build(offline)
    assert isinstance(model.student.joint_heads[0], JointHead)
    assert model.student.transforms.num_transforms == (6 if transforms else 4)


def test_defaults_of_mmpretrain(scope):
    head = dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=4)
    assert type(MODELS.build(head).loss_module) is losses.CrossEntropyLoss
    head['loss'] = dict(type='LabelSmoothLoss', label_smooth_val=0.1)
    assert type(MODELS.build(head).loss_module) is losses.LabelSmoothLoss


@pytest.mark.parametrize(
    'scope, name, expected',
    [
        ('hsakd', 'LinearClsHead', 'mmpretrain'),
        ('hsakd', 'FasterRCNN', 'mmdet'),
        ('mmpretrain', 'CIFARResNet', 'hsakd'),
        ('mmdet', 'LinearClsHead', 'mmpretrain'),
        ('mmengine', 'CIFARResNet', 'hsakd'),
    ],
    indirect=['scope'],
)
def test_names_of_another_package_say_how_to_write_them(scope, name, expected):
    pytest.importorskip('mmdet')
    with pytest.raises(ConfigError, match=rf"type='{name}': expected {expected}\.{name}"):
        MODELS.build(dict(type=name))


def test_names_of_no_package_are_not_found(scope):
    with pytest.raises(KeyError, match='Nothing is not in the'):
        MODELS.build(dict(type='Nothing'))


def test_what_is_registered_in_a_scope_comes_before_others():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        kind = registry.DATASETS.build(dict(type='CIFAR10', data_root='x', lazy_init=True))
    assert type(kind).__module__.startswith('mmpretrain.')


CONFIG = """
_base_ = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
model = dict({model}
    backbone=dict(stem_channels=4, base_channels=4), head=dict(num_classes=2, in_channels=32)
)
train_cfg = dict(max_epochs=1)
data = dict(
    batch_size=4, num_workers=0, dataset=dict(_delete_=True, type='hsakd.ImageFolder',
    data_root={root!r}, pipeline=[
        dict(type='hsakd.LoadImage'),
        dict(type='Resize', scale=(32, 32)),
        dict(type='RandAugment', policies='timm_increasing', num_policies=2, magnitude_level=9),
        dict(type='PackInputs'),
    ]),
)
train_dataloader = val_dataloader = test_dataloader = data
val_evaluator = test_evaluator = dict(topk=(1, 5))
"""
MODELS_ON_IT = {
    'as it is': '',
    'teacher': "type='hsakd.HSAKDTeacher', branches=dict(type='AuxiliaryBranches'),",
}


@pytest.mark.parametrize('model', MODELS_ON_IT.values(), ids=MODELS_ON_IT)
def test_config_on_one_of_mmpretrains(tmp_path, in_process, model):
    root = write_image_folder(tmp_path / 'data')
    (tmp_path / 'mine.py').write_text(CONFIG.format(model=model, root=str(root)))
    work_dir = tmp_path / 'run'
    tool = ('tools/train.py', tmp_path / 'mine.py', '--work-dir', work_dir)
    status, stderr = in_process(*tool)
    assert status == 0, stderr
    checkpoint = work_dir / 'epoch_1.pth'
    for command in (
        ('tools/test.py', tmp_path / 'mine.py', checkpoint, '--work-dir', work_dir),
        ('tools/predict.py', root, '--model', checkpoint, '--out', tmp_path / 'out'),
        ('tools/model_converters/publish_student.py', checkpoint, tmp_path / 'published'),
    ):
        status, stderr = in_process(*command)
        assert status == 0, stderr
