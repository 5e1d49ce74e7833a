"""Hooks: checks before a run, the guard against non-finite losses, and the progress display."""

from .non_finite_loss_hook import NonFiniteLossHook
from .progress_hook import ProgressHook
from .setup_check_hook import SetupCheckHook

__all__ = ['NonFiniteLossHook', 'ProgressHook', 'SetupCheckHook']
