"""Methods: what is trained, and by which losses."""

from .ab import AB
from .at import AT
from .bake import BAKE
from .base import Distiller, OfflineDistiller, OnlineDistiller, SelfDistiller
from .byot import BYOT, BYOTJournal
from .cc import CC
from .cl_ilr import CLILR
from .crd import CRD
from .cskd import CSKD
from .ddgsd import DDGSD
from .dist import DIST
from .dkd import DKD
from .dml import DML
from .feature_distiller import FeatureDistiller
from .ffl import FFL
from .fitnet import FitNet
from .fsp import FSP
from .ft import FT, FTParaphraser
from .hsakd_offline import HSAKDOffline
from .hsakd_online import HSAKDOnline
from .hsakd_teacher import HSAKDTeacher
from .kd import KD
from .kdcl import KDCL
from .mcl import MCL
from .mcl_memory import MCLMemory
from .mixskd import MixSKD
from .nst import NST
from .okddip import OKDDip
from .one import ONE
from .pkt import PKT
from .pskd import PSKD
from .reviewkd import ReviewKD
from .rkd import RKD
from .sp import SP
from .sskd import SSKD
from .sskd_head import SSKDHead
from .tfkd import TfKD
from .vid import VID

__all__ = [
    'BAKE',
    'DDGSD',
    'FFL',
    'BYOT',
    'BYOTJournal',
    'CLILR',
    'CSKD',
    'DML',
    'KDCL',
    'MCL',
    'MCLMemory',
    'MixSKD',
    'OKDDip',
    'ONE',
    'PSKD',
    'TfKD',
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
