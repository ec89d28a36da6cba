"""mkdocs: pages that live outside of docs/ become pages of the site, and links between both work there as they do in the repository."""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

OUTSIDE = {
    "slurm/README.md": "slurm.md",
    "quickstart/README.md": "quickstart.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Path in the repository -> page of the site."""
REPOSITORY = Path(__file__).resolve().parents[1]


def on_files(files, config):
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(REPOSITORY / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown, page, config, files):
    pages = {page: source for source, page in OUTSIDE.items()}
    source = pages.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return re.sub(r"\]\((?!https?:|#)([^)#]+)", lambda link: f"]({_on_site(link[1], source)}", markdown)


def _on_site(target: str, source: str) -> str:
    """A link of a file of the repository -> the same link between pages of the site."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    return OUTSIDE.get(path) or path.removeprefix("docs/")
