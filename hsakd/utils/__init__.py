"""Checkpoints, errors, and what the tools share."""
