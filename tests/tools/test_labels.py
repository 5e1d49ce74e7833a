"""Labels, scores and numbers of classes as users have them, through the tools."""

import json
import sys

import pytest

from tests.conftest import ROOT, write_image_folder

#: A user's own module: soft labels in the pipeline, and data sets without one label an image.
MODULE = """
from mmcv.transforms import BaseTransform

from hsakd.datasets import ImageFolder
from hsakd.registry import DATASETS, TRANSFORMS


@TRANSFORMS.register_module(force=True)
class AddScores(BaseTransform):
    def __init__(self, number):
        self.number = number

    def transform(self, results):
        results['gt_score'] = [1 / self.number] * self.number
        return results


@DATASETS.register_module(force=True)
class Relabelled(ImageFolder):
    def __init__(self, labels, **kwargs):
        self.labels = labels
        super().__init__(**kwargs)

    def load_data_list(self):
        infos = super().load_data_list()
        for info in infos:
            label = info.pop('gt_label')
            if self.labels == 'scores':
                info['gt_score'] = [0.5, 0.25, 0.25]
            if self.labels == 'both':
                info.update(gt_label=label, gt_score=[0.5, 0.25, 0.25])
            if self.labels == 'several':
                info['gt_label'] = [label, 0][: 1 + bool(label)]
        return infos
"""
CONFIG = """
_base_ = {base!r}
custom_imports = dict(imports=['steps_of_labels'], allow_failed_imports=False)
train_cfg = dict(max_iters=2, val_interval=2)
train_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(data_root={root!r}))
val_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(data_root={root!r}))
test_dataloader = val_dataloader
model = dict(head=dict(num_classes={classes}))
"""
BASELINE = 'configs/baseline/resnet8_1xb32-300i_images32.py'
TEACHER = 'configs/hsakd/hsakd-teacher_resnet20_1xb32-300i_images32.py'
MIXED = "data_preprocessor = dict(batch_augments=dict(augments=dict(type='{}', alpha=0.5)))"
MIXUP, CUTMIX = MIXED.format('mmpretrain.Mixup'), MIXED.format('mmpretrain.CutMix')
SCORES = "train_dataloader['dataset']['pipeline'] = [dict(type='LoadImage'), {}]".format(
    "dict(type='AddScores', number={}), dict(type='mmpretrain.PackInputs')"
)
OTHER_DATA = "train_dataloader['dataset'].update(type='Relabelled', labels='{}')"
IN_VAL = "val_dataloader['dataset'].update(type='Relabelled', labels='{}')"
IN_MEMORY = "train_dataloader['in_memory'] = True"
FEW = """
train_dataloader['dataset'] = dict(_delete_=True, type='FewShotSubset', fraction=0.5,
    dataset=dict({}, data_root=train_dataloader['dataset']['data_root'],
    pipeline=[dict(type='LoadImage'), dict(type='mmpretrain.PackInputs')]))
"""
LOSS = "model['head']['loss'] = dict({})"


