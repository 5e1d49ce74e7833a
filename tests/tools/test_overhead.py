import json

from tests.conftest import run_tool


def test_report(tmp_path):
    out = tmp_path / 'overhead.json'
    command = ('tools/benchmarks/overhead.py', '--steps', 20, '--history', 3000, '--out', out)
    result = run_tool(*command)
    assert result.returncode == 0, result.stderr
    assert 'The host reads tensors at 5 of 200 steps: 1, 50, 100, 150, 200' in result.stdout
    report = json.loads(out.read_text())
    parts = {part: figures['mean'] for part, figures in report['microseconds'].items()}
    model, total = parts.pop('(model and optimiser)'), parts.pop('total')
    assert model > 0
    assert abs(total - sum(parts.values())) < 1e-6 * total
    assert {'loop', 'seed_all', 'parse_losses', 'LoggerHook', 'NonFiniteLossHook'} < parts.keys()
    assert report['reads'].keys() == {'1', '50', '100', '150', '200'}

    again = run_tool(*command)
    assert again.returncode and 'exists; accepted is a new name, or --force' in again.stderr
