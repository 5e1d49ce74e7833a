"""The command ``hsakd``: a module a subcommand, each with ``main(argv)``.

``tools/*.py`` are shells over the same functions. They come with a wheel, too, in ``hsakd/.mim``.
"""

import os
from pathlib import Path

#: Name: what it does, and its file below tools/, where it has one.
COMMANDS = {
    'train': ('train what a config describes', 'train.py'),
    'test': ('evaluate a checkpoint on the test set of a config', 'test.py'),
    'distill': ('train a student and all it needs, publish, compare', 'distill.py'),
    'detect': ('train a detector on your images with boxes', 'detect.py'),
    'compare': ('several configs or seeds side by side', 'compare.py'),
    'predict': ('classify images, or find objects in them', 'predict.py'),
    'publish': ('a classifier or detector to share', 'model_converters/publish_student.py'),
    'convert': ("a checkpoint of the authors'", 'model_converters/convert_official.py'),
    'report': ('one page on any runs, with pictures', 'analysis_tools/report.py'),
    'results': ('the table of results of work dirs', 'analysis_tools/collect_results.py'),
    'curves': ('draw what was logged by epoch', 'analysis_tools/plot_curves.py'),
    'joint': ('draw what branches say', 'analysis_tools/plot_joint_distribution.py'),
    'flops': ('parameters and multiply-adds', 'analysis_tools/get_flops.py'),
    'voc-to-coco': ("PASCAL VOC's annotations as COCO's", 'dataset_converters/voc_to_coco.py'),
    'list': ('methods, networks and configs that come with hsakd', None),
    'completion': ('a script that completes commands, options and configs', None),
}

# In a clone a link leads to the folder that everybody knows.
_TOOLS = (Path(__file__).resolve().parents[1] / '.mim' / 'tools').resolve()
IN_CLONE = _TOOLS.parent.name != '.mim'


def tool_file(command: str) -> Path:
    """The file that is run for a command by a process of its own."""
    return _TOOLS / COMMANDS[command][1]


def typed(command: str) -> str:
    """A command as it is typed: ``python tools/train.py`` in a clone, else ``hsakd train``."""
    file = os.path.relpath(tool_file(command))
    return f'python {file}' if IN_CLONE else f'hsakd {command}'
