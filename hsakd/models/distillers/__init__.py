"""Methods: what is trained, and by which losses."""

from .ab import AB
from .at import AT
from .base import Distiller, OfflineDistiller, OnlineDistiller, SelfDistiller
from .cc import CC
from .crd import CRD
from .dist import DIST
from .dkd import DKD
from .feature_distiller import FeatureDistiller
from .fitnet import FitNet
from .fsp import FSP
from .ft import FT, FTParaphraser
from .hsakd_offline import HSAKDOffline
from .hsakd_online import HSAKDOnline
from .hsakd_teacher import HSAKDTeacher
from .kd import KD
from .nst import NST
from .pkt import PKT
from .reviewkd import ReviewKD
from .rkd import RKD
from .sp import SP
from .sskd import SSKD, SSKDHead
from .vid import VID

__all__ = [
    'AB',
    'AT',
    'CC',
    'CRD',
    'DIST',
    'DKD',
    'FSP',
    'FT',
    'KD',
    'NST',
    'PKT',
    'RKD',
    'SP',
    'SSKD',
    'VID',
    'Distiller',
    'FeatureDistiller',
    'FTParaphraser',
    'FitNet',
    'HSAKDOffline',
    'HSAKDOnline',
    'HSAKDTeacher',
    'OfflineDistiller',
    'OnlineDistiller',
    'ReviewKD',
    'SSKDHead',
    'SelfDistiller',
]
