_base_ = ['../baseline/resnet8_1xb32-300i_images32.py']

train_dataloader = dict(
    dataset=dict(
        type='FewShotSubset', fraction=0.25, seed=0, dataset=_base_.train_dataloader.pop('dataset')
    )
)
