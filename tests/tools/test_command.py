"""The command ``hsakd``: help, names of configs, lists, completion, and what metafiles say."""

import runpy
import subprocess
import sys

import pytest
from mmengine.config import Config
from mmengine.hub import get_config, get_model

from hsakd import __main__ as command
from hsakd.commands import COMMANDS
from hsakd.results.names import all_configs, config_file
from tests.conftest import ROOT

NAME = 'hsakd-offline_wrn-40-2_wrn-16-2_1xb64-240e_cifar100'


@pytest.fixture
def hsakd(monkeypatch, capsys):
    """Run the command in this process: status, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, 'argv', ['/bin/hsakd', *arguments])
        monkeypatch.setenv('COLUMNS', '80')
        monkeypatch.setattr('signal.signal', lambda *_: None)
        status = 0
        try:
            command.main()
        except SystemExit as exit_:
            status = exit_.code or 0
        return status, *capsys.readouterr()

    return run


def test_all_commands_fit_a_screen(hsakd):
    status, out, _ = hsakd('--help')
    assert status == 0 and len(out.splitlines()) <= 24
    assert all(f'\n  {name} ' in out for name in COMMANDS)
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize('name', COMMANDS)
def test_help_of_a_command_fits_a_screen(hsakd, name):
    status, out, _ = hsakd(name, '--help')
    assert status == 0 and out.startswith(f'usage: hsakd {name} ')
    assert len(out.splitlines()) <= 36


@pytest.mark.parametrize('name', [name for name, (_, file) in COMMANDS.items() if file])
def test_tools_are_shells(name):
    text = (ROOT / 'tools' / COMMANDS[name][1]).read_text()
    assert len(text.splitlines()) <= 13
    assert f'from hsakd.commands.{name.replace("-", "_")} import main' in text


def test_help_imports_no_torch():
    code = 'import sys; from hsakd.__main__ import main; sys.argv = ["hsakd", "train", "--help"]\n'
    code += 'try: main()\nexcept SystemExit: assert "torch" not in sys.modules'
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True, capture_output=True)


def test_a_command_that_there_is_not(hsakd):
    assert hsakd('trian') == (2, '', "error: no command 'trian'; did you mean train?\n")
    assert hsakd()[0] == 2


@pytest.mark.parametrize('text', [NAME, f'{NAME}.py', f'hsakd/{NAME}', f'configs/hsakd/{NAME}.py'])
def test_a_config_by_its_name(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = (tmp_path / config_file(text)).resolve()
    assert found == ROOT / f'configs/hsakd/{NAME}.py'


def test_names_of_configs_are_unique():
    names = [file.stem for file in all_configs()]
    assert len(names) == len(set(names)) > 250


def test_near_names_in_one_line(hsakd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('train', 'flops', 'distill', 'compare'):
        status, _, error = hsakd(name, NAME.replace('wrn-16-2', 'wrn-16-3'))
        assert status == 1 and error.count('\n') == 1
        assert 'no such file; near it: ' in error and NAME in error
    assert not [*tmp_path.iterdir()]


def test_flops_of_a_named_config(hsakd):
    status, out, _ = hsakd('flops', 'wrn-10-1_1xb64-80e_digits', '--shape', '8')
    assert status == 0 and '0.078' in out


def test_list(hsakd):
    status, out, _ = hsakd('list')
    assert status == 0 and 'Distilling the Knowledge' in out and 'wrn-40-2 ' in out
    assert f'{len(all_configs())} configs in ' in out
    assert hsakd('list', 'configs', 'hsakd-offline', 'wrn-16-2_1xb')[1] == f'{NAME}\n'


@pytest.mark.parametrize('shell', ['bash', 'zsh', 'fish'])
def test_completion_scripts(hsakd, shell):
    status, out, _ = hsakd('completion', shell)
    assert status == 0 and 'voc-to-coco' in out and 'auto-scale-lr' in out


@pytest.mark.parametrize(
    'words, expected',
    [
        (['tr'], ['train']),
        (['train', 'hsakd-offline_wrn-40-2_wrn-16'], [NAME]),
        (['train', NAME, '--auto'], ['--auto-scale-lr']),
        (['list', 'net'], ['networks']),
    ],
)
def test_completion_in_bash(hsakd, tmp_path, words, expected):
    script = hsakd('completion', 'bash')[1]
    script += f'COMP_WORDS=(hsakd {" ".join(words)}); COMP_CWORD={len(words)}; _hsakd\n'
    script += 'printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ['bash', '-u', '-c', script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == expected


def test_metafiles_are_up_to_date():
    contents = runpy.run_path(str(ROOT / 'tools/metafiles.py'))['contents']()
    old = [
        path for path, text in contents.items() if not path.is_file() or path.read_text() != text
    ]
    assert not old, 'run `make metafiles`'


def test_hub_and_base(tmp_path):
    path = f'hsakd::hsakd/{NAME}.py'
    plain = Config.fromfile(ROOT / f'configs/hsakd/{NAME}.py')
    assert get_config(path).to_dict() == plain.to_dict()
    (tmp_path / 'mine.py').write_text(
        f'_base_ = {path!r}\nmodel = dict(loss_weights=dict(loss_cls=2.0))'
    )
    mine = Config.fromfile(tmp_path / 'mine.py')
    assert mine.model.type == 'HSAKDOffline' and mine.model.loss_weights.loss_cls == 2
    assert mine.train_cfg.max_epochs == 240
    network = get_model('hsakd::baseline/wrn-10-1_1xb64-80e_digits.py')
    assert type(network.backbone).__name__ == 'WideResNet'
