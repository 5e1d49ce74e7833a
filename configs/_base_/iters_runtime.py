# For trainings that count iterations, with a checkpoint every 100.
_base_ = ['default_runtime.py']

default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=100), logger=dict(log_metric_by_epoch=False)
)
log_processor = dict(by_epoch=False)
