# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The documents: the site builds without a warning, links and quoted messages exist, the lines of README's example run."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), ROOT / "benchmark/README.md", *ROOT.glob(".github/**/*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
PLACEHOLDER = re.compile(r"<[^>]*>")


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    built = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
                           cwd=ROOT, capture_output=True, text=True)  # fmt: skip
    assert built.returncode == 0, built.stderr
    for page in ("index.html", "reference/api/core.html", "how_to/troubleshooting.html"):
        assert (tmp_path / "site" / page).stat().st_size > 5000
    assert 'id="occle_core.predictor.Predictor.predict"' in (tmp_path / "site" / "reference/api/core.html").read_text("utf-8")


def test_lines_have_at_most_120_characters() -> None:
    long = [
        f"{page.relative_to(ROOT)}:{number}"
        for page in PAGES
        for number, line in enumerate(page.read_text("utf-8").split("\n"), 1)
        # A table's row is one line, and so is a link.
        if len(line) > 120 and not line.lstrip().startswith("|") and max(map(len, line.split())) < 80 and not line.startswith("![")
    ]
    assert not long


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    targets = [target.partition("#")[0] for target in LINK.findall(text) if not target.startswith(("http", "mailto:", "#"))]
    assert not [target for target in targets if not (page.parent / target).exists()]


def test_the_walk_through_the_node_names_at_most_fifteen_files() -> None:
    walk = (DOCS / "architecture.md").read_text("utf-8").split("## One scan")[1].split("\n## ")[0]
    files = re.findall(r"^\d+\. \[([^]]+)\]\(\.\./([^)]+)\)", walk, re.MULTILINE)
    assert 10 <= len(files) <= 15
    assert all((ROOT / path).is_file() and path.endswith(shown) for shown, path in files)
    assert {path.split("/")[0] for _, path in files} == {"occle_core", "occle_ros"}


def test_the_picture_shows_what_its_source_says() -> None:
    source = (DOCS / "images" / "architecture.dot").read_text("utf-8")
    picture = (DOCS / "images" / "architecture.svg").read_text("utf-8").replace("&#45;", "-")
    boxes = re.findall(r'^ +(\w+) \[label="([^"]+)"', source, re.MULTILINE)
    assert len(boxes) > 10
    for name, label in boxes:
        assert f"<title>{name}</title>" in picture and all(f">{line}</text>" in picture for line in label.split("\\n")), name
    folders = {"ros": ROOT / "occle_ros", "core": ROOT / "occle_core", "train": ROOT / "training" / "occle_train"}
    for cluster, package in folders.items():
        body = source.split(f"subgraph cluster_{cluster}")[1].split("\n    }\n")[0]
        for box in re.findall(r'label="([a-z_/, ]+)\\n(?![^"]*"[^]]*plaintext)', body):
            for name in box.split(", "):
                places = (package, ROOT / "occle_core")
                assert any((place / name).is_dir() or (place / f"{name}.py").is_file() for place in places), name


