# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""mkdocs hook: a page for every source file that a document links to, so that these links work in the site as in the repository."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

LINK = re.compile(r"\]\((\.\./[^)#\s]+)\)")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".cff": "yaml", ".md": "markdown", ".dot": "dot", ".sh": "sh"}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages."""
    root = Path(config.docs_dir).parent
    documents = [file for file in files if file.is_documentation_page()]
    for target in sorted({target for document in documents for target in _outside(document, root).values()}):
        language = LANGUAGES.get(Path(target).suffix, "")
        content = f"# {posixpath.basename(target)}\n\n`{target}`\n\n````{language}\n{(root / target).read_text('utf-8')}````\n"
        files.append(File.generated(config, f"source/{target}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Point the links to the pages."""
    folder = posixpath.dirname(page.file.src_uri)
    targets = _outside(page.file, Path(config.docs_dir).parent) if not page.file.src_uri.startswith("source/") else {}

    def page_of(link: re.Match[str]) -> str:
        target = targets.get(link[1])
        return f"]({posixpath.relpath(f'source/{target}.md', folder)})" if target else link[0]

    return LINK.sub(page_of, markdown)


def _outside(file: Any, root: Path) -> dict[str, str]:
    """Link -> path in the repository, for the links of a document to files outside docs/."""
    folder = posixpath.join("docs", posixpath.dirname(file.src_uri))
    found = {link: posixpath.normpath(posixpath.join(folder, link)) for link in LINK.findall(file.content_string)}
    return {link: target for link, target in found.items() if not target.startswith("docs/") and (root / target).is_file()}
