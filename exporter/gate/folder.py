"""Whether everything beside the graphs is what the source gives: settings, stop tokens, tokenizer, chat template.

Files are compared as data, key by key, so that the one that differs is named with both values. A tokenizer is compared
with the source's own in memory, whatever wrote the file.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.artifact import CPU_ENCODER, CPU_GRAPH, ENCODER, GRAPH, TOKENIZER
from jisu.exporter.gate.result import Check
from jisu.exporter.graph.graph_signature import signature_of

if TYPE_CHECKING:
    from jisu.exporter.contract.artifact import Artifact
    from jisu.exporter.contract.signature import Signature
    from jisu.exporter.sources.source import Source

NAME, SIGNATURE_NAME = "folder", "signature"
WriteFiles = Callable[[Path], None]
# Files of these names are read by runtimes when they lie there, and change what somebody gets.
_READ_WHERE_PRESENT = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "genai_config.json",
    "merges.txt",
    "processor_config.json",
    "special_tokens_map.json",
    TOKENIZER,
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
# Parts of tokenizer.json that a runtime switches off, or that say nothing of a text.
_IDLE = ("version", "truncation", "padding")
# Entries of tokenizer_config.json that say what wrote it.
_WRITER = ("tokenizer_class", "backend")
_SHOWN = 80  # characters of a value


def check_folder(artifact: Artifact, source: Source, write: WriteFiles) -> Check:
    """Compare the files beside the graphs with those that the source gives anew.

    Args:
        artifact: its files lie in its folder.
        source: the model it has to match.
        write: writes the files that an export of the source has beside its graphs into an empty folder.
    """
    with tempfile.TemporaryDirectory() as place:
        expected = Path(place)
        write(expected)
        names = sorted(path.name for path in expected.iterdir() if path.is_file())
        differences = list(_differences(artifact.folder, expected, names, source))
    differences += [
        f"{name} lies in the folder, and the source gives no such file"
        for name in _READ_WHERE_PRESENT
        if name not in names and (artifact.folder / name).exists()
    ]
    detail = f"Same {', '.join(names)} as the source gives."
    if differences:
        more = f", and {len(differences) - 1} more" if len(differences) > 1 else ""
        detail = f"{differences[0]}{more}."
    return Check(
        name=NAME, passed=not differences, value=len(differences), limit=0, unit="entries that differ", detail=detail
    )


def check_signature(artifact: Artifact) -> Check:
    """Compare what the manifest says of inputs, outputs and state with the graph files themselves."""

    from jisu.exporter.graph.read_graph import read_graph

    recorded = artifact.manifest.signature
    pairs: list[tuple[str, Signature, bool]] = [(GRAPH, recorded, False)]
    if recorded.encoded:
        pairs.append((ENCODER, recorded.encoder(), False))
    wrong = []
    for name, expected, _ in pairs:
        graph = read_graph(artifact.folder / name).graph
        if name == ENCODER:
            read = signature_of(graph).inputs
            wrong += [] if read == expected.inputs else [f"{name} reads {', '.join(spec.name for spec in read)}"]
            outputs = {value.name for value in graph.outputs}
            wrong += [f"{name} gives no {spec.name}" for spec in expected.outputs if spec.name not in outputs]
        elif (actual := replace(signature_of(graph), heard=expected.heard)) != expected:
            wrong += [f"{name} has {line}" for line in _signature_lines(actual, expected)]
    for name in (CPU_GRAPH, CPU_ENCODER):
        if (artifact.folder / name).exists() and name not in artifact.manifest.files:
            wrong.append(f"{name} is not recorded")
    detail = f"{'; '.join(wrong)}." if wrong else "Inputs, outputs and state are those of the graph."
    return Check(name=SIGNATURE_NAME, passed=not wrong, value=len(wrong), limit=0, unit="tensors", detail=detail)


def _signature_lines(actual: Signature, expected: Signature) -> Iterator[str]:
    for kind in ("inputs", "outputs", "state"):
        ours, theirs = getattr(actual, kind), getattr(expected, kind)
        if ours != theirs:
            differing = next((pair for pair in zip(ours, theirs, strict=False) if pair[0] != pair[1]), None)
            described = f"{differing[0]} where the manifest has {differing[1]}" if differing else f"{len(ours)} {kind}"
            yield f"other {kind}: {described}"


def _differences(folder: Path, expected: Path, names: list[str], source: Source) -> Iterator[str]:
    for name in names:
        if not (folder / name).is_file():
            yield f"{name} is missing"
            continue
        ours, theirs = (_read(place / name) for place in (folder, expected))
        if name == TOKENIZER and source.tokenizer is not None:
            theirs = json.loads(source.tokenizer.backend_tokenizer.to_str())
        if name == TOKENIZER:
            ours, theirs = (_comparable(one) for one in (ours, theirs))
        ignored = _WRITER if name == "tokenizer_config.json" else ()
        for line in _compare(ours, theirs, name):
            if not any(line.startswith(f"{name}: {key} ") for key in ignored):
                yield line


def _read(path: Path) -> Any:
    content = path.read_bytes()
    if path.suffix != ".json":
        return content.decode("utf-8", "replace")
    try:
        return json.loads(content)
    except ValueError:
        return content.decode("utf-8", "replace")


def _comparable(tokenizer: Any) -> Any:
    """Without what is idle; merges in one of the two forms that they are written in."""
    if not isinstance(tokenizer, dict):
        return tokenizer
    kept = {key: value for key, value in tokenizer.items() if key not in _IDLE}
    model = kept.get("model")
    if isinstance(model, dict) and isinstance(model.get("merges"), list):
        merges = [tuple(pair.split(" ", 1)) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]]
        kept["model"] = {**model, "merges": merges}
    return kept


def _compare(ours: Any, theirs: Any, name: str, path: str = "") -> Iterator[str]:
    """A line for each entry that differs, in the order of the source's."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in (*theirs, *(key for key in ours if key not in theirs)):
            place = f"{path}.{key}" if path else str(key)
            if key not in ours:
                yield f"{name}: {place} is missing where the source has {_shown(theirs[key])}"
            elif key not in theirs:
                yield f"{name}: {place} is {_shown(ours[key])} where the source has none"
            else:
                yield from _compare(ours[key], theirs[key], name, place)
    elif isinstance(ours, list) and isinstance(theirs, list):
        if ours == theirs:
            return
        at = next(
            (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
        )
        if len(ours) == len(theirs):
            yield from _compare(ours[at], theirs[at], name, f"{path}[{at}]")
            return
        counts = f"{len(ours)} entries where the source has {len(theirs)}"
        yield f"{name}: {path} has {counts}, first another one at {at}"
    elif type(ours) is not type(theirs) or ours != theirs:
        where = f"{name}: {path}" if path else name
        if path or not isinstance(ours, str):
            yield f"{where} is {_shown(ours)} where the source has {_shown(theirs)}"
        else:
            yield f"{name} is another text than the source's"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
