"""Train and test small models in this process, one of several or the only one.

Run by torchrun as ``distributed_worker.py OUT NAME...``: the results of each case go to
``OUT/NAME.pth``.
"""

import os
import sys
import uuid
from pathlib import Path

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import Dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hsakd.engine.runner import DistillationRunner
from hsakd.registry import DATASETS, HOOKS, MODELS
from tests.conftest import network_cfg

BATCH = 8
BATCHES = 3


#: Every way to train, with weights of 0 too.
MODEL_CFGS = dict(
    baseline=lambda: network_cfg(branches=False),
    teacher=lambda: network_cfg(type='HSAKDTeacher'),
    frozen=lambda: network_cfg(type='HSAKDTeacher', frozen=True),
    offline=lambda: dict(type='HSAKDOffline', student=network_cfg(), teacher=network_cfg(14)),
    online=lambda: dict(type='HSAKDOnline', networks=[network_cfg(), network_cfg(14)]),
    linear=lambda: _linear_evaluation(),
    teacher_off=lambda: network_cfg(type='HSAKDTeacher', loss_weights=dict(loss_cls=0)),
    offline_off=lambda: dict(
        MODEL_CFGS['offline'](), loss_weights=dict(loss_kd_aux=0, loss_kd_logits=0)
    ),
    online_off=lambda: dict(
        MODEL_CFGS['online'](), loss_weights=dict(loss_aux=0, loss_kd_aux=0, loss_kd_logits=0)
    ),
)


def _linear_evaluation():
    cfg = network_cfg(branches=False)
    return {**cfg, 'type': 'LinearEvaluation'}


#: Options of the training, by the part of a case's name after '+'.
VARIANTS = dict(
    accumulated=dict(parts=2, optim_wrapper=dict(accumulative_counts=2)),
    clipped=dict(optim_wrapper=dict(clip_grad=dict(max_norm=0.05))),
    train_mode=dict(train_mode=True),
)


class Noise(Dataset):
    """Images of noise with labels."""

    def __init__(self, num):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(num, 3, 16, 16, generator=generator)
        self.labels = torch.randint(5, (num,), generator=generator)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        sample = DataSample().set_gt_label(self.labels[index])
        return dict(inputs=self.images[index], data_samples=sample)


class DoublePreprocessor(ClsDataPreprocessor):
    def forward(self, data, training=False):
        data = super().forward(data, training)
        return dict(data, inputs=data['inputs'].double())


class Record(Hook):
    """Keeps the mean losses of all processes; normalization stays in eval mode unless told."""

    def __init__(self, train_mode):
        self.train_mode = train_mode
        self.losses = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        for module in runner.model.modules():
            if isinstance(module, _BatchNorm) and not self.train_mode:
                module.eval()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        outputs = {name: value.detach().clone() for name, value in outputs.items()}
        for value in outputs.values():
            all_reduce(value, 'mean')
        self.losses.append(outputs)


for registry, kind in ((DATASETS, Noise), (MODELS, DoublePreprocessor), (HOOKS, Record)):
    registry.register_module(module=kind, force=True)


def build_model(name):
    """A model of ``MODEL_CFGS`` with weights and statistics that are the same everywhere."""
    torch.manual_seed(0)
    cfg = MODEL_CFGS[name]()
    model = MODELS.build(dict(cfg, data_preprocessor=dict(type='DoublePreprocessor')))
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    if name.startswith('offline'):
        model.teacher.load_state_dict(model.teacher.state_dict())  # as from its checkpoint
    model.init_weights = lambda: None  # they have their weights
    return model.double()


def loader(num, batch_size):
    return dict(
        batch_size=batch_size,
        num_workers=0,
        dataset=dict(type='Noise', num=num),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )


def build_runner(model, launcher, work_dir, **kwargs):
    return DistillationRunner(
        model=model,
        work_dir=str(work_dir),
        launcher=launcher,
        default_scope='hsakd',
        default_hooks=dict(checkpoint=None, logger=None),
        log_level='ERROR',
        env_cfg=dict(mp_cfg=dict(mp_start_method='fork')),
        randomness=dict(seed=0),
        experiment_name=str(uuid.uuid4()),
        **kwargs,
    )


def train(case, launcher, work_dir, processes=1):
    """Two epochs of SGD with momentum: the losses, and the weights at the end.

    Each of ``processes`` gets its share of the batches of ``BATCH`` images.
    """
    name, _, variant = case.partition('+')
    options = dict(VARIANTS.get(variant, {}))
    parts = options.pop('parts', 1)
    optim_wrapper = dict(options.pop('optim_wrapper', {}))
    record = Record(options.pop('train_mode', False))
    optimizer = dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-3)
    runner = build_runner(
        build_model(name),
        launcher,
        work_dir,
        train_dataloader=loader(BATCH * BATCHES, BATCH // processes // parts),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(type='OptimWrapper', optimizer=optimizer, **optim_wrapper),
        custom_hooks=[record],
        cfg=dict(options),
    )
    runner.train()
    model = getattr(runner.model, 'module', runner.model)
    return dict(losses=record.losses, weights=model.state_dict())


def test(case, launcher, work_dir):
    """Metrics of 13 images, which no number of processes here divides."""
    runner = build_runner(
        build_model(case),
        launcher,
        work_dir,
        test_dataloader=loader(13, 4),
        test_cfg=dict(),
        test_evaluator=[
            dict(type='mmpretrain.Accuracy', topk=(1, 2)),
            dict(type='BranchAccuracy'),
            dict(type='NetworkAccuracy'),
        ],
    )
    return runner.test()


def main():
    out, processes, *cases = sys.argv[1:]
    for case in cases:
        action, _, case_name = case.partition(':')
        with DefaultScope.overwrite_default_scope('hsakd'):
            if action == 'test':
                result = test(case_name, 'pytorch', Path(out) / 'work')
            else:
                result = train(case_name, 'pytorch', Path(out) / 'work', int(processes))
        if is_main_process():
            torch.save(result, Path(out) / f'{case.replace(":", "_")}.pth')
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # gloo's threads now and then abort a process that takes itself apart


if __name__ == '__main__':
    main()
