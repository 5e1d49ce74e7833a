# A tenth of the paper's schedule on a fourth of the images, in fast mode: hours on a CPU.
_base_ = [
    '../datasets/cifar100.py',
    '../schedules/cifar_240e.py',
    '../default_runtime.py',
    '../fast.py',
]

train_dataloader = dict(
    dataset=dict(
        type='FewShotSubset', fraction=0.25, seed=0, dataset=_base_.train_dataloader.pop('dataset')
    )
)
param_scheduler = dict(milestones=[15, 18, 21])
train_cfg = dict(max_epochs=24, val_interval=8)
