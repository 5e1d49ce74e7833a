"""Classifiers that own a backbone, a head, branches and joint heads."""

from .branched_classifier import BranchedClassifier

__all__ = ['BranchedClassifier']
