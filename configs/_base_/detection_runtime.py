_base_ = ['mmdet::_base_/default_runtime.py']

# What the backbone starts from: a checkpoint of tools/train.py, a published student, a classifier
# of mmpretrain or a ResNet of torchvision; 'random' trains from scratch. Of an online checkpoint,
# pretrained_network says which of its networks.
pretrained_backbone = None
pretrained_network = None

default_hooks = dict(
    checkpoint=dict(type='hsakd.CheckpointHook', max_keep_ckpts=1, save_best='auto'),
)
custom_hooks = []  # besides those that every run has
randomness = dict(seed=0)
max_bad_images = 0  # in training data: so many, in each process, are replaced by others
