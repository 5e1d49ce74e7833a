"""Hooks of mkdocs: the pages of the site that are made of other files, see mkdocs.yml."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Page of the site: file of the repository.
FROM_REPOSITORY = {
    'index.md': 'README.md',
    'changelog.md': 'CHANGELOG.md',
    'contributing.md': 'CONTRIBUTING.md',
}


def api_pages() -> dict[str, str]:
    """Content by page: one a package or module of ``hsakd`` that others may import."""
    pages = {}
    for path in sorted((ROOT / 'hsakd').iterdir()):
        name = f'hsakd.{path.stem}'
        if path.suffix == '.py' or (path / '__init__.py').is_file():
            if not path.stem.startswith('_'):
                pages[f'api/{name}.md'] = f'# {name}\n\n::: {name}\n'
    links = '\n'.join(f'- [{Path(page).stem}]({Path(page).name})' for page in pages)
    intro = (
        '`import hsakd` registers all types; `hsakd.apis` is what the commands do, for programs.'
    )
    return {'api/index.md': f'# API reference\n\n{intro}\n\n{links}\n', **pages}


def from_repository() -> dict[str, str]:
    """README.md and others as pages, with links that hold among the pages."""
    pages = {}
    for page, file in FROM_REPOSITORY.items():
        text = (ROOT / file).read_text(encoding='utf-8').replace('](docs/', '](')
        for other, source in FROM_REPOSITORY.items():
            text = text.replace(f']({source}', f']({other}')
        # Other files of the repository, such as CITATION.cff, are not on the site.
        pages[page] = re.sub(r'\[([^]]*)\]\([A-Z][\w.]*\)', r'\1', text)
    return pages


def on_config(config):
    """List the pages of the reference in the navigation."""
    pages = [page for page in api_pages() if page.startswith('api/')]
    config.nav = [
        {key: pages if value == 'api/' else value for key, value in item.items()}
        for item in config.nav
    ]
    return config


def on_files(files, config):
    """Add the pages."""
    from mkdocs.structure.files import File

    for page, content in (from_repository() | api_pages()).items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown, page, **_):
    """Links of pages to the README are to the home page here."""
    return markdown.replace('](../README.md', '](index.md')


def on_page_content(html, **_):
    """Docstrings name things as :class:`~hsakd.Name`: show the name alone."""
    return re.sub(r':(?:class|func|meth|mod|attr|data|exc):<code>[~.]*', '<code>', html)
