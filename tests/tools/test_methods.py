"""Methods end to end on the digits: train, resume in the middle to the bit, publish."""

import pytest

from tests.conftest import ROOT
from tests.faults.conftest import assert_same_training, last, tools  # noqa: F401
from tests.faults.test_resume import SHORT, train

CONFIG = """
_base_ = ['ROOT/configs/_base_/pairs/wrn-16-2_wrn-10-1_digits.py']
model = dict(type='KIND')
"""


@pytest.fixture(scope='module')
def teacher(tools, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp('teacher')
    config = ROOT / 'configs/baseline/wrn-10-1_1xb64-80e_digits.py'
    network = ('model.backbone.depth=16', 'model.backbone.widen_factor=2')
    options = (*SHORT, *network, 'model.head.in_channels=128')
    train(tools, config, folder / 'work', options)
    return folder / 'work/epoch_2.pth'


@pytest.mark.parametrize('kind', ['AT', 'VID', 'CC', 'DKD', 'ReviewKD'])
def test_train_resume_publish(kind, teacher, tools, tmp_path):  # noqa: F811
    """Helper layers are in checkpoints, and no part of what is published."""
    config = tmp_path / 'config.py'
    config.write_text(CONFIG.replace('ROOT', str(ROOT)).replace('KIND', kind))
    options = (*SHORT, f'model.teacher_ckpt={teacher}', 'default_hooks.checkpoint.max_keep_ckpts=3')
    options += ('train_cfg.max_epochs=3',)
    train(tools, config, tmp_path / 'whole', options)
    start = tmp_path / 'whole/epoch_1.pth'
    train(tools, config, tmp_path / 'cut', options, '--resume', start)
    assert_same_training(last(tmp_path / 'whole'), last(tmp_path / 'cut'))
    publish = 'tools/model_converters/publish_student.py'
    done = tools.run(publish, last(tmp_path / 'cut'), tmp_path / 'out/student', log=tmp_path / 'p')
    assert list((tmp_path / 'out').glob('student-*.pth')), done.output


def test_mixed_images_have_no_right_class(teacher, in_process, tmp_path):
    cutmix = "dict(augments=[dict(type='CutMix', alpha=1.0)])"
    mixed = f'data_preprocessor = dict(batch_augments={cutmix})'
    config = tmp_path / 'config.py'
    config.write_text(CONFIG.replace('ROOT', str(ROOT)).replace('KIND', 'DKD') + mixed)
    options = ('--cfg-options', *SHORT, f'model.teacher_ckpt={teacher}')
    status, error = in_process('tools/train.py', config, '--work-dir', tmp_path / 'w', *options)
    assert status == 1 and error.startswith('error: model.type=DKD: expected one label an image')
