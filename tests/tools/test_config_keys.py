"""A key that nothing reads, and a value that nothing takes, is named with what was meant."""

import pytest
from mmengine.config import Config

from hsakd.apis.running import load_config
from tests.conftest import ROOT, run_tool, write_image_folder

PLAIN = ROOT / 'configs/baseline/wrn-10-1_1xb64-80e_digits.py'
STUDENT = ROOT / 'configs/hsakd/hsakd-offline_wrn-16-2_wrn-10-1_1xb64-80e_digits.py'
VOC = ROOT / 'configs/detection/voc/faster-rcnn_resnet18-c4_8xb2-18000i_voc0712.py'


@pytest.fixture
def train(in_process, tmp_path):
    def run(config, *options):
        options = ('--cfg-options', *options) if options else ()
        status, error = in_process('tools/train.py', config, '--work-dir', tmp_path / 'w', *options)
        assert 'Traceback' not in error
        assert not list((tmp_path / 'w').glob('*.pth'))
        return status, error

    return run


@pytest.mark.parametrize(
    'option, words',
    [
        ('train_dataloder.batch_size=8', "did you mean 'train_dataloader'?"),
        ('optim_wraper.optimizer.lr=0.1', "did you mean 'optim_wrapper'?"),
        ('train_dataloader.batch_sise=8', 'train_dataloader.batch_sise: expected one of'),
        ('train_dataloader.batch_sise=8', "did you mean 'batch_size'?"),
        ('val_dataloader.num_worker=1', "did you mean 'num_workers'?"),
        ('train_cfg.max_epoch=1', 'train_cfg.max_epoch: expected one of'),
        ('train_cfg.max_epoch=1', "did you mean 'max_epochs'?"),
        ('env_cfg.cudnn_benchmrk=False', "did you mean 'cudnn_benchmark'?"),
        ('randomness.sead=1', "did you mean 'seed'?"),
        ('auto_scale_lr.base_batchsize=1', "did you mean 'base_batch_size'?"),
        ('log_processor.windowsize=1', "did you mean 'window_size'?"),
        ('optim_wrapper.clip_gradient=1', "did you mean 'clip_grad'?"),
        ('batch_size=8', '--cfg-options batch_size: expected train_dataloader.batch_size or'),
        ('lr=0.1', '--cfg-options lr: expected optim_wrapper.optimizer.lr'),
        ('default_hooks.checkpoint.max_keep_ckpt=3', 'default_hooks.checkpoint.max_keep_ckpt '),
        ('default_hooks.checkpoint.max_keep_ckpt=3', "did you mean 'max_keep_ckpts'?"),
        ('default_hooks.checkpoint.colour=red', 'default_hooks.checkpoint.colour cannot be used'),
        ('default_hooks.loger.interval=3', 'default_hooks.loger cannot be used'),
        ('default_hooks.loger.interval=3', "did you mean 'logger'?"),
        ('model.backbone.dephth=16', 'model.backbone.dephth cannot be used'),
        ('model.backbone.dephth=16', "did you mean 'depth'?"),
        ('model.head.num_clases=10', 'model.head.num_clases cannot be used'),
        ('model.head.num_clases=10', "did you mean 'num_classes'?"),
        ('model.backbone.type=WideResnet', 'model.backbone.type cannot be used'),
        ('model.backbone.type=WideResnet', "did you mean 'WideResNet'?"),
        ('model.head.type=mmpretrain.LinearCslHead', "did you mean 'mmpretrain.LinearClsHead'?"),
        ('model.head.type=LinearClsHead', "model.head.type='LinearClsHead': expected mmpretrain."),
        ('train_dataloader.dataset.type=Digit', 'train_dataloader.dataset.type cannot be used'),
        ('train_dataloader.dataset.type=Digit', "did you mean 'Digits'?"),
        ('val_evaluator.0.topk=abc', 'val_evaluator: topk: expected numbers from 1'),
        ('val_evaluator.0.topk=[0]', 'val_evaluator: topk: expected numbers from 1'),
        ('param_scheduler.type=CosineAnealingLR', "did you mean 'CosineAnnealingLR'?"),
        ('train_dataloader.sampler.type=DefaultSample', "did you mean 'DefaultSampler'?"),
        ('default_scope=mmpretran', 'default_scope: expected one of hsakd, mmpretrain'),
        ('log_level=INFOO', 'log_level cannot be used: KeyError: INFOO'),
        ('env_cfg.mp_cfg.mp_start_method=frok', 'env_cfg.mp_cfg.mp_start_method cannot be used'),
        ('custom_hooks.0.type=EMAHook', 'no item of custom_hooks, which is empty here'),
        ('val_evaluator.topk=1', '--cfg-options val_evaluator.topk: expected a number below'),
        ('val_evaluator.7.topk=1', "behind val_evaluator, a list, got '7'"),
        ('val_evaluator.0.topks=1', "did you mean 'topk'?"),
        ('optim_wrapper.optimizer.lr=abc', 'optim_wrapper.optimizer.lr cannot be used'),
        ('optim_wrapper.optimizer.lr=abc', "expected a number, got 'abc'"),
        ('optim_wrapper.optimizer.momentum=abc', 'optim_wrapper.optimizer.momentum cannot'),
        ('optim_wrapper.optimizer.weigth_decay=0', "did you mean 'weight_decay'?"),
        ('param_scheduler.milestone=3', "did you mean 'milestones'?"),
    ],
)
def test_options(option, words, train):
    status, error = train(PLAIN, option)
    assert status == 1 and error.count('error: ') == 1
    assert words in error


