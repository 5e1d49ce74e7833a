_base_ = ['../_base_/pairs/resnet20_resnet8_cifar100-25pct.py']

model = dict(
    type='DKD',
    loss_weights=dict(
        loss_target=dict(weight=1.0, warmup_epochs=2),
        loss_rest=dict(weight=2.0, warmup_epochs=2),
    ),
)
