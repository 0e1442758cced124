"""Tries every type of transformers' table of images and texts with random weights, and records what becomes of it.

    python -m benchmarks.studies.image_families --out FILE.json [--types llava aya_vision ...] [--seconds 240] [--page]

`small_image_models` makes a small checkpoint of each. Some classes of transformers import torchvision: it has to be
installed, for the study and the export. Each is exported to `ort-cpu` in fp32, in a process of its own: it passes where
the gate accepts it as a model that reads images. Rows that the file already has are kept, unless their types are asked
for.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jisu.benchmarks.studies.small_image_models import write_small_model

# Makes and exports one type in a folder: what became of it, and why.
Tries = Callable[[str, Path], tuple[str, str]]
_ALONE = "exported for texts alone"
_RESULTS = {
    "passes": "pass",
    "not made": "could not be made small in this general way, or are of packages that were not installed",
    "not ended": "did not end in time",
    "crashed": "ended with an error of this program",
}
_REASONS = {
    "is not the model it was made from": "rejected by the gate",
    "are prepared with torchvision alone": "images that transformers prepares with torchvision alone",
    "no graph for images of all sizes": "a loop or a size in what reads images that differs from image to image",
    "pixels that no way": "pixels of a way of preparing images that is not known",
    "a text of its own for an image": "marks of a rule that is not known",
    "does not say what it writes in the place of one image": "marks that a class writes for a whole prompt alone",
    "does not say which token stands for an image": "no token stands for an image, features enter other layers",
    "is not a language model that can be exported": "an encoder and a decoder",
}


def tried(model_type: str, folder: Path) -> tuple[str, str]:
    """Make one small checkpoint and export it; returns what became of it, and why."""
    import os

    os.environ["TQDM_DISABLE"] = "1"
    try:
        write_small_model(model_type, folder / "source")
    except Exception as error:  # noqa: BLE001 - configurations that are made small raise anything
        return "not made", f"{type(error).__name__}: {error}".splitlines()[0][:300]
    from jisu.exporter.contract.errors import JisuError
    from jisu.exporter.pipeline import export

    try:
        made = export(str(folder / "source"), out=folder / "artifact")
    except JisuError as error:
        return "refused", " ".join(str(error).replace(str(folder / "source"), "the checkpoint").split())[:600]
    if made.manifest.model_kind != "image-text-to-text":
        return "texts alone", _ALONE
    return "passes", ""


def run_apart(model_type: str, seconds: int, tries: Tries) -> dict[str, Any]:
    """One type in a process of its own, a copy of this one, which has the libraries loaded."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        child = context.Process(target=_answer, args=(tries, model_type, Path(folder), theirs))
        child.start()
        theirs.close()
        row = {"type": model_type, "result": "not ended", "why": f"not within {seconds} s"}
        if ours.poll(seconds):
            try:
                result, why = ours.recv()
            except EOFError:
                result, why = "crashed", "it ended without a word"
            row = {"type": model_type, "result": result, "why": why}
        child.kill()
        child.join()
    return {**row, "seconds": round(time.perf_counter() - begin, 1)}


def _answer(tries: Tries, model_type: str, folder: Path, pipe: Any) -> None:
    try:
        pipe.send(tries(model_type, folder))
    except Exception as error:  # noqa: BLE001 - a bug of ours is a row, too
        pipe.send(("crashed", f"{type(error).__name__}: {error}".splitlines()[0][:300]))


def rendered(
    rows: Sequence[Mapping[str, Any]], results: Mapping[str, str] = _RESULTS, known: Mapping[str, str] = _REASONS
) -> str:
    """What a page says of the rows: names of those that pass, and why the others do not."""
    lines = []
    for result, words in results.items():
        names = sorted(str(row["type"]) for row in rows if row["result"] == result)
        if names:
            lines += [f"{len(names)} {words}: {', '.join(names)}.", ""]
    lines += ["| refused | why |", "|---|---|"]
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["result"] in ("refused", "texts alone"):
            reasons.setdefault(reason(str(row["why"]), known), []).append(str(row["type"]))
    lines += [f"| {', '.join(sorted(names))} | {why} |" for why, names in sorted(reasons.items())]
    return "\n".join(lines) + "\n"


def reason(why: str, known: Mapping[str, str] = _REASONS) -> str:
    """A refusal in a few words: what was received, where that is said in one known way."""
    for part, words in known.items():
        if part in why:
            return words
    received = why.partition("Received: ")[2].partition(" Allowed: ")[0].rstrip(".")
    return (received or why)[:160].replace("|", "\\|")


def main(arguments: list[str] | None = None) -> int:
    return record(arguments, str(__doc__), known_types, tried, rendered)


def known_types() -> list[str]:
    """Those of transformers' table."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    return list(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)


def record(
    arguments: list[str] | None,
    description: str,
    types: Callable[[], list[str]],
    tries: Tries,
    page: Callable[[Sequence[Mapping[str, Any]]], str],
) -> int:
    """The command of such a study: a row for each type, in a file that is written after each of them."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file of the rows (default: print them)")
    parser.add_argument("--types", nargs="*", help="model types (default: all of transformers' table)")
    parser.add_argument("--seconds", type=int, default=240, help="most seconds of one type (default: 240)")
    parser.add_argument("--page", action="store_true", help="only print what a page says of the file's rows")
    options = parser.parse_args(arguments)
    if options.page:
        print(page(json.loads(options.out.read_text(encoding="utf-8"))), end="")
        return 0
    # Copies of this process have them.
    import jisu.exporter.pipeline
    import jisu.exporter.tracing.trace_source  # noqa: F401

    rows: dict[str, Any] = {}
    if options.out is not None and options.out.exists():
        rows = {row["type"]: row for row in json.loads(options.out.read_text(encoding="utf-8"))}
    for model_type in options.types or types():
        if options.types or model_type not in rows:
            rows[model_type] = run_apart(model_type, options.seconds, tries)
            print(json.dumps(rows[model_type]), flush=True)
        if options.out is not None:
            listed = [rows[name] for name in sorted(rows)]
            options.out.write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
