"""Training on a part of CIFAR-100, in its archive's layout, and of an image folder."""

import json
from collections import Counter

import pytest
import torch

from hsakd.registry import MODELS
from tests.conftest import ROOT, network_cfg, write_image_folder
from tests.datasets.test_cifar import write_cifar100

PLAIN = 'configs/few_shot/resnet20_1xb64-240e_cifar100-25pct.py'
STUDENT = 'configs/few_shot/hsakd-offline_resnet56_resnet20_1xb64-240e_cifar100-25pct.py'
HALF = 'configs/few_shot/hsakd-offline_resnet56_resnet20_1xb64-240e_cifar100-50pct.py'
FOLDER = 'configs/few_shot/resnet8_1xb32-300i_images32-25pct.py'
SMALL = dict(depth=8, stem_channels=4, base_channels=4)


def backbone(key, **changes):
    return [f'{key}.backbone.{name}={value}' for name, value in {**SMALL, **changes}.items()] + [
        f'{key}.head.in_channels=16'
    ]


@pytest.fixture
def train(tmp_path, in_process):
    def train(config, name, *options, args=()):
        status, stderr = in_process(
            'tools/train.py', ROOT / config, '--work-dir', tmp_path / name, *args, '--cfg-options',
            'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0', *options,
        )  # fmt: skip
        assert status == 0, stderr
        return json.loads((tmp_path / name / 'few_shot_indices.json').read_text())

    return train


def test_every_method_trains_on_the_same_images_and_lists_them(tmp_path, train):
    write_cifar100(tmp_path / 'data', number=400)
    labels = [i * 13 % 100 for i in range(400)]
    teacher = tmp_path / 'teacher.pth'
    network = MODELS.build(network_cfg(num_classes=100))
    torch.save(dict(state_dict=network.state_dict()), teacher)
    data = f'train_dataloader.dataset.dataset.data_root={tmp_path / "data"}'
    options = (data, f'val_dataloader.dataset.data_root={tmp_path / "data"}')
    distil = (*backbone('model.student'), *backbone('model.teacher'))
    distil += (f'model.teacher_ckpt={teacher}',)

    plain = train(
        PLAIN, 'plain', *options, *backbone('model'), 'randomness.seed=1', 'train_cfg.max_epochs=2'
    )
    student = train(STUDENT, 'student', *options, *distil, 'train_cfg.max_epochs=1')
    assert student == plain
    assert (student['fraction'], student['seed'], student['num_images']) == (0.25, 0, 400)
    assert Counter(labels[i] for i in student['indices']) == {label: 1 for label in range(100)}
    # 100 images in batches of 64
    checkpoint = torch.load(tmp_path / 'plain' / 'epoch_2.pth', weights_only=False)
    assert checkpoint['meta']['iter'] == 2 * 2
    assert len(checkpoint['meta']['dataset_meta']['classes']) == 100

    half = train(HALF, 'half', *options, *distil, 'train_cfg.max_epochs=1')
    assert set(plain['indices']) < set(half['indices']) and len(half['indices']) == 200


def test_a_folder_with_a_bad_image_and_a_worker(tmp_path, train):
    folder = write_image_folder(tmp_path / 'train', per_class=16)
    (folder / 'dog' / '5.png').write_bytes(b'broken')
    test = write_image_folder(tmp_path / 'test')
    record = train(
        FOLDER, 'folder', f'train_dataloader.dataset.dataset.data_root={folder}',
        f'val_dataloader.dataset.data_root={test}', 'model.head.num_classes=2',
        'val_evaluator.0.topk=(1,)', 'train_cfg.max_iters=6', 'train_cfg.val_interval=6',
        'train_dataloader.batch_size=4', 'train_dataloader.num_workers=1',
        args=('--skip-bad-images',),
    )  # fmt: skip
    assert record['num_images'] == 31
    assert len(record['indices']) == 8
