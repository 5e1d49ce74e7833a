"""What a classifier's checkpoint was trained with is compared with the data of a run."""

import shutil
import time

import pytest
import torch
from mmengine.config import Config

from tests.conftest import ROOT, write_image_folder
from tests.imagenet_files import save_torchvision

CONFIG = """
_base_ = {base!r}
data_preprocessor = dict(mean={mean}, std={std}, to_rgb={rgb})
train_cfg = dict(max_iters={iters}, val_interval=4)
train_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(data_root='{root}'))
val_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(data_root='{root}'))
test_dataloader = val_dataloader
default_hooks = dict(checkpoint=dict(interval=2))
"""
HEAD = '\nmodel = dict({}head=dict(num_classes=3))\n'
PAIR = """
model = dict(student=dict(head=dict(num_classes=3)), teacher=dict(head=dict(num_classes=3)))
"""
BASELINE = 'configs/baseline/resnet8_1xb32-300i_images32.py'
TEACHER = 'configs/hsakd/hsakd-teacher_resnet20_1xb32-300i_images32.py'
OFFLINE = 'configs/hsakd/hsakd-offline_resnet20_resnet8_1xb32-300i_images32.py'
NAMES = ('airplane', 'bird', 'cat')
#: Other names or orders of the same images: a folder is renamed.
OTHERS = {
    'order': ('bird', 'cat', 'zairplane'),
    'name': ('airplane', 'bird', 'dog'),
}
MEAN, STD = [120.0, 118.0, 110.0], [60.0, 61.0, 62.0]


class Site:
    """Where a user works: data under three names, and configs for it."""

    def __init__(self, folder, in_process) -> None:
        self.folder, self.in_process = folder, in_process
        self.checkpoints = {}

    def root(self, names=NAMES):
        root = self.folder / '-'.join(names)
        if not root.exists():
            write_image_folder(root, classes=names)
        return root

    def config(self, base, names=NAMES, mean=MEAN, std=STD, rgb=True, iters=2, more=''):
        path = self.folder / 'config.py'
        text = CONFIG.format(
            base=str(ROOT / base), mean=mean, std=std, rgb=rgb, iters=iters, root=self.root(names)
        )
        path.write_text(text + (PAIR if base == OFFLINE else HEAD.format('')) + more)
        return path

    def train(self, *arguments, options=(), work_dir='w', flags=(), **settings):
        config = self.config(*arguments, **settings)
        options = ('--cfg-options', *options) if options else ()
        status, error = self.in_process(
            'tools/train.py', config, '--work-dir', self.folder / work_dir, *flags, *options
        )
        assert 'Traceback' not in error
        return status, error

    def test(self, checkpoint, **settings):
        config = self.config(BASELINE, **settings)
        status, error = self.in_process(
            'tools/test.py', config, checkpoint, '--work-dir', self.folder / 't'
        )
        assert 'Traceback' not in error
        return status, error

    @property
    def log(self):
        """The log of the last training."""
        return max((self.folder / 'w').glob('*/*.log')).read_text()

    def trained(self, base, more=''):
        """A checkpoint of a training of the config."""
        if base + more not in self.checkpoints:
            status, error = self.train(base, work_dir='trained', more=more)
            assert status == 0, error
            path = self.folder / f'trained_{len(self.checkpoints)}.pth'
            shutil.move(self.folder / 'trained' / 'iter_2.pth', path)
            shutil.rmtree(self.folder / 'trained')
            self.checkpoints[base + more] = path
        return self.checkpoints[base + more]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('site'), {}


@pytest.fixture
def site(folder, in_process):
    site = Site(folder[0], in_process)
    site.checkpoints = folder[1]
    yield site
    shutil.rmtree(site.folder / 'w', ignore_errors=True)


def assert_names(status, error, others, key):
    assert status == 1
    assert f'error: {key}.dataset.metainfo.classes: expected' in error
    assert str(NAMES) in error
    assert f'got {others}' in error


def assert_normalization(status, error, *shown):
    assert status == 1
    assert 'error: data_preprocessor: expected mean (120, 118, 110), std (60, 61, 62)' in error
    for text in shown:
        assert text in error


WRONG_IMAGES = [
    (dict(mean=[100.0, 118.0, 110.0]), 'got mean (100, 118, 110)'),
    (dict(std=[60.0, 60.0, 62.0]), 'std (60, 60, 62), RGB'),
    (dict(rgb=False), 'std (60, 61, 62), BGR'),
    (dict(mean=None, std=None), 'got none'),
]


@pytest.mark.parametrize('kind', OTHERS)
def test_another_order_or_name_is_shown(kind, site):
    names = OTHERS[kind]
    plain, teacher = site.trained(BASELINE), site.trained(TEACHER)
    status, error = site.test(plain, names=names)
    assert_names(status, error, names, 'test_dataloader')
    assert str(plain) in error
    for base, option in (
        (OFFLINE, f'model.teacher_ckpt={teacher}'),
        (BASELINE, f'load_from={plain}'),
    ):
        status, error = site.train(base, names, options=[option])
        assert_names(status, error, names, 'train_dataloader')
        assert not list((site.folder / 'w').glob('*.pth'))


