"""What the documentation shows is what there is."""

import json
import re
import runpy
import shlex

import pytest
import torch
from mmengine.config import Config

from hsakd.apis.training_runs import load_with_options
from hsakd.commands import COMMANDS
from hsakd.registry import MODELS
from tests.conftest import ROOT, batch, network_cfg, run_tool

PAGES = sorted([*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md')])


def test_backbone_of_the_extending_page_trains_with_branches():
    text = (ROOT / 'docs/extending.md').read_text()
    code = next(block for block in re.findall(r'```python\n(.*?)```', text, re.S))
    exec(compile(code, 'extending.md', 'exec'), {})
    cfg = dict(network_cfg(), backbone=dict(type='TinyNet'))
    cfg['head']['in_channels'] = 64
    network = MODELS.build(cfg)
    logits, joint_logits = network(torch.randn(2, 3, 16, 16))
    assert logits.shape == (2, 5) and [c.shape[1] for c in joint_logits] == [20, 20, 20]


def test_transform_set_of_the_extending_page_trains():
    text = (ROOT / 'docs/extending.md').read_text()
    blocks = re.findall(r'```python\n(.*?)```', text, re.S)
    code = next(block for block in blocks if 'TransformSet' in block)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    exec(compile(code, 'extending.md', 'exec'), {})
    teacher = MODELS.build(network_cfg(type='HSAKDTeacher', transforms=dict(type='HorizontalFlip')))
    losses = teacher(*batch(2), mode='loss')
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert [c.shape[1] for c in teacher(batch(2)[0])[1]] == [10, 10, 10]


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)
def test_links_and_files_exist(page):
    text = page.read_text()
    for target in re.findall(r'\]\(([^)#]+)[^)]*\)', text):
        if not target.startswith(('http', 'mailto')):
            assert (page.parent / target).exists(), target
    for path in re.findall(r'(?<!::)\b(?:configs|tools|hsakd|docs|tests)/[\w./-]+\.\w+', text):
        assert (ROOT / path).exists(), path
    for path in re.findall(
        r"hsakd::(\w+/\w[\w.-]*)['`]", text
    ):  # as mmengine's get_config takes it
        assert (ROOT / 'configs' / path).is_file(), path


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)
def test_options_of_shown_commands_exist(page):
    blocks = re.findall(r'```(?:sh|bash)?\n(.*?)```', page.read_text(), re.S)
    commands = '\n'.join(blocks).replace('\\\n', ' ').splitlines()
    for command in commands:
        if not command.startswith(('python tools/', 'hsakd ')):
            continue
        words = shlex.split(command, comments=True)
        if words[0] == 'hsakd':
            words.insert(0, 'python -m')
            if words[2] not in COMMANDS:
                assert words[2].startswith('-'), command
                continue
            sources = [ROOT / f'hsakd/commands/{words[2].replace("-", "_")}.py']
        else:
            sources = [ROOT / words[1]]
            module = re.search(r'from (hsakd\.commands\.\w+) import', sources[0].read_text())
            if module:
                sources = [ROOT / f'{module[1].replace(".", "/")}.py']
        sources.append(ROOT / 'hsakd/utils/cli.py')
        if '--data' in words:
            sources.append(ROOT / 'hsakd/commands/distill_images.py')
        if 'benchmarks' in words[1]:  # some options are those of several scripts
            sources.append(ROOT / 'tools/benchmarks/timing.py')
        source = ''.join(path.read_text() for path in sources)
        options = words.index('--cfg-options') if '--cfg-options' in words else len(words)
        assert all('=' in word for word in words[options + 1 :]), command
        for config in [word for word in words[2:3] if word.startswith('configs/')]:
            given = load_with_options(ROOT / config, words[options + 1 :])
            before = Config.fromfile(str(ROOT / config))
            for key in words[options + 1 :]:
                parent = key.split('=')[0].rpartition('.')[0]
                assert not parent or _has(before, parent), f'{key} of {command}'
            assert given.model
        for word in words[2:]:
            if word.startswith('--'):
                assert f"'{word.split('=')[0]}'" in source, command


def _has(config, key):
    for part in key.split('.'):
        config = config[int(part)] if part.isdigit() else config.get(part)
    return config is not None


def test_site_has_all_pages():
    nav = (ROOT / 'mkdocs.yml').read_text().partition('\nnav:\n')[2]
    listed = re.findall(r'[\w/]+\.md', nav)
    site = runpy.run_path(str(ROOT / 'tools/docs_site.py'))
    made = site['from_repository']()
    assert sorted(listed) == sorted([*(p.name for p in (ROOT / 'docs').glob('*.md')), *made])
    assert not re.search(r'\]\((docs/|README|CHANGELOG|CONTRIBUTING)', ''.join(made.values()))
    assert 'api/hsakd.models.md' in site['api_pages']()


@pytest.mark.parametrize('repository', ['', 'https://example.org/hsakd'])
def test_links_of_the_readme_on_a_package_index(repository):
    source = (ROOT / 'setup.py').read_text().split('\nsetup(')[0]
    source = source.replace("REPOSITORY = ''", f'REPOSITORY = {repository!r}')
    found = {'__file__': str(ROOT / 'setup.py')}
    exec(compile(source, 'setup.py', 'exec'), found)
    text = found['readme']()
    links = re.findall(r'\]\(([^)]+)\)', text)
    assert links and all(link.startswith('https://') for link in links)
    picture = f'![Test accuracy of the three networks by epoch]({repository}/raw/HEAD/docs/images/'
    assert (picture in text) == bool(repository)
    assert 'Test accuracy of the three networks by epoch' in text


def test_tests_that_reliability_names_exist():
    text = (ROOT / 'docs/reliability.md').read_text()
    named = set(re.findall(r'`(?:[\w/]+\.py::)?(test_\w+)`', text))
    sources = [file.read_text() for file in (ROOT / 'tests').rglob('test_*.py')]
    there = {name for source in sources for name in re.findall(r'^def (test_\w+)', source, re.M)}
    assert named and not named - there


def test_notebook_from_images_to_a_student(tmp_path):
    cells = json.loads((ROOT / 'docs/first_student.ipynb').read_text())['cells']
    code = '\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'code')
    assert 'epochs=4' in code  # and one is enough to see that it runs
    code = code.replace('epochs=4', 'epochs=1')
    (tmp_path / 'notebook.py').write_text(f'{code}\nprint(made.metrics)')
    result = run_tool(tmp_path / 'notebook.py', cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "{'student': " in result.stdout and (tmp_path / 'runs/digits/report.html').is_file()


def test_names_of_the_python_page():
    blocks = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/api.md').read_text(), re.S)
    lines = [line for block in blocks for line in block.splitlines() if ' import ' in line]
    assert len(lines) > 5
    found = {}
    exec('\n'.join(lines), found)
    for name in ('build_runner', 'export_onnx', 'make_report', 'collect'):
        assert callable(found[name])


def test_methods_on_given_tensors():
    text = (ROOT / 'docs/extending.md').read_text().split('## A method on given tensors')[1]
    found = {}
    exec(compile(re.search(r'```python\n(.*?)```', text, re.S)[1], 'extending.md', 'exec'), found)
    assert all(torch.isfinite(loss).all() for loss in found['losses'].values())
