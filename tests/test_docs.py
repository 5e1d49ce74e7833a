"""What the documentation shows is what there is."""

import json
import re
import runpy
import shlex
from importlib import import_module

import pytest
import torch
from mmengine.config import Config

from hsakd.apis.training_runs import load_with_options
from hsakd.commands import COMMANDS
from hsakd.registry import MODELS
from hsakd.utils.errors import ConfigError
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
    for path in re.findall(r"hsakd::(\w+/\w[\w.-]*)['`]", text):
        assert (ROOT / 'configs' / path).is_file(), path


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)
def test_shown_commands_are_accepted(page):
    """By the parsers of the commands, and their options by the configs that they name."""
    blocks = re.findall(r'```(?:sh|bash)?\n(.*?)```', page.read_text(), re.S)
    targets = re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.M)
    for command in '\n'.join(blocks).replace('\\\n', ' ').splitlines():
        if not command.startswith(('make ', 'hsakd ', 'python tools/')):
            continue
        words = shlex.split(command, comments=True)
        if words[:1] == ['make']:
            assert {word for word in words[1:] if '=' not in word} <= {*targets}, command
        if words[:1] == ['hsakd']:
            module, arguments = words[1].replace('-', '_'), words[2:]
            assert words[1] in COMMANDS or words[1].startswith('-'), command
        elif words[0] == 'python':
            source, arguments = (ROOT / words[1]).read_text(), words[2:]
            found = re.search(r'from hsakd\.commands\.(\w+) import', source)
            module = found[1] if found else ''
        else:
            continue
        if module and not module.startswith('_'):
            module = 'distill_images' if '--data' in arguments and module == 'distill' else module
            try:
                import_module(f'hsakd.commands.{module}').parse_args(arguments)
            except ConfigError:
                assert re.search(r'\b(CONFIG|NAME)\b', command), command
        elif not module:  # a benchmark, some of whose options are those of several scripts
            source += (ROOT / 'tools/benchmarks/timing.py').read_text()
            source += (ROOT / 'hsakd/utils/cli.py').read_text()
            for word in arguments:
                assert not word.startswith('--') or f"'{word}'" in source, command
        options = arguments.index('--cfg-options') if '--cfg-options' in arguments else None
        config = arguments[0] if arguments else ''
        if options and config.startswith('configs/'):
            given = arguments[options + 1 :]
            assert load_with_options(ROOT / config, given).model
            before = Config.fromfile(str(ROOT / config))
            for key in given:
                parent = key.split('=')[0].rpartition('.')[0]
                assert not parent or _has(before, parent), f'{key} of {command}'


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
    title = 'Top-1 of a ResNet-8 by method, over minutes of training'
    picture = f'![{title}]({repository}/raw/HEAD/docs/images/'
    assert (picture in text) == bool(repository)
    assert title in text


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
