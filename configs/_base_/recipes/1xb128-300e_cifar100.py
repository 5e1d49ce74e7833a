# That of the tables of online methods.
_base_ = ['../datasets/cifar100.py', '../schedules/cifar_300e.py', '../default_runtime.py']

train_dataloader = dict(batch_size=128)
