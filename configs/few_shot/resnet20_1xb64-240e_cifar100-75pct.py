_base_ = ['resnet20_1xb64-240e_cifar100-25pct.py']

train_dataloader = dict(dataset=dict(fraction=0.75))