def _texts_of_the_code() -> str:
    """All string constants; the parts of a formatted text and of texts in a row are one."""
    parts: list[str] = []
    for package in ("occle_core", "occle_ros", "training"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    parts.append(node.value)
    return "\n".join(parts)


def _is_two_texts(part: str, code: str) -> bool:
    """Whether a line was put together from two texts of the code, such as "frames lost" and "in the last second"."""
    words = part.split()
    return any(" ".join(words[:n]) in code and " ".join(words[n:]) in code for n in range(2, len(words) - 1))


def test_messages_in_the_troubleshooting_page_are_the_codes() -> None:
    page = (DOCS / "how_to" / "troubleshooting.md").read_text("utf-8")
    lines = [line for block in re.findall(r"```text\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    assert len(lines) > 25
    code = _texts_of_the_code()
    fixed = [part.strip() for line in lines for part in PLACEHOLDER.split(line) if len(part.strip()) > 3]
    assert len(fixed) >= len(lines)
    assert not [part for part in fixed if part not in code and not _is_two_texts(part, code)]
    counted = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert len(counted) >= 6 and not [reason for reason in counted if reason not in code]


def test_parameters_in_the_pages_exist() -> None:
    """What looks like a parameter in tutorials and how-to pages is one."""
    known = (DOCS / "reference" / "parameters.md").read_text("utf-8")
    groups = {name.split(".")[0] for name in re.findall(r"^\| `([a-z_]+\.[a-z_.<>]+)`", known, re.MULTILINE)}
    for page in [*DOCS.glob("tutorials/*.md"), DOCS / "how_to" / "troubleshooting.md", ROOT / "README.md"]:
        for name in re.findall(r"`((?:[a-z_]+)\.(?:NAME\.)?[A-Za-z_]+)`", page.read_text("utf-8")):
            if name.split(".")[0] in groups:
                assert f"| `{name.replace('.NAME.', '.<camera>.')}` |" in known, f"{page.name}: {name}"


def test_the_six_lines_of_the_readme_predict_a_frame(
    simulated: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snippets = {
        page.name: re.search(r"```python\n(import cv2\n.*?)```", page.read_text("utf-8"), re.DOTALL)
        for page in (ROOT / "README.md", DOCS / "tutorials" / "first_prediction.md")
    }
    readme, tutorial = (snippet and snippet[1] for snippet in snippets.values())
    assert readme == tutorial and readme is not None and len(list(filter(None, readme.splitlines()))) == 6
    (tmp_path / "config").symlink_to(ROOT / "config")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "streets").symlink_to(simulated("kitti"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(readme, "README.md", "exec"), names)
    assert names["found"].voxels()[0].shape[1] == 3  # type: ignore[attr-defined]
    assert (tmp_path / "voxels.png").stat().st_size > 10_000


def test_the_citation_file_is_valid() -> None:
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert content["cff-version"] == "1.2.0" and content["title"] == "occle" and content["license"] == "Apache-2.0"
    assert {"message", "version", "authors"} <= content.keys() and content["type"] == "software"
    papers = {paper["title"]: paper for paper in content["references"]}
    readme = (ROOT / "README.md").read_text("utf-8")
    assert len(papers) == 2
    for title, paper in papers.items():
        assert all(author["given-names"] and author["family-names"] for author in paper["authors"])
        assert title in readme and paper["url"].removeprefix("https://arxiv.org/abs/") in readme


@pytest.mark.parametrize("file", sorted([*ROOT.glob(".github/**/*.yml"), ROOT / ".pre-commit-config.yaml"]), ids=lambda f: f.name)
def test_workflows_and_forms_are_yaml(file: Path) -> None:
    content = yaml.safe_load(file.read_text("utf-8"))
    if "workflows" in file.parts:
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
        used = re.findall(r"\bmake ([a-z-]+)", file.read_text("utf-8"))
        assert content["jobs"] and used and set(used) <= targets
    if "ISSUE_TEMPLATE" in file.parts and file.name != "config.yml":
        assert content["name"] and content["description"] and all("type" in field for field in content["body"])


def test_pages_that_code_and_settings_name_exist() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    files = [
        ROOT / name for name in listed.stdout.split("\n") if name.endswith((".py", ".yaml", ".yml", ".toml", ".sh", ".xml", ".md"))
    ]
    named = {
        (page, str(file.relative_to(ROOT)))
        for file in files
        if file.is_file()
        for page in re.findall(r"\bdocs/[\w/]+\.md\b", file.read_text("utf-8"))
    }
    assert len(named) > 20 or listed.returncode  # outside of a checkout git lists nothing
    assert not [(page, file) for page, file in sorted(named) if not (ROOT / page).is_file()]


def test_decisions_have_one_number_each_and_the_ones_that_are_cited_exist() -> None:
    """Entries are grouped by subject: their numbers do not ascend from top to bottom."""
    text = (DOCS / "reference" / "decisions.md").read_text("utf-8")
    numbers = [int(number) for number in re.findall(r"^### (\d+)\. ", text, re.MULTILINE)]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    source = (ROOT / "training/occle_train/experiments/data/paper_differences.yaml").read_text("utf-8")
    cited = [
        int(number)
        for found in re.findall(r"\bdecisions? (\d+(?:(?:, | and )\d+)*)", source)
        for number in re.findall(r"\d+", found)
    ]
    assert len(cited) > 10 and set(cited) <= set(numbers)
