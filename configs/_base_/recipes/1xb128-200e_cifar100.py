# That of a library's table of self-distillation.
_base_ = ['../datasets/cifar100.py', '../schedules/cifar_200e.py', '../default_runtime.py']

train_dataloader = dict(batch_size=128)
