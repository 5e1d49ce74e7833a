_base_ = ['../hsakd/hsakd-offline_resnet56_resnet20_1xb64-240e_cifar100.py']

train_dataloader = dict(
    dataset=dict(
        type='FewShotSubset', fraction=0.25, seed=0, dataset=_base_.train_dataloader.pop('dataset')
    )
)
