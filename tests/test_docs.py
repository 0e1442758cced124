"""What the pages promise: links lead somewhere, the front page stays short, and every page is in the index."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import jisu

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("README*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "zh").glob("*.md")])
# A page in Chinese -> the pages that its commands and figures are from.
CHINESE = {
    "README.zh-CN.md": ("README.md",),
    "docs/zh/install.md": ("docs/install.md", "README.md"),
    "docs/zh/precision.md": ("docs/precision.md", "README.md"),
    "docs/zh/python.md": ("docs/python.md", "README.md"),
}
LONGEST_README = 12_000  # bytes
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def dead_links(page: Path) -> list[str]:
    """Relative links of a page that lead to no file; code blocks are left out."""
    links = _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))
    return [link for link in links if "://" not in link and not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert dead_links(page) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[a](there.md) [b](page.md#part) [c](https://example.org/x)\n```\n[d](code.md)\n```\n")
    assert dead_links(page) == ["there.md"]


def test_the_readme_is_a_front_page() -> None:
    assert (ROOT / "README.md").stat().st_size < LONGEST_README


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    names = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.is_relative_to(ROOT / "docs")]
    missing = [name for name in names if f"({name})" not in index]
    assert missing == ["index.md"]


def rooms_named(page: str, package: str) -> set[str]:
    """Rooms that the table of a package lists."""
    table = page.partition(f"| room of `{package}` |")[2].partition("\n\n")[0]
    return set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


@pytest.mark.parametrize("package", ["calibration", "exporter", "runtimes", "benchmarks"])
def test_the_page_on_architecture_names_every_room_and_no_other(package: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in (ROOT / package).glob("*/*.py")}
    rooms |= {path.parent.name for path in (ROOT / package).glob("*/*.json")}
    assert rooms_named(page, package) == rooms
    assert (ROOT / "jisu" / package).readlink() == Path("..") / package, "the page says that these are links"


def missing_files(page: str, root: Path = ROOT) -> list[str]:
    """Paths in code that a page names and that are not there."""
    return [name for name in re.findall(r"`([\w/]+/[\w.]+\.(?:py|j2))`", page) if not (root / name).exists()]


def test_files_that_the_page_on_architecture_names_are_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    relative = {"gate/open_candidate.py"}  # within its package, as the sentence says
    assert set(missing_files(page)) <= relative
    assert missing_files("`exporter/gate/gone.py` and `tests/test_docs.py`") == ["exporter/gate/gone.py"]


def test_a_room_that_is_gone_is_found() -> None:
    page = "| room of `exporter` | what is in it |\n|---|---|\n| `gate` | checks |\n| `attic` | things |\n\n`zoo`\n"
    assert rooms_named(page, "exporter") == {"gate", "attic"}


def shared_facts(text: str) -> tuple[list[str], set[str]]:
    """The code blocks of a front page, and the commands and figures in its tables' code."""
    blocks = _FENCE.findall(text)
    prose = _FENCE.sub("", text)
    figures = {one for line in prose.splitlines() if line.startswith("|") for one in re.findall(r"\d+(?:\.\d+)?", line)}
    return blocks, figures | set(re.findall(r"`([^`\n]+)`", prose))


def test_every_page_in_chinese_is_held_to_its_english_one() -> None:
    pages = [page.relative_to(ROOT).as_posix() for page in PAGES]
    assert sorted(CHINESE) == [page for page in pages if "zh" in page]


@pytest.mark.parametrize("page", sorted(CHINESE))
def test_pages_in_chinese_have_the_commands_and_figures_of_the_english_ones(page: str) -> None:
    english = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in CHINESE[page])
    blocks, words = shared_facts((ROOT / page).read_text(encoding="utf-8"))
    all_blocks, all_words = shared_facts(english)
    assert [block for block in blocks if block not in all_blocks] == []
    assert {word for word in words - all_words if word not in english} == set()


def test_another_figure_and_another_command_are_found() -> None:
    one = "| `int8` | 144 MB |\n```\njisu export A\n```\n"
    other = "| `int8` | 145 MB |\n```\njisu export B\n```\n"
    blocks, words = shared_facts(one)
    other_blocks, other_words = shared_facts(other)
    assert (words - other_words, blocks == other_blocks) == ({"144"}, False)


def test_the_site_builds_with_every_link_and_docstring_in_order(tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (site / "api" / "export.html").read_text(encoding="utf-8")
    assert 'id="jisu.exporter.pipeline.export"' in page
    assert "https://cdn" not in page, "a reader's browser fetches nothing"


def test_the_page_on_python_has_every_public_name() -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert [name for name in jisu.__all__ if name != "main" and not re.search(rf"\b{name}\b", page)] == []