def test_the_place_of_a_type_without_its_prefix(train, tmp_path):
    """And not that of the same type with it."""
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = ['{PLAIN}']\n"
        "val_evaluator = [dict(type='mmpretrain.Accuracy', topk=(1, 5)),\n"
        "    dict(type='BranchAccuracy'), dict(type='Accuracy', topk=(1, 5))]\n"
    )
    status, error = train(config)
    assert status == 1 and "val_evaluator.2.type='Accuracy': expected mmpretrain.Acc" in error


@pytest.mark.parametrize(
    'option, words',
    [
        ('model.studnet.backbone.depth=16', "did you mean 'student'?"),
        ('model.student.backbone.dept=16', 'model.student.backbone.dept cannot'),
        ('model.kd_loss.temprature=2', "did you mean 'temperature'?"),
    ],
)
def test_options_of_a_distiller(option, words, train):
    status, error = train(STUDENT, option)
    assert status == 1 and words in error


@pytest.mark.parametrize(
    'line, words',
    [
        ('train_dataloder = dict(batch_size=8)', "did you mean 'train_dataloader'?"),
        ("custom_hook = [dict(type='EMAHook')]", "did you mean 'custom_hooks'?"),
        ('val_evaluators = []', "did you mean 'val_evaluator'?"),
    ],
)
def test_a_typo_at_the_top_of_a_config(line, words, train, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(f"_base_ = ['{PLAIN}']\n{line}\n")
    status, error = train(config)
    assert status == 1 and words in error


def test_kinds_of_color_that_are_none(train, tmp_path):
    """It is no fault of an image."""
    for split in ('train', 'test'):
        write_image_folder(tmp_path / 'data/images' / split)
    config = ROOT / 'configs/baseline/resnet20_1xb64-240e_images32.py'
    kind = 'train_dataloader.dataset.pipeline.0.color_type=gray'
    status, error = train(
        config, kind, f'train_dataloader.dataset.data_root={tmp_path}/data/images/train'
    )
    assert status == 1 and 'color_type of LoadImage: expected color or grayscale' in error


def test_keys_that_only_the_config_reads(train, tmp_path):
    """A variable that the file uses is one, also of a base; its change later has no effect."""
    (tmp_path / 'base.py').write_text(f"_base_ = ['{PLAIN}']\nwidth = 1\nmomentum = 0.8\n")
    config = tmp_path / 'config.py'
    config.write_text(
        "_base_ = ['base.py']\n"
        'epochs = 1\n'
        'train_cfg = dict(max_epochs=epochs)\n'
        'model = dict(backbone=dict(widen_factor={{_base_.width}}))\n'
        'optim_wrapper = dict(optimizer=dict(momentum=_base_.momentum, lr=-1))\n'
        'batch_size = 7\n'
    )
    done = run_tool('tools/train.py', config, '--work-dir', tmp_path / 'w')
    assert done.returncode == 1 and 'Invalid learning rate' in done.stderr  # before training
    said = [line for line in done.stdout.splitlines() if 'nothing here reads' in line]
    assert len(said) == 1 and 'batch_size: ' in said[0]
    assert 'expected train_dataloader.batch_size or val_dataloader.batch_size' in said[0]
    status, error = train(config, 'epochs=2')
    assert status == 1 and '--cfg-options epochs: expected' in error
    assert 'got a variable of the config that was read before' in error


@pytest.mark.parametrize('config', [PLAIN, STUDENT, VOC])
def test_configs_that_mmengine_wrote_out(config, tmp_path, caplog):
    """They have the values of variables that no file reads any more."""
    Config.fromfile(config).dump(tmp_path / 'config.py')
    load_config(str(config))
    load_config(str(tmp_path / 'config.py'))
    assert not [record for record in caplog.records if 'nothing here reads' in record.message]
