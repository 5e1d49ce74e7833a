#!/usr/bin/env python
"""``hsakd detect`` in a clone; all of it is in hsakd/commands/detect.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hsakd.commands.detect import main  # noqa: E402
from hsakd.utils.cli import run_tool  # noqa: E402

if __name__ == '__main__':
    run_tool(main)
