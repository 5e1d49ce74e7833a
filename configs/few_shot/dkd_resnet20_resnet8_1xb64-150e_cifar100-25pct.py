# As long as HSAKD's student takes in 24 epochs: a step of it takes 6 times as long.
_base_ = ['dkd_resnet20_resnet8_1xb64-24e_cifar100-25pct.py']

model = dict(
    loss_weights=dict(loss_target=dict(warmup_epochs=12), loss_rest=dict(warmup_epochs=12))
)
param_scheduler = dict(milestones=[94, 113, 131])
train_cfg = dict(max_epochs=150, val_interval=50)
