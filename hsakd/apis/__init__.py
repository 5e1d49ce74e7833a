"""What the tools do, for notebooks and other programs."""

# ruff: noqa: E402
from hsakd import setup
from hsakd.utils.third_party import import_quietly

setup()  # before anything is read
import_quietly('mmpretrain.models')

from .classifier import load_classifier
from .conversion import convert_checkpoint
from .detector import detect, holds_detector, load_detector
from .detector_onnx import export_detector
from .inference import find_images, predict, readable_images, save_predictions
from .online import best_network
from .publishing import export_onnx, publish, publish_detector

__all__ = [
    'best_network',
    'convert_checkpoint',
    'detect',
    'export_detector',
    'export_onnx',
    'find_images',
    'holds_detector',
    'load_classifier',
    'load_detector',
    'predict',
    'publish',
    'publish_detector',
    'readable_images',
    'save_predictions',
]
