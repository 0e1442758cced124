"""Figures in the pages that repeat a run are those of the report that the repository keeps of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from jisu.benchmarks.report.markdown import render_markdown, render_rows
from jisu.benchmarks.report.publish import BEGIN, END, readme_columns
from jisu.benchmarks.report.report import read_report
from jisu.benchmarks.robustness.tally import read_tally
from jisu.benchmarks.robustness.tally import table as counts_table

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "smollm2-135m"
# What a page calls a row -> what the report does.
GATE_ROWS = {
    "`fp32` (default)": "fp32 (ort-cpu)",
    "`int8`": "int8 (ort-cpu)",
    "`int4`": "int4 (ort-cpu)",
    "`w8a8-dynamic`": "w8a8-dynamic (ort-cpu)",
    "`--target-size 90MB`": "int4-90MB (ort-cpu)",
}
COMPARED_ROWS = GATE_ROWS | {
    "llama.cpp Q4_K_M": "llama.cpp Q4_K_M",
    "llama.cpp Q8_0": "llama.cpp Q8_0",
    "llama.cpp Q4_0": "llama.cpp Q4_0",
    "onnxruntime-genai's int4": "genai int4",
}


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in read_report(RESULTS / "report.json")["rows"]}


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def table(page: str, head: str) -> list[list[str]]:
    """The cells of the table whose first line begins with ``head``."""
    lines = text_of(page).partition(f"\n{head}")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def differing(cells: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """The figures that are not their values, rounded to as many digits as are written."""
    return [(cell, value) for cell, value in cells if f"{value:.{len(cell.partition('.')[2])}f}" != cell]


def test_the_comparison_is_the_recorded_one() -> None:
    report = read_report(RESULTS / "report.json")
    whole = render_markdown(report)
    assert (RESULTS / "report.md").read_text(encoding="utf-8") == whole
    assert text_of("docs/compare.md").partition(BEGIN)[2].partition(END)[0] == f"\n{whole}"
    shown = text_of("README.md").partition(BEGIN)[2].partition(END)[0]
    names = [name for name in (row["name"] for row in report["rows"]) if f"\n| {name} |" in shown]
    few = render_rows(report, names=names, titles=readme_columns(report))
    assert shown.partition("\n![")[0] == f"\n{few}"
    assert len(names) >= 5


def test_the_comparison_without_a_grid_is_the_recorded_one() -> None:
    folder = RESULTS / "no-grid"
    report = read_report(folder / "report.json")
    assert (folder / "report.md").read_text(encoding="utf-8") == render_markdown(report)
    shown = text_of("README.md").partition("<!-- without a grid: begin -->\n")[2].partition("\n<!-- without")[0]
    names = [row["name"] for row in report["rows"]]
    assert shown == render_rows(report, names=names, titles=readme_columns(report)).rstrip("\n")
    gates = json.loads((folder / "gate.json").read_text(encoding="utf-8"))["rows"]
    for name, row in (("int4", "`int4`"), ("target-size-90MB", "`--target-size 90MB`")):
        (compared,) = (one for one in report["rows"] if one["name"] == f"{name} (ort-cpu)")
        assert compared["gate"]["quality"]["worst_kl"] == gates[row]["worst_kl"], "the artifacts are the same"


@pytest.mark.parametrize("page", ["README.md", "docs/precision.md"])
def test_sizes_and_divergences_of_precisions_are_what_their_gates_measured(
    page: str, rows: dict[str, dict[str, Any]]
) -> None:
    checked = 0
    for name, size, worst, mean, *_ in table(page, "| SmolLM2-135M, `ort-cpu` |"):
        if name in GATE_ROWS:
            row = rows[GATE_ROWS[name]]
            quality = row["gate"].get("quality") or {"worst_kl": 0.0, "average_kl": 0.0}
            cells = [(size.removesuffix(" MB"), row["size_bytes"] / 1e6)]
            cells += [(worst, quality["worst_kl"]), (mean, quality["average_kl"])]
            assert differing(cells) == [], name
            checked += 1
    assert checked >= 4


def test_formats_compared_are_those_of_the_report_where_it_has_them(rows: dict[str, dict[str, Any]]) -> None:
    checked = set()
    for name, size, worst, mean, top1 in table("docs/precision.md", "| SmolLM2-135M (Q4_1) |"):
        if name in COMPARED_ROWS:
            row = rows[COMPARED_ROWS[name]]
            quality = row["quality"]
            lowest = min(domain["top1"] for domain in quality["sets"].values())
            cells = [(size.removesuffix(" MB"), row["size_bytes"] / 1e6), (worst, quality["worst"]["mean_kl"])]
            cells += [(mean, quality["average"]["mean_kl"]), (top1, lowest)]
            assert differing(cells) == [], name
            checked.add(name)
    assert len(checked) >= 7


def test_what_8_bits_buy_is_what_was_recorded() -> None:
    report = json.loads((RESULTS / "int4-bits.json").read_text(encoding="utf-8"))
    shown = {name: cells for name, *cells in table("docs/precision.md", "| layers of 8 bits |")}
    assert list(shown) == list(report["rows"])
    for name, (size, worst, mean) in shown.items():
        row = report["rows"][name]
        cells = [(size.removesuffix(" MB"), row["bytes"] / 1e6), (worst, row["worst_kl"]), (mean, row["mean_kl"])]
        assert differing(cells) == [], name
    ratios = [report["rows"][name]["mean_kl"] / kl for name, kl in report["expected_kl_of_rows"].items()]
    assert all(1.65 < ratio < 1.95 for ratio in ratios), "1.7 to 1.9 times"
    expected = report["expected_kl_of_4_bits"]
    by_kind = {kind: round(100 * kl / expected["sum"]) for kind, kl in expected["by_kind"].items()}
    assert [by_kind[kind] for kind in ("down_proj", "up_proj", "gate_proj", "v_proj")] == [26, 25, 20, 17]
    assert round(sum(expected["by_layer"][:5]) / expected["sum"], 1) == 0.3


def test_what_the_gate_says_without_a_grid_is_what_was_recorded() -> None:
    rows = json.loads((RESULTS / "no-grid" / "gate.json").read_text(encoding="utf-8"))["rows"]
    page = text_of("docs/precision.md")
    for name, row in rows.items():
        assert max(row["domains"].values()) == row["worst_kl"] == row["domains"][row["worst_domain"]]
        worst = f"{row['worst_kl']:.4f} ({row['worst_domain'].capitalize()})"
        assert f"| {name} | {row['bytes'] / 1e6:.1f} MB | {worst} | {row['mean_kl']:.4f} |" in page


def test_what_auto_round_gives_is_what_was_measured() -> None:
    rows = json.loads((RESULTS / "weight-formats.json").read_text(encoding="utf-8"))["rows"]
    row = rows["weights of auto-round-b32-50-steps"]
    kl = {name: domain["mean_kl"] for name, domain in row["domains"].items()}
    words = r"gives (\S+) MB of weights with an embedding of 8 bits, (\S+) in the worst of "
    words += r"the gate's domains, (\w+), and (\S+) on"
    (figures,) = re.findall(words.replace(" ", r"\s"), text_of("docs/precision.md"))
    size, worst, language, mean = figures
    values = [(size, row["bytes"] / 1e6), (worst, max(kl.values())), (mean, sum(kl.values()) / len(kl))]
    assert differing(values) == []
    assert kl[language.lower()] == max(kl.values())


def test_how_long_exports_take_is_what_their_artifacts_say(rows: dict[str, dict[str, Any]]) -> None:
    (sentence,) = re.findall(r"Exports of this table took ([^.]*)\.", text_of("docs/precision.md"))
    named = re.findall(r"(\d+) s \((`[^`]+`)\)", sentence)
    assert len(named) == 4
    assert differing([(seconds, rows[GATE_ROWS[name]]["export_seconds"]) for seconds, name in named]) == []


def test_the_page_on_ci_knows_what_int8_loses(rows: dict[str, dict[str, Any]]) -> None:
    (limit, loss) = re.findall(r"; (\S+) nats is three times the (\S+) that int8 of", text_of("docs/ci.md"))[0]
    assert differing([(loss, rows["int8 (ort-cpu)"]["gate"]["quality"]["worst_kl"])]) == []
    assert round(float(limit) / float(loss)) == 3


def test_a_figure_that_differs_is_found() -> None:
    assert differing([("0.006", 0.0064), ("0.0064", 0.0064), ("144", 143.6)]) == []
    assert differing([("0.006", 0.0066), ("144", 144.6)]) == [("0.006", 0.0066), ("144", 144.6)]


def test_the_counts_of_damaged_files_and_kills_are_the_recorded_ones() -> None:
    counts = read_tally(ROOT / "benchmarks" / "results" / "robustness.json")
    shown = text_of("docs/robustness.md").partition("<!-- counts -->\n")[2].partition("<!-- end of counts -->")[0]
    assert shown == counts_table(counts)
    assert counts.faults == 0 and counts.attempts > 10_000
