"""One word for one meaning: text and names use the field's terms, and what was replaced does not come back.

The table of words is in `docs/architecture.md`. Texts that are data (held-out texts, results, the history of changes)
are left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("benchmarks", "calibration", "docs", "examples", "exporter", "runtimes", "tests")
DATA = ("benchmarks/results/", "exporter/gate/held_out_texts/", "docs/second-opinion-results.md", "tests/test_words.py")

# phrase -> what to write instead. A phrase is a regular expression, matched without regard to case.
PHRASES = {
    r"\bprocessors?\b": "CPU",
    r"\binteger products?\b": "int8 matmul, or w8a8",
    r"\ba mix\b|\bmix(es)? of (formats|precisions)\b": "mixed precision",
    r"\btied tables?\b|\btables? of embeddings\b": "embedding",
    r"\b(un)?proved\b|\bproven\b": "verified",
    r"\bby turns\b": "interleaved, or alternating",
    r"\bparted\b|\bparts from the source\b": "diverged, diverges from",
    r"\b(go|goes|gone|going) on with\b": "resume, or continue",
    r"\bis due\b": "exceeds the tolerance",
    r"\bprogram of a stranger\b": "untrusted template",
    r"\btold_memory\b": "out of memory",
    r"\bwish(es|ed)? (for|of)\b": "request, or option",
}
# Files in which a phrase means something else, and what.
ELSEWHERE = {
    r"\bprocessors?\b": {
        "benchmarks/compare/machine.py": "the key of a report",
        "benchmarks/report/markdown.py": "the key of a report",
        "benchmarks/report/report.html.j2": "the key of a report",
        "benchmarks/report/same_machine.py": "the key of a report",
        "benchmarks/studies/small_image_models.py": "a class of transformers",
        "benchmarks/studies/audio_families.py": "a class of transformers",
        "docs/audio.md": "a class of transformers",
        "tests/benchmarks": "the key of a report",
        "examples/text_rnn/vocabulary.py": "a part of tokenizers",
        "tests/runtimes/tiny_text.py": "a part of tokenizers",
        "exporter/quantization/keep.py": "a class of transformers",
        "exporter/sources": "a class of transformers",
        "exporter/gate/image": "a class of transformers",
        "exporter/gate/shown": "a class of transformers",
        "exporter/gate/hearing": "a class of transformers",
        "exporter/tracing/trace_images.py": "a class of transformers",
        "exporter/tracing/trace_recordings.py": "a class of transformers",
        "tests/scenarios/test_image": "a class of transformers",
        "tests/scenarios/test_audio": "a class of transformers",
        "tests/support/image_models.py": "a class of transformers",
        "tests/support/audio_models.py": "a class of transformers",
        "tests/exporter/sources": "a class of transformers",
        "tests/exporter/quantization/test_calibration_mixture.py": "a part of tokenizers",
        "runtimes/generation": "what edits logits",
        "runtimes/machine/probe.py": "a key of /proc/cpuinfo",
        "tests/runtimes/machine": "a key of /proc/cpuinfo",
    },
}
# Names of arguments, attributes and variables that say what happened to a value instead of what it is.
NAMES = {"told", "wanted", "asked", "given", "taken", "found"}


def lines(root: Path = ROOT) -> Iterator[tuple[str, int, str]]:
    """Path, number and text of each line of code and pages."""
    files = [path for folder in FOLDERS for path in (root / folder).rglob("*") if path.suffix in (".py", ".md", ".j2")]
    for path in sorted([*files, *root.glob("README*.md"), *(root / "jisu").glob("*.py")]):
        where = path.relative_to(root).as_posix()
        if not where.startswith(DATA):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                yield where, number, line


def written(root: Path, phrase: str) -> list[str]:
    """Where a phrase stands without being an exception."""
    pattern = re.compile(phrase, re.IGNORECASE)
    free = tuple(ELSEWHERE.get(phrase, ()))
    return [
        f"{where}:{number}: {line.strip()}"
        for where, number, line in lines(root)
        if pattern.search(line) and not where.startswith(free)
    ]


def participles(path: Path, root: Path = ROOT) -> list[str]:
    """Arguments, fields, variables and functions of a module whose names are among `NAMES`."""
    lines = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = node.arg if isinstance(node, ast.arg) else node.name if isinstance(node, ast.FunctionDef) else None
        if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            name = node.id if isinstance(node, ast.Name) else node.attr
        if name is not None and name.strip("_") in NAMES:
            lines.append(f"{path.relative_to(root).as_posix()}:{node.lineno}: {name}")  # type: ignore[attr-defined]
    return lines


@pytest.mark.parametrize("phrase", PHRASES)
def test_settled_words_are_kept(phrase: str) -> None:
    assert written(ROOT, phrase) == [], f"write: {PHRASES[phrase]}"


def test_every_exception_is_needed() -> None:
    for phrase, places in ELSEWHERE.items():
        used = [where for where, _, line in lines() if re.search(phrase, line, re.IGNORECASE)]
        assert [place for place in places if not any(where.startswith(place) for where in used)] == []


@pytest.mark.parametrize("package", ["benchmarks", "calibration", "examples", "exporter", "runtimes", "tests"])
def test_names_are_nouns(package: str) -> None:
    paths = sorted((ROOT / package).rglob("*.py"))
    assert [line for path in paths for line in participles(path)] == []


def test_planted_words_are_found(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text("It is verified on the CPU.\nIt was Proved on the processor.\n", encoding="utf-8")
    assert written(tmp_path, r"\bprocessors?\b") == ["docs/page.md:2: It was Proved on the processor."]
    assert len(written(tmp_path, r"\b(un)?proved\b|\bproven\b")) == 1
    module = tmp_path / "module.py"
    module.write_text("def _asked(given, expected):\n    self.wanted, taken_up = given, expected\n", encoding="utf-8")
    assert [line.rpartition(" ")[2] for line in participles(module, tmp_path)] == ["_asked", "given", "wanted"]
