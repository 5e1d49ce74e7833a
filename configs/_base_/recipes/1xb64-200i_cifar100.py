# Minutes on a CPU, to see each method learn on real images: the paper's recipe in 200 iterations.
_base_ = ['../datasets/cifar100.py', '../schedules/cifar_240e.py', '../iters_runtime.py']

param_scheduler = dict(by_epoch=False, milestones=[125, 150, 175])
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=200, val_interval=200)
