"""An artifact folder with a registered backend that gives one answer to everything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from jisu.exporter.contract.artifact import Artifact, record_files
from jisu.runtimes.backends.registry import BACKENDS, register_backend
from jisu.runtimes.generation.text import TextCodec
from tests.runtimes.tiny_text import IM_END, ScriptedBackend, byte_level_tokenizer, text_artifact

TOKENIZER = byte_level_tokenizer()
END = TOKENIZER.token_to_id(IM_END)
ANSWER: list[int] = []
ASKS = TextCodec(TOKENIZER).encode("assistant\n", special_tokens=False)


def answering(tmp_path: Path, answer: str) -> Iterator[Path]:
    """Register the backend ``answering`` while the folder is in use."""
    ANSWER[:] = TextCodec(byte_level_tokenizer()).encode(answer, special_tokens=False)
    folder = tmp_path / "artifact"
    artifact = text_artifact(folder, eos=[END])
    done = replace(artifact.manifest, files=record_files(folder))
    (folder / "manifest.json").write_text(done.to_json(), encoding="utf-8")
    register_backend("answering", f"{__name__}:open_answering", extra="cpu", targets=["ort-cpu"])
    try:
        yield folder
    finally:
        del BACKENDS["answering"]


def open_answering(artifact: Artifact, *, threads: int | None, source: str | None) -> ScriptedBackend:
    def script(tokens: list[int]) -> int:
        for said in range(len(ANSWER) + 1):
            before, since = tokens[: len(tokens) - said], tokens[len(tokens) - said :]
            if before[-len(ASKS) :] == ASKS and since == ANSWER[:said]:
                return [*ANSWER, END][said]
        return END

    return ScriptedBackend(TOKENIZER.get_vocab_size(), script)
