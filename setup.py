"""Install hsakd; the version is read from hsakd/version.py, the requirements from requirements/."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements(group: str) -> list[str]:
    """Return the requirements of one group, without comments and empty lines."""
    lines = (ROOT / 'requirements' / f'{group}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


version = re.search(r"__version__ = '(.+)'", (ROOT / 'hsakd' / 'version.py').read_text())[1]
extras = {group: requirements(group) for group in ('detection', 'tests', 'docs')}
extras['all'] = sorted(set(sum(extras.values(), [])))

setup(
    name='hsakd',
    version=version,
    description='Knowledge distillation with hierarchical self-supervision on the OpenMMLab stack',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['hsakd', 'hsakd.*']),
    package_data={'hsakd.ops': ['*.cpp'], 'hsakd.results': ['*.csv']},
    python_requires='>=3.11,<3.14',
    install_requires=requirements('runtime'),
    extras_require=extras,
)
