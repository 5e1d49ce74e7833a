"""Methods: what is trained, and by which losses."""

from .base import Distiller, OfflineDistiller, OnlineDistiller
from .hsakd_offline import HSAKDOffline
from .hsakd_online import HSAKDOnline
from .hsakd_teacher import HSAKDTeacher

__all__ = [
    'Distiller',
    'HSAKDOffline',
    'HSAKDOnline',
    'HSAKDTeacher',
    'OfflineDistiller',
    'OnlineDistiller',
]
