_base_ = ['../_base_/pairs/resnet20_resnet8_cifar100.py']

# Without warm-up, which is longer than this training.
model = dict(type='ReviewKD', loss_weights=dict(loss_review=0.6))