@pytest.mark.parametrize('settings, shown', WRONG_IMAGES)
def test_another_normalization_is_shown(settings, shown, site):
    plain, teacher = site.trained(BASELINE), site.trained(TEACHER)
    assert_normalization(*site.test(plain, **settings), shown, str(plain))
    for base, option in (
        (OFFLINE, f'model.teacher_ckpt={teacher}'),
        (BASELINE, f'load_from={plain}'),
    ):
        assert_normalization(*site.train(base, options=[option], **settings), shown)
    assert_normalization(
        *site.train(OFFLINE, options=[f'model.teacher_ckpt={teacher}'], **settings),
        "model.teacher_normalization='checkpoint'",
    )


FROZEN = '\nmodel.update(frozen=True, backbone=dict(depth=8))\n'
LINEAR = "\nmodel.update(type='LinearEvaluation')\n"


def test_a_frozen_backbone_is_compared(site):
    """With its head its classes too; a backbone alone says nothing of classes."""
    options = [f'model.backbone_ckpt={site.trained(BASELINE)}']
    frozen = dict(options=options, more=FROZEN)
    assert_names(*site.train(TEACHER, OTHERS['name'], **frozen), OTHERS['name'], 'train_dataloader')
    linear = dict(options=options, more=LINEAR)
    for base, settings in ((TEACHER, frozen), (BASELINE, linear)):
        wrong = site.train(base, mean=[1.0, 2.0, 3.0], **settings)
        assert_normalization(*wrong, 'got mean (1, 2, 3)')
        status, error = site.train(base, **settings)
        assert status == 0, error
        shutil.rmtree(site.folder / 'w')
    status, error = site.train(BASELINE, OTHERS['name'], **linear)
    assert status == 0, error


def test_resuming_compares_too(site):
    status, error = site.train(BASELINE)
    assert status == 0, error
    resume = dict(iters=4, flags=['--resume'])
    assert_names(
        *site.train(BASELINE, OTHERS['order'], **resume), OTHERS['order'], 'train_dataloader'
    )
    assert_normalization(*site.train(BASELINE, rgb=False, **resume), 'BGR')
    assert not (site.folder / 'w' / 'iter_4.pth').exists()
    status, error = site.train(BASELINE, **resume)
    assert status == 0, error
    assert (site.folder / 'w' / 'iter_4.pth').exists()


def test_the_same_data_passes(site):
    """Also by rounded numbers, with classes of another number, or where nothing is recorded."""
    plain, teacher = site.trained(BASELINE), site.trained(TEACHER)
    status, error = site.test(plain, mean=[120.004, 117.996, 110.0])
    assert status == 0, error
    status, error = site.train(OFFLINE, options=[f'model.teacher_ckpt={teacher}'])
    assert status == 0, error
    bare = site.folder / 'bare.pth'
    torch.save(dict(state_dict=torch.load(plain, weights_only=False)['state_dict']), bare)
    for names, settings in ((OTHERS['order'], {}), (NAMES, dict(mean=[1.0, 2.0, 3.0]))):
        status, error = site.test(bare, names=names, **settings)
        assert status == 0, error
    four = (*NAMES, 'dog')
    more = "\nmodel['head'].update(num_classes=4)\n"
    shutil.rmtree(site.folder / 'w')
    status, error = site.train(BASELINE, four, options=[f'load_from={plain}'], more=more)
    assert status == 0, error
    assert 'the rest starts afresh' in site.log


def test_published_files_record_it(site):
    status, error = site.in_process(
        'tools/model_converters/publish_student.py', site.trained(BASELINE), site.folder / 'out/x'
    )
    assert status == 0, error
    (published,) = (site.folder / 'out').glob('*.pth')
    assert_names(*site.test(published, names=OTHERS['order']), OTHERS['order'], 'test_dataloader')
    assert_normalization(*site.test(published, std=[1.0, 1.0, 1.0]), 'std (1, 1, 1)')
    status, error = site.test(published)
    assert status == 0, error


def test_many_classes_are_shown_where_they_differ(site):
    names = tuple(f'class{i:02}' for i in range(25))
    root = write_image_folder(site.folder / 'many', classes=names, per_class=2)
    more = "\nmodel['head'].update(num_classes=25)\n" + ''.join(
        f"{key}_dataloader['dataset'].update(data_root={str(root)!r})\n" for key in ('train', 'val')
    )
    status, error = site.train(BASELINE, more=more)
    assert status == 0, error
    (root / 'class07').rename(root / 'class99')
    checkpoint = site.folder / 'w' / 'iter_2.pth'
    config = site.config(BASELINE, more=more)
    status, error = site.in_process('tools/test.py', config, checkpoint)
    assert status == 1
    assert "expected 7: 'class07', 8: 'class08', 9: 'class09'" in error
    assert "got 7: 'class08', 8: 'class09', 9: 'class10'" in error
    assert 'and 13 more' in error


