"""Classifiers that own a backbone, a head, branches and joint heads."""

from .branched_classifier import BranchedClassifier, Outputs
from .linear_evaluation import LinearEvaluation

__all__ = ['BranchedClassifier', 'LinearEvaluation', 'Outputs']
