"""Checkpoints of others into ours."""

import io
from pathlib import Path

import torch

from hsakd.utils.checkpoint import read_checkpoint
from hsakd.utils.files import write_files
from hsakd.utils.official import convert_official


def convert_checkpoint(src: str | Path, dst: str | Path, force: bool = False) -> dict:
    """Convert a checkpoint as the paper's authors publish it.

    Args:
        src: Their file; nothing in it is executed.
        dst: The file to write, for ``model.teacher_ckpt``, ``model.backbone_ckpt`` and
            tools/test.py.
        force: Replace ``dst`` if it exists.

    Returns:
        What was written, see :func:`hsakd.utils.official.convert_official`.

    Raises:
        CheckpointError: ``src`` is missing, broken, or none of their networks.
        UserError: ``dst`` exists or cannot be written.
    """
    converted = convert_official(read_checkpoint(src, 'SRC'), f'SRC={str(src)!r}')
    write_files({dst: checkpoint_bytes(converted)}, force)
    return converted


def checkpoint_bytes(checkpoint: dict) -> bytes:
    """The file of a checkpoint; the same bytes for the same content, whatever its name."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()
