default_scope = 'hsakd'
runner_type = 'hsakd.DistillationRunner'  # for tools/train.py and test.py of mmpretrain

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1, save_best='accuracy/top1'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='mmpretrain.VisualizationHook', enable=False),
)
# Steps wait for a GPU where there is a line of the log, so that their time is a mean between two.
log_processor = dict(custom_cfg=[dict(data_src='time', method_name='mean', window_size=50)])
custom_hooks = []  # besides those that every run has

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
randomness = dict(seed=0)

visualizer = dict(
    type='mmpretrain.UniversalVisualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
log_level = 'INFO'
load_from = None
resume = False
max_bad_images = 0  # in training data: so many, in each process, are replaced by others
