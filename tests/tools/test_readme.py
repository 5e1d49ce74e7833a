"""The commands of the README that need no clone, in order, as written but for their length."""

import glob
import re
import shlex

import pytest

from tests.conftest import ROOT, run_tool
from tests.detection_files import write_yolo
from tests.tools.test_distill_images import make_folder

SHORT = dict(
    distill=['--epochs', 1, '--image-size', 8, '--no-baseline'],
    detect=['--epochs', 1, '--image-size', 64],
    predict=[],
)


@pytest.mark.slow
def test_commands_of_the_readme(tmp_path):
    make_folder(tmp_path / 'photos', count=5)
    write_yolo(tmp_path / 'boxes', {'': 6})
    blocks = re.findall(r'```\n(.*?)```', (ROOT / 'README.md').read_text(), re.S)
    commands = re.findall(r'^hsakd (.*)$', '\n'.join(blocks), re.M)
    assert [c.split()[0] for c in commands] == ['distill', 'predict', 'detect']
    for command in commands:
        name, *words = shlex.split(command)
        found = [sorted(glob.glob(word, root_dir=tmp_path)) or [word] for word in words]
        result = run_tool(
            ROOT / f'tools/{name}.py', *sum(found, []), *SHORT[name], cwd=tmp_path, timeout=600
        )
        assert result.returncode == 0, result.stderr
    assert list(tmp_path.glob('runs/photos/resnet18-*.onnx'))
    assert list(tmp_path.glob('runs/detector/faster-rcnn_*.pth'))