@pytest.mark.parametrize('student', [dict(mean=[0.0] * 3, std=[1.0] * 3), dict(rgb=False)])
@pytest.mark.parametrize('transforms', ['Rotation', 'ColorPermutation'])
def test_a_teacher_gets_its_own_normalization(student, transforms, site):
    """It says the same of the same images, whatever the student's are normalized by."""
    kind = f"dict(type='{transforms}')"
    teacher = site.trained(TEACHER, f"\nmodel['transforms'] = {kind}\n")
    theirs = dict(mean=MEAN, std=STD, rgb=True)
    outputs = []
    for settings, given in ((theirs, None), (theirs | student, 'checkpoint'), (student, theirs)):
        more = f"""
model['teacher_normalization'] = {given!r}
model['student'].update(transforms={kind})
model['teacher'].update(transforms={kind})
"""
        config = Config.fromfile(site.config(OFFLINE, more=more, **settings))
        outputs.append(teacher_says(config, teacher, site))
    for other in outputs[1:]:
        torch.testing.assert_close(other, outputs[0], rtol=1e-3, atol=1e-4)


def teacher_says(config, teacher, site):
    """The logits of the teacher in the first step of a training."""
    from mmengine.hooks import Hook

    from hsakd.engine.runner import DistillationRunner

    found = []

    class Listen(Hook):
        def before_train(self, runner):
            network = runner.model.teacher
            plain = network.outputs

            def outputs(x):
                said = plain(x)
                found.append(torch.cat([said.logits, *said.joint_logits], 1))
                return said

            network.outputs = outputs

    config.model.teacher_ckpt = str(teacher)
    config.work_dir = str(site.folder / 'w')
    config.randomness = dict(seed=0)
    config.experiment_name = f'teacher_{time.monotonic_ns()}'  # of the visualizer
    runner = DistillationRunner.from_cfg(config)
    runner.register_hook(Listen(), priority='VERY_LOW')
    runner.train()
    return found[0]


def test_a_teacher_that_says_nothing_is_told(site):
    teacher = site.trained(TEACHER)
    bare = site.folder / 'bare.pth'
    torch.save(dict(state_dict=torch.load(teacher, weights_only=False)['state_dict']), bare)
    options = [f'model.teacher_ckpt={bare}']
    status, error = site.train(
        OFFLINE, options=[*options, 'model.teacher_normalization=checkpoint']
    )
    assert status == 1
    assert 'model.teacher_normalization: expected dict(mean=[..], std=[..], rgb=True)' in error
    status, error = site.train(OFFLINE, options=[*options, 'model.teacher_normalization=imagenet'])
    assert status == 1
    assert "model.teacher_normalization: expected 'checkpoint', or dict(" in error


def test_torchvision_passes_with_a_warning(site):
    save_torchvision(site.folder / 'resnet18.pth')
    base = 'configs/baseline/resnet18_1xb32-300i_images64.py'
    status, error = site.train(base, options=[f'load_from={site.folder / "resnet18.pth"}'])
    assert status == 0, error
    assert 'data_preprocessor: expected mean (123.675, 116.28, 103.53)' in site.log


def test_a_pretrained_backbone_is_compared(site):
    start = dict(type='Pretrained', checkpoint=str(site.trained(BASELINE)))
    for prefix in (None, 'backbone.'):
        init_cfg = dict(start, prefix=prefix)
        more = f'\nmodel.update(backbone=dict(init_cfg={init_cfg!r}))\n'
        assert_normalization(*site.train(BASELINE, rgb=False, more=more), 'init_cfg.checkpoint')
        status, error = site.train(BASELINE, OTHERS['name'], more=more)  # the head starts afresh
        assert status == 0, error
        shutil.rmtree(site.folder / 'w')


def test_a_config_for_publishing_is_compared(site):
    args = 'tools/model_converters/publish_student.py', site.trained(BASELINE), site.folder / 'p/x'
    status, error = site.in_process(*args, '--config', site.config(BASELINE, rgb=False))
    assert_normalization(status, error, 'BGR')
    assert not (site.folder / 'p').exists()
    status, error = site.in_process(*args, '--config', site.config(BASELINE))
    assert status == 0, error


def test_pictures_of_a_teacher_of_another_normalization(site):
    teacher = site.trained(TEACHER)
    options = [f'model.teacher_ckpt={teacher}']
    status, error = site.train(OFFLINE, options=options)
    assert status == 0, error
    student = site.folder / 'w' / 'iter_2.pth'
    tool = 'tools/analysis_tools/plot_joint_distribution.py'
    config = site.config(OFFLINE, rgb=False)
    out = ('--indices', 0, '--out', site.folder / 'pictures.png')
    arguments = tool, config, student, *out, '--cfg-options', *options
    assert_normalization(*site.in_process(*arguments), 'BGR')
    own = 'model.teacher_normalization=checkpoint'
    shutil.rmtree(site.folder / 'w')
    status, error = site.train(OFFLINE, rgb=False, options=[*options, own])
    assert status == 0, error
    status, error = site.in_process(*arguments, own)
    assert status == 0, error
