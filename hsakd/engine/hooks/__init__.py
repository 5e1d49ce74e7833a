"""Hooks: checks and records before a run, the guard against non-finite losses, the progress bar."""

from .few_shot_record_hook import FewShotRecordHook
from .missed_validation_hook import MissedValidationHook
from .non_finite_loss_hook import NonFiniteLossHook
from .progress_hook import ProgressHook
from .setup_check_hook import SetupCheckHook

__all__ = [
    'FewShotRecordHook',
    'MissedValidationHook',
    'NonFiniteLossHook',
    'ProgressHook',
    'SetupCheckHook',
]
