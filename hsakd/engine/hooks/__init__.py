"""Hooks: checks before a run, checkpoints, stopping when asked, the guard of losses, progress."""

from .checkpoint_hook import CheckpointHook
from .early_stopping_hook import EarlyStoppingHook
from .few_shot_record_hook import FewShotRecordHook
from .missed_validation_hook import MissedValidationHook
from .non_finite_loss_hook import NonFiniteLossHook
from .preemption_hook import PreemptionHook
from .progress_hook import ProgressHook
from .run_record_hook import RunRecordHook
from .setup_check_hook import SetupCheckHook

__all__ = [
    'CheckpointHook',
    'EarlyStoppingHook',
    'FewShotRecordHook',
    'MissedValidationHook',
    'NonFiniteLossHook',
    'PreemptionHook',
    'ProgressHook',
    'RunRecordHook',
    'SetupCheckHook',
]
