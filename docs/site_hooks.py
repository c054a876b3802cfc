"""What MkDocs needs to build these documents as a site: ``make docs``.

The documents stand where a reader of the repository looks for them, also outside ``docs/``. The
site keeps their places, so that links between them lead to the same page in both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parents[1]
OUTSIDE = ("*.md", "provision/*.md")
PACKAGES = {
    "fedi2i": "what every package may import",
    "partitions": "who holds which scans",
    "lightning_modules": "learning in one place",
    "app_custom": "the learner inside NVFlare",
    "jobs": "what is run",
    "report": "from run files to a page",
    "provision": "who may take part",
}
_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])+)\]\(([^)\s]+)\)")
_CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Append a page per folder of code to the navigation."""
    pages = [{title: uri} for title, uri, _ in _code_pages()]
    assert isinstance(config.nav, list)
    config.nav.append({"Code": [{"Packages": "code/index.md"}, *pages]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Give every document the address that it has in the repository; add the pages of code."""
    documents = [file for file in files if file.src_dir == config.docs_dir]
    for file in documents:
        files.remove(file)
        files.append(_repository_file(f"docs/{file.src_uri}", config))
    for pattern in OUTSIDE:
        for path in sorted(REPOSITORY.glob(pattern)):
            files.append(_repository_file(path.relative_to(REPOSITORY).as_posix(), config))
    for _, uri, text in _code_pages():
        files.append(File.generated(config, uri, content=text))
    files.append(File.generated(config, "code/index.md", content=_code_index()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Show links to source files and folders as text: the site has no pages for them.

    A link to something that is not in the repository stays, and MkDocs refuses it.
    """
    folder = REPOSITORY / Path(page.file.src_uri).parent

    def shown(link: re.Match[str]) -> str:
        text, target = link.groups()
        path = (folder / target.partition("#")[0]).resolve()
        if re.match(r"[a-z]+:|#", target) or not path.is_relative_to(REPOSITORY):
            return link.group(0)
        uri = path.relative_to(REPOSITORY).as_posix()
        is_page = files.get_file_from_path(uri) is not None
        return link.group(0) if is_page or not path.exists() else text

    parts, end = [], 0
    for block in _CODE_BLOCK.finditer(markdown):
        parts += [_LINK.sub(shown, markdown[end : block.start()]), block.group(0)]
        end = block.end()
    return "".join([*parts, _LINK.sub(shown, markdown[end:])])


def _repository_file(uri: str, config: MkDocsConfig) -> File:
    return File(uri, str(REPOSITORY), config.site_dir, config.use_directory_urls)


def _code_pages() -> Iterator[tuple[str, str, str]]:
    """Title, address and text of a page per folder of modules."""
    for package in PACKAGES:
        folders = [REPOSITORY / package, *sorted((REPOSITORY / package).rglob("*/"))]
        for folder in folders:
            modules = _modules(folder)
            if modules:
                dotted = ".".join(folder.relative_to(REPOSITORY).parts)
                entries = "\n".join(f"::: {name}\n" for name in modules)
                yield dotted, f"code/{dotted}.md", f"# `{dotted}`\n\n{entries}"


def _modules(folder: Path) -> list[str]:
    """Dotted names of the modules in a folder, the package first if it says something itself."""
    init = folder / "__init__.py"
    if not init.is_file():
        return []
    package = ".".join(folder.relative_to(REPOSITORY).parts)
    files = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
    itself = [package] if init.read_text(encoding="utf-8").strip() else []
    return [*itself, *(f"{package}.{name}" for name in files)]


def _code_index() -> str:
    lines = [f"- [`{name}`]({name}.md): {purpose}" for name, purpose in PACKAGES.items()]
    return "\n".join(
        [
            "# Packages\n",
            "These pages are made from the docstrings. "
            "[The architecture](../docs/architecture.md) says which package may import which.\n",
            *lines,
        ]
    )
