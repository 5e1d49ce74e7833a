"""Methods: what is trained, and by which losses."""

from .at import AT
from .base import Distiller, OfflineDistiller, OnlineDistiller
from .cc import CC
from .dist import DIST
from .dkd import DKD
from .feature_distiller import FeatureDistiller
from .fitnet import FitNet
from .hsakd_offline import HSAKDOffline
from .hsakd_online import HSAKDOnline
from .hsakd_teacher import HSAKDTeacher
from .kd import KD
from .nst import NST
from .pkt import PKT
from .reviewkd import ReviewKD
from .rkd import RKD
from .sp import SP
from .vid import VID

__all__ = [
    'AT',
    'CC',
    'DIST',
    'DKD',
    'KD',
    'NST',
    'PKT',
    'RKD',
    'SP',
    'VID',
    'Distiller',
    'FeatureDistiller',
    'FitNet',
    'HSAKDOffline',
    'HSAKDOnline',
    'HSAKDTeacher',
    'OfflineDistiller',
    'OnlineDistiller',
    'ReviewKD',
]
