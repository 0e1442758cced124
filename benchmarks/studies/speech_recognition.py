"""Speech recognition side by side: the real-time factor, and how many words are those of transformers in float32.

    python -m jisu.benchmarks.studies.speech_recognition CHECKPOINT ARTIFACT ... --espeak FOLDER --out report.json
        [--faster-whisper FOLDER --python OTHER/bin/python] [--beams 1] [--threads 2] [--trials 5]

Recordings are sentences that espeak-ng says. Every engine works in a process of its own; trials are interleaved, one
recording of one engine after the other, and the first round warms up.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.benchmarks.studies.espeak_speech import Espeak, resampled

RATE = 16_000
WORKER = "run_transcriber"  # in `benchmarks/peers`
SENTENCES = (
    "The harbour was quiet in the morning, and the boats moved slowly with the tide. Nobody spoke on the pier.",
    "Please send the report to the office before noon on Friday, and keep a copy of every page for yourself.",
    "When the rain stopped, the children ran into the garden and looked for snails under the wet leaves.",
    "A good map shows the roads, the rivers and the hills, but it does not show the weather or the traffic.",
    "She opened the window, listened to the bells of the old church, and wrote the first line of her letter.",
    "The train to the north leaves at seven in the evening. It stops at every station and arrives at midnight.",
    "Bread is made of flour, water, salt and yeast. The dough has to rest for an hour before it is baked.",
    "The museum has twelve rooms. In the last of them hangs a large painting of a ship in a storm.",
)


def recordings(espeak: Espeak, *, rounds: int) -> list[npt.NDArray[np.float32]]:
    """Sentences with voices of several pitches and speeds, and one recording of all of them."""
    made = []
    for index, sentence in enumerate(SENTENCES[:rounds]):
        samples = espeak.say(sentence, words_per_minute=130 + 10 * (index % 4), pitch=40 + 8 * (index % 3))
        made.append(resampled(samples, espeak.rate, RATE))
    pause = np.zeros(RATE // 2, np.float32)
    return [*made, np.concatenate([part for one in made for part in (one, pause)])]


def words(text: str) -> list[str]:
    """Words without case and punctuation."""
    return re.findall(r"[\w']+", text.lower())


def same_words(truth: Sequence[str], other: Sequence[str]) -> int:
    """How many words of a text another one has in the same order."""
    blocks = SequenceMatcher(None, truth, other, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks)


class Worker:
    """An engine in a process of its own, which answers paths of recordings with texts and seconds."""

    def __init__(self, name: str, command: list[str], threads: int) -> None:
        self.name = name
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, recording: Path) -> tuple[str, float]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{recording}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("{"):
                answer = json.loads(line)
                return str(answer["text"]), float(answer["seconds"])
        raise RuntimeError(f"{self.name} ended")

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run everything; returns the report."""
    with tempfile.TemporaryDirectory() as place:
        paths = []
        for index, samples in enumerate(recordings(Espeak(arguments.espeak), rounds=arguments.sentences)):
            paths.append(Path(place) / f"{index}.npy")
            np.save(paths[-1], samples)
        seconds = [len(np.load(path)) / RATE for path in paths]
        own = [sys.executable, str(_worker())]
        commands = {str(folder): [*own, "jisu", str(folder)] for folder in arguments.artifacts}
        if arguments.faster_whisper is not None:
            script = [str(arguments.python), str(_worker())]
            commands["faster-whisper int8"] = [*script, "faster-whisper", str(arguments.faster_whisper)]
        options = [str(arguments.beams), str(arguments.threads)]
        truth = Worker("transformers", [*own, "transformers", str(arguments.checkpoint), *options], arguments.threads)
        texts = [truth.ask(path)[0] for path in paths]
        truth.close()
        workers = [Worker(name, [*line, *options], arguments.threads) for name, line in commands.items()]
        factors: dict[str, list[list[float]]] = {worker.name: [] for worker in workers}
        answers: dict[str, list[str]] = {}
        for trial in range(arguments.trials + 1):
            times: dict[str, list[float]] = {worker.name: [] for worker in workers}
            for index, path in enumerate(paths):
                for worker in workers:
                    text, took = worker.ask(path)
                    times[worker.name].append(took)
                    answers.setdefault(worker.name, [""] * len(paths))[index] = text
            if trial:
                for name, took_all in times.items():
                    factors[name].append([took / one for took, one in zip(took_all, seconds, strict=True)])
        for worker in workers:
            worker.close()
    total = sum(len(words(text)) for text in texts)
    rows = []
    for name, trials in factors.items():
        short = [sum(one[:-1]) / len(one[:-1]) for one in trials]
        long = [one[-1] for one in trials]
        same = sum(same_words(words(text), words(other)) for text, other in zip(texts, answers[name], strict=True))
        rows.append(
            {
                "engine": name,
                "real_time_factor": _spread(short),
                "real_time_factor_long": _spread(long),
                "same_words": same / max(1, total),
                "texts": answers[name],
            }
        )
    return {"seconds": seconds, "words": total, "truth": texts, "beams": arguments.beams, "rows": rows}


def _worker() -> Path:
    return Path(__file__).resolve().parent.parent / "peers" / f"{WORKER}.py"


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("checkpoint")
    parser.add_argument("artifacts", nargs="*", type=Path)
    parser.add_argument("--espeak", type=Path, required=True)
    parser.add_argument("--faster-whisper", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--out", type=Path)
    for name, default in (("beams", 1), ("threads", 2), ("trials", 5), ("sentences", len(SENTENCES))):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    report = compare(arguments)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(report, indent=2, ensure_ascii=False), encoding="utf-8")
    for row in report["rows"]:
        short, long = row["real_time_factor"], row["real_time_factor_long"]
        sys.stdout.write(
            f"{row['engine']}: {short['median']:.3f} ({short['low']:.3f}-{short['high']:.3f}), "
            f"long {long['median']:.3f}, same words {row['same_words']:.4f}\n"
        )


if __name__ == "__main__":
    main()
