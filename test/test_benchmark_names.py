# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Names of benchmarks: those that documents, settings and code say exist and run, and the index of `benchmark/` has them all."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BENCHMARK = ROOT / "benchmark"
ENDINGS = (".py", ".md", ".yaml", ".yml", ".toml", ".sh", "Makefile")
RUNS = 'if __name__ == "__main__":'


def file_of(name: str, command: bool) -> Path | None:
    """The file that `python -m NAME` runs, or without `command` the one that holds the module; None where there is none."""
    path = ROOT.joinpath(*name.split("."))
    module = path.with_suffix(".py")
    file = module if module.is_file() else path / ("__main__.py" if command else "__init__.py")
    return file if file.is_file() and (not command or RUNS in file.read_text("utf-8")) else None


def missing(text: str) -> list[str]:
    """Modules and files of `benchmark` that a text names and that do not exist, or do not run where it runs them."""
    run = re.findall(r"(?:-m(?:\s+|\", \")|written by )(benchmark(?:\.\w+)+)", text)
    named = re.findall(r"\bbenchmark(?:\.[a-z_]\w*)+", text)
    paths = re.findall(r"\bbenchmark/[\w/]+\.py\b", text)
    return [
        *(name for name in run if not file_of(name, True)),
        *(name for name in named if not file_of(name, False)),
        *(path for path in paths if not (ROOT / path).is_file()),
    ]


def test_benchmarks_that_documents_and_code_name_exist() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split("\n")
    files = [ROOT / name for name in listed if name.endswith(ENDINGS) and (ROOT / name).is_file()]
    texts = {file: file.read_text("utf-8") for file in files if file != Path(__file__).resolve()}
    assert len(texts) > 500 or not texts  # outside of a checkout git lists nothing
    assert not {str(file.relative_to(ROOT)): wrong for file, text in texts.items() if (wrong := missing(text))}


def test_a_benchmark_that_does_not_exist_is_found() -> None:
    assert not missing("`python -m\nbenchmark.gpu`, `benchmark.machine`, benchmark/gpu/frames.py")
    assert missing("`python -m\nbenchmark.soak`") == ["benchmark.soak", "benchmark.soak"]
    assert missing('"-m", "benchmark.machine"') == ["benchmark.machine"]  # a module, but no command
    assert missing("benchmark/soak.py") == ["benchmark/soak.py"]


def test_blocks_of_figures_are_those_of_the_benchmark_that_writes_them() -> None:
    written = {
        name: page.name
        for page in (ROOT / "docs").rglob("*.md")
        for name in re.findall(r"<!-- figures: written by (.*) -->", page.read_text("utf-8"))
    }
    assert len(written) >= 6
    for name, page in written.items():
        file = file_of(name, True)
        assert file and f'"{name}", given.write)' in file.read_text("utf-8"), f"{page}: {name}"


def test_the_index_has_every_command_under_its_name() -> None:
    commands = {}
    for file in BENCHMARK.rglob("*.py"):
        text = file.read_text("utf-8")
        if RUNS in text:
            commands[".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")] = text
    assert "ArgumentParser" not in commands.pop("benchmark.node.posed_node")  # others start it
    assert not [name for name, text in commands.items() if f'ArgumentParser(prog="python -m {name}"' not in text]
    listed = re.findall(r"^\| `(benchmark\.[\w.]+)", (BENCHMARK / "README.md").read_text("utf-8"), re.MULTILINE)
    assert len(listed) == len(set(listed)) and set(listed) == commands.keys()
