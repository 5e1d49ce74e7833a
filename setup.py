"""Install hsakd; the version is read from hsakd/version.py, the requirements from requirements/."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
#: Address of the repository, https://HOST/OWNER/NAME. While it is empty (see CONTRIBUTING.md),
#: a package index gets the README without links into it, and with words for the picture.
REPOSITORY = ''


def requirements(group: str) -> list[str]:
    """Return the requirements of one group, without comments and empty lines."""
    lines = (ROOT / 'requirements' / f'{group}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def readme() -> str:
    """README.md with links that hold elsewhere: absolute ones, or what they say."""

    def elsewhere(found: re.Match) -> str:
        image, text, path = found.groups()
        if path.startswith(('http', 'mailto:', '#')):
            return found[0]
        kind = 'raw' if image else 'blob'
        return f'{image}[{text}]({REPOSITORY}/{kind}/HEAD/{path})' if REPOSITORY else text

    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    return re.sub(r'(!?)\[([^]]*)\]\(([^)\s]+)\)', elsewhere, text)


version = re.search(r"__version__ = '(.+)'", (ROOT / 'hsakd' / 'version.py').read_text())[1]
extras = {group: requirements(group) for group in ('detection', 'timm', 'tests', 'docs')}
extras['all'] = sorted(set(sum(extras.values(), [])))
pages = {'Documentation': 'tree/HEAD/docs', 'Changelog': 'blob/HEAD/CHANGELOG.md'}
pages = {**pages, 'Source': '', 'Issues': 'issues'}
urls = {name: f'{REPOSITORY}/{page}' for name, page in pages.items() if REPOSITORY}
# Beside the package's own files what mmengine looks for in hsakd/.mim: links in a clone.
data = ['py.typed', '.mim/*.yml', '.mim/configs/**/*.py', '.mim/configs/*/metafile.yml']
data += ['.mim/tools/*.py', '.mim/tools/*.sh', '.mim/tools/*/*.py']

setup(
    name='hsakd',
    version=version,
    description='Knowledge distillation with hierarchical self-supervision on the OpenMMLab stack',
    long_description=readme(),
    long_description_content_type='text/markdown',
    author='The hsakd maintainers',
    url=REPOSITORY or None,
    project_urls={'Paper': 'https://arxiv.org/abs/2109.03075', **urls},
    keywords='knowledge distillation, self-supervision, image classification, OpenMMLab, PyTorch',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Developers',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Recognition',
        'Typing :: Typed',
    ],
    license='Apache-2.0',
    license_files=['LICENSE'],
    packages=find_packages(include=['hsakd', 'hsakd.*']),
    package_data={'hsakd': data, 'hsakd.ops': ['*.cpp'], 'hsakd.results': ['*.csv']},
    entry_points={'console_scripts': ['hsakd = hsakd.__main__:main']},
    python_requires='>=3.11,<3.14',
    install_requires=requirements('runtime'),
    extras_require=extras,
)
