"""How many texts a second embedding engines read, interleaved, each in a process of its own; and how alike they rank.

    python -m benchmarks.studies.embedding_speed --contestant fp32=jisu:build/minilm \\
        --contestant st=sentence-transformers:st-onnx:.venv-st/bin/python --tokenizer build/minilm --report speed.json

A contestant is ``NAME=ENGINE:FOLDER[::FILE][:PYTHON]``. Texts are cut from the built-in held-out texts to 16, 64 and
256 tokens of a tokenizer. Each round asks every contestant in turn; how they rank is compared with the first of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

WORKER = "run_embedder"  # in `benchmarks/peers`
TOKENS, BATCHES = (16, 64, 256), (1, 8, 32)
SECONDS = 0.4  # of calls for each contestant in a round


@dataclass
class Contestant:
    """A worker and what it was asked for."""

    name: str
    process: subprocess.Popen[str]
    version: str

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the worker, whose input ends."""
        self.process.communicate()


def main(argv: list[str] | None = None) -> int:
    """Measure; prints a table, and writes all figures where ``--report`` says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contestant", action="append", required=True, metavar="NAME=ENGINE:FOLDER[::FILE][:PYTHON]")
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="FOLDER", help="with tokenizer.json")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args(argv)
    contestants = [_open(line, options.threads) for line in options.contestant]
    texts = {tokens: _texts(options.tokenizer, tokens, max(BATCHES)) for tokens in TOKENS}
    rows = [
        _measure(contestants, texts[tokens][:batch], tokens=tokens, batch=batch, rounds=options.rounds)
        for tokens in TOKENS
        for batch in BATCHES
    ]
    quality = _quality(contestants, options.tokenizer)
    for one in contestants:
        one.close()
    for row in rows:
        cells = [f"{one['texts_per_second']:8.1f} ({one['spread']:.0%})" for one in row["contestants"].values()]
        sys.stdout.write(f"{row['tokens']:4d} tokens, batch {row['batch']:2d}  " + "  ".join(cells) + "\n")
    sys.stdout.write(json.dumps(quality, indent=1) + "\n")
    if options.report is not None:
        record = {
            "contestants": {one.name: one.version for one in contestants},
            "threads": options.threads,
            "rows": rows,
            "quality": quality,
        }
        options.report.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


def _open(line: str, threads: int) -> Contestant:
    name, _, rest = line.partition("=")
    engine, _, place = rest.partition(":")
    folder, _, python = place.replace("::", "\0").partition(":")
    command = [python or sys.executable, str(_worker()), engine, folder.replace("\0", "::"), str(threads)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return Contestant(name, process, json.loads(process.stdout.readline())["version"])


def _worker() -> Path:
    return Path(__file__).parent.parent / "peers" / f"{WORKER}.py"


def _texts(folder: Path, tokens: int, count: int) -> list[str]:
    """English texts of so many tokens, special ones included."""
    from tokenizers import Tokenizer

    from jisu.exporter.gate.domains import held_out_prose

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoding = tokenizer.encode(held_out_prose(), add_special_tokens=False)
    inner = tokens - tokenizer.num_special_tokens_to_add(is_pair=False)
    text, step = held_out_prose(), max(1, (len(encoding.ids) - inner) // count)
    return [
        text[encoding.offsets[start][0] : encoding.offsets[start + inner - 1][1]]
        for start in range(0, step * count, step)
    ]


def _measure(
    contestants: list[Contestant], texts: list[str], *, tokens: int, batch: int, rounds: int
) -> dict[str, Any]:
    rates: dict[str, list[float]] = {one.name: [] for one in contestants}
    resident = {}
    calls = {}
    for one in contestants:  # warm, and learn how long a call takes
        first = one.ask({"texts": texts, "calls": 3})["seconds"]
        calls[one.name] = max(2, int(SECONDS / min(first)))
    for _ in range(rounds):
        for one in contestants:
            answer = one.ask({"texts": texts, "calls": calls[one.name]})
            rates[one.name].append(batch / statistics.median(answer["seconds"]))
            resident[one.name] = answer["resident_bytes"]
    return {
        "tokens": tokens,
        "batch": batch,
        "contestants": {
            name: {
                "texts_per_second": statistics.median(values),
                "spread": (max(values) - min(values)) / statistics.median(values),
                "resident_bytes": resident[name],
            }
            for name, values in rates.items()
        },
    }


def _quality(contestants: list[Contestant], folder: Path) -> dict[str, Any]:
    """How the vectors of each rank a corpus against those of the first."""
    from jisu.exporter.gate.embedding import compare_rankings

    corpus, queries = _texts(folder, 60, 300), _texts(folder, 14, 97)
    vectors = {}
    with tempfile.TemporaryDirectory() as place:
        for one in contestants:
            parts = []
            for name, texts in (("corpus", corpus), ("queries", queries)):
                path = Path(place) / f"{name}.npy"
                one.ask({"texts": texts, "file": str(path)})
                rows = np.load(path).astype(np.float64)
                parts.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
            vectors[one.name] = parts
    truth = vectors[contestants[0].name]
    figures = {}
    for name, (texts, questions) in vectors.items():
        ranking = compare_rankings(truth[1] @ truth[0].T, questions @ texts.T)
        cosine = float((texts * truth[0]).sum(1).min())
        figures[name] = {**ranking.to_dict(), "smallest_cosine": cosine}
    return figures


if __name__ == "__main__":
    sys.exit(main())
