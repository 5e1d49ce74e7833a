_base_ = ['../_base_/pairs/resnet20_resnet8_cifar100.py']

# Without warm-up, which is longer than this training.
model = dict(type='DKD', loss_weights=dict(loss_target=1.0, loss_rest=2.0))