@pytest.fixture
def run(tmp_path, in_process, monkeypatch):
    """Run a tool with a config of three classes, or others; its status and stderr."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'steps_of_labels', raising=False)
    (tmp_path / 'steps_of_labels.py').write_text(MODULE)

    def run(*lines, base=BASELINE, classes=3, tool=('tools/train.py',)):
        root = tmp_path / 'images'
        if not root.is_dir():
            write_image_folder(root, [f'class_{i}' for i in range(classes)])
        values = dict(base=str(ROOT / base), root=str(root), classes=classes)
        (tmp_path / 'mine.py').write_text('\n'.join([CONFIG.format(**values), *lines]))
        tool, *arguments = tool
        return in_process(
            tool, tmp_path / 'mine.py', *arguments, '--work-dir', tmp_path / tool[6:10]
        )

    return run


def metrics(work_dir) -> set[str]:
    """Names of what was validated."""
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    lines = map(json.loads, path.read_text().splitlines())
    return {name for line in lines for name in line if 'accuracy' in name or 'branch' in name}


@pytest.mark.parametrize(
    'classes, base, expected',
    [
        (2, TEACHER, {'accuracy/top1'}),
        (3, BASELINE, {'accuracy/top1'}),
        (5, BASELINE, {'accuracy/top1', 'accuracy/top5'}),
    ],
)
def test_top_k_that_classes_do_not_allow_is_left_out(tmp_path, run, classes, base, expected):
    status, stderr = run(base=base, classes=classes)
    assert status == 0, stderr
    found = metrics(tmp_path / 'trai')
    assert {name for name in found if 'accuracy' in name} == expected
    assert any('branch' in name for name in found) == (base == TEACHER)
    out = tmp_path / 'metrics.json'
    tool = ('tools/test.py', tmp_path / 'trai/iter_2.pth', '--out', out, '--out-item', 'metrics')
    status, stderr = run(base=base, classes=classes, tool=tool)
    assert status == 0, stderr
    assert {name for name in json.loads(out.read_text()) if 'accuracy' in name} == expected


@pytest.mark.parametrize(
    'line, words',
    [
        ("val_evaluator = [dict(type='mmpretrain.Accuracy', topk=4)]", 'a number up to 3'),
        ("default_hooks = dict(checkpoint=dict(save_best='accuracy/top5'))", 'accuracy/top1'),
    ],
)
def test_accuracy_that_is_needed_and_not_there(run, line, words):
    status, stderr = run(line)
    assert status == 1 and words in stderr and 'Traceback' not in stderr


@pytest.mark.parametrize(
    'lines',
    [
        [MIXUP],
        [CUTMIX, IN_MEMORY],
        [CUTMIX, FEW.format("type='ImageFolder'")],
        [SCORES.format(3)],
        [OTHER_DATA.format('scores')],
        [FEW.format("type='Relabelled', labels='both'")],
        [MIXUP, LOSS.format("type='mmpretrain.CrossEntropyLoss', use_soft=True")],
        [MIXUP, LOSS.format("type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1")],
        [LOSS.format("type='mmpretrain.CrossEntropyLoss', class_weight=[1, 2, 3]")],
    ],
)
@pytest.mark.parametrize('base', [BASELINE, TEACHER])
def test_scores_train(run, base, lines):
    status, stderr = run(*lines, base=base)
    assert status == 0, stderr


def test_mixtures_of_one_network_alone_are_refused(run):
    line = """
network = dict(_base_.model, type='BranchedClassifier')
network['head'] = dict(network['head'], num_classes=3)
mixed = dict(network, train_cfg=dict(augments=dict(type='Mixup', alpha=0.5)))
model = dict(_delete_=True, type='HSAKDOnline', networks=[network, mixed])
"""
    status, stderr = run(line, base=TEACHER)
    assert status == 1 and 'model.networks.1: augmentation of batches: expected none' in stderr


@pytest.mark.parametrize('lines', [[], [MIXUP], [CUTMIX, IN_MEMORY]])
def test_classifiers_of_mmpretrain_train(tmp_path, run, lines):
    head = "model['head'].update(cal_acc=True, topk=(1, 5))" * (not lines)
    lines = [*lines, head, "model['type'] = 'mmpretrain.ImageClassifier'"]
    status, stderr = run(*lines)
    assert status == 0, stderr
    status, stderr = run(*lines, tool=('tools/test.py', tmp_path / 'trai/iter_2.pth'))
    assert status == 0, stderr


@pytest.mark.parametrize(
    'lines, words',
    [
        ([SCORES.format(4)], 'one gt_score of 3 classes'),
        ([OTHER_DATA.format('several')], 'train_dataloader.dataset: expected one gt_label'),
        ([IN_VAL.format('several')], 'val_dataloader.dataset: expected one gt_label'),
        ([IN_VAL.format('scores')], 'val_dataloader.dataset: expected one gt_label'),
        ([OTHER_DATA.format('both'), IN_MEMORY], 'one gt_label an image'),
        ([FEW.format("type='Relabelled', labels='scores'")], 'one gt_label an image'),
        ([FEW.format("type='Relabelled', labels='several'")], 'one gt_label an image'),
        (["model['head'].update(type='mmpretrain.MultiLabelLinearClsHead')"], 'one class an image'),
        (
            [LOSS.format("type='mmpretrain.CrossEntropyLoss', class_weight=[1, 2]")],
            'model.head.loss: expected',
        ),
        (
            [MIXUP, LOSS.format("type='mmpretrain.SeesawLoss', num_classes=3")],
            'model.head.loss: expected a loss that takes the scores',
        ),
        (
            [
                LOSS.format("type='mmpretrain.CrossEntropyLoss', use_soft=True"),
                "model['type'] = 'mmpretrain.ImageClassifier'",
            ],
            'model.head.loss.use_soft: expected scores',
        ),
    ],
)
def test_what_cannot_be_trained_on_is_named(tmp_path, run, lines, words):
    status, stderr = run(*lines)
    assert status == 1 and words in stderr and 'Traceback' not in stderr
    assert not list((tmp_path / 'trai').glob('*.pth'))
