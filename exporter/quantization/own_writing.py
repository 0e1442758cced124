"""What a model writes by itself, to be calibrated on: sampled from the source, many texts at once, with a seed.

A text of the model's own is the kind of text that the model will be run on, in whatever languages and forms it knows,
and it is there for every model (Liu et al. 2023, "LLM-QAT", section 3.1). Each row goes on from short prompts, through
the model's chat template where it has one, or from its beginning-of-text token alone; when it ends, the next prompt
follows in the same row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.artifact import ONE_PASS_KINDS, TEXT_TO_TEXT
from jisu.exporter.jobs.stages import ReportProgress
from jisu.exporter.quantization.prompt_tokens import first_token, known_tokens, prompt_tokens
from jisu.exporter.tracing.trace_source import traced_interface

if TYPE_CHECKING:
    import torch

    from jisu.exporter.sources.source import Source

TokenIds = npt.NDArray[np.int64]
# Rows are written with these in turn: the distribution itself.
TEMPERATURES = (1.0,)
# Every such row begins with nothing but the beginning-of-text token.
UNPROMPTED = 4
# Parameters times tokens that writing may cost: 16,000 tokens of a model of 135 million parameters, which writes 8,192
# in 35 seconds on two cores. A larger model writes fewer rows, down to the least.
WORK, FEWEST_ROWS = 1 << 41, 4
# Tokens of the text that an encoder is given.
_SOURCE_TOKENS = 48


@dataclass(frozen=True, kw_only=True)
class WritingSettings:
    """What is to be written: int64 [rows, length].

    Attributes:
        seed: of the drawing.
        requested: rows of the mixture; fewer are planned where the model is large.
    """

    rows: int
    length: int
    seed: int
    requested: int

    def to_record(self) -> dict[str, Any]:
        """For the manifest."""
        record: dict[str, Any] = {"temperatures": list(TEMPERATURES), "seed": self.seed}
        if self.rows < self.requested:
            record["note"] = f"{self.requested - self.rows} windows fewer, because the model is large"
        return record


def choose_writing(source: Source, *, rows: int, length: int, seed: int = 0) -> WritingSettings:
    """As many rows as are asked for, fewer of a large model; none of a model that writes no text."""
    if source.model_kind in ONE_PASS_KINDS:
        return WritingSettings(rows=0, length=length, seed=seed, requested=rows)
    affordable = max(FEWEST_ROWS, WORK // max(1, source.model.parameters * length))
    return WritingSettings(rows=min(rows, affordable), length=length, seed=seed, requested=rows)


def write_windows(source: Source, settings: WritingSettings, *, progress: ReportProgress | None = None) -> TokenIds:
    """Let a source write; the same source, settings and kind of CPU give the same tokens.

    Args:
        progress: called with the tokens done of each row, and their number.

    Returns:
        int64 [rows, length]; fewer rows of a model that runs each text from its beginning for every token.
    """
    import torch

    from jisu.calibration.model.layer_walk import inference

    module = traced_interface(source.module)
    with inference(module), torch.inference_mode():
        prompts = prompt_tokens(source)
        step = _step_of(source, module, settings, prompts)
        rows = step.rows
        pending = [_prompts_of_row(source, row, settings, prompts) for row in range(rows)]
        waiting = [next(row) for row in pending]
        ids = np.zeros((rows, settings.length), np.int64)
        generator = np.random.default_rng(settings.seed)
        temperatures = np.resize(np.asarray(TEMPERATURES), rows)
        allowed, ends = known_tokens(source), set(source.model.eos)
        drawn = np.zeros(rows, np.int64)
        for place in range(settings.length):
            for row in range(rows):
                if waiting[row]:
                    ids[row, place] = waiting[row].pop(0)
                    continue
                ids[row, place] = drawn[row]
                if int(drawn[row]) in ends:
                    waiting[row] = next(pending[row])
            uniform = generator.random(rows)  # for all rows at every place, whatever the rows need
            if place + 1 < settings.length:
                logits = step(ids, place)
                if not all(waiting):
                    drawn = draw_tokens(logits[:, :allowed].float().numpy(), uniform, temperatures)
            if progress is not None:
                progress(place + 1, settings.length)
    return ids


def draw_tokens(
    logits: npt.NDArray[np.float32], uniform: npt.NDArray[np.float64], temperatures: npt.NDArray[np.float64]
) -> TokenIds:
    """One token of each row, by the inverse of the cumulated distribution softmax(logits / temperature).

    Args:
        logits: float32 [rows, V]; NaN counts as minus infinity, and whoever runs the windows will say where it is from.
        uniform: float64 [rows], each in [0, 1).
        temperatures: float64 [rows], above 0.
    """
    scaled = np.nan_to_num(logits.astype(np.float64), nan=-1e30, posinf=1e30, neginf=-1e30) / temperatures[:, None]
    scaled -= scaled.max(axis=1, keepdims=True)
    cumulated = np.exp(scaled).cumsum(axis=1)
    drawn = uniform * cumulated[:, -1]
    places = [int(np.searchsorted(row, value, side="right")) for row, value in zip(cumulated, drawn, strict=True)]
    return np.asarray([min(number, logits.shape[1] - 1) for number in places], np.int64)


def fingerprint_prompts(prompts: Sequence[Sequence[int]]) -> str:
    """SHA-256 of prompts in a source's tokens."""
    digest = hashlib.sha256()
    for ids in prompts:
        digest.update(np.asarray([len(ids), *ids], "<i8").tobytes())
    return digest.hexdigest()


def _prompts_of_row(
    source: Source, row: int, settings: WritingSettings, prompts: Sequence[Sequence[int]]
) -> Iterator[list[int]]:
    """What a row begins with, and with again whenever it has come to an end."""
    generator = np.random.default_rng((settings.seed, row))
    number = row
    while True:
        unprompted = row % UNPROMPTED == UNPROMPTED - 1 or not prompts or source.model_kind == TEXT_TO_TEXT
        if unprompted:
            yield _beginning(source, generator)
            continue
        yield list(prompts[number % len(prompts)])
        number += settings.rows


def _beginning(source: Source, generator: np.random.Generator) -> list[int]:
    """The token that a text begins with; a random one of a model that has none."""
    facts = source.model
    if source.model_kind == TEXT_TO_TEXT and facts.decoder_start is not None:
        return [facts.decoder_start] + ([] if facts.forced_bos is None else [facts.forced_bos])
    first = first_token(source)
    return [int(generator.integers(0, known_tokens(source))) if first is None else first]


class _Step(Protocol):
    rows: int

    def __call__(self, ids: TokenIds, place: int) -> torch.Tensor:
        """Logits [rows, V] after the token at a place of ids [rows, length]; places are asked for in order."""
        ...


def _step_of(source: Source, module: Any, settings: WritingSettings, prompts: Sequence[Sequence[int]]) -> _Step:
    from jisu.calibration.model.whole_sequences import has_state

    if not has_state(module):
        return _WholeStep(module, settings, source.model.parameters)
    encoded = _encoded(source, module, settings, prompts) if source.model_kind == TEXT_TO_TEXT else []
    return _CachedStep(module, settings, encoded)


class _CachedStep:
    """One token of each row through a module that carries a state."""

    def __init__(self, module: Any, settings: WritingSettings, encoded: Sequence[torch.Tensor]) -> None:
        from jisu.calibration.model.whole_sequences import empty_state

        items = [item for item in module.state_spec() if item[1] != "encoder"]
        self.rows = settings.rows
        self._module, self._encoded = module, list(encoded)
        self._state = empty_state(items, batch=settings.rows, capacity=settings.length)

    def __call__(self, ids: TokenIds, place: int) -> torch.Tensor:
        import torch

        tokens = torch.from_numpy(np.ascontiguousarray(ids[:, place : place + 1]))
        past = torch.full((self.rows,), place, dtype=torch.int64)
        logits, written = self._module(tokens, past, [*self._state, *self._encoded])
        self._state = list(written)[: len(self._state)]
        return logits[:, -1]  # type: ignore[no-any-return]


class _WholeStep:
    """The whole text again for every token, of a module without a state; as many rows as that allows, one at least."""

    def __init__(self, module: Any, settings: WritingSettings, parameters: int) -> None:
        row = max(1, parameters * settings.length * settings.length // 2)
        self.rows = min(settings.rows, max(1, WORK // row))
        self._run: Callable[[torch.Tensor], Any] = module

    def __call__(self, ids: TokenIds, place: int) -> torch.Tensor:
        import torch

        output = self._run(torch.from_numpy(np.ascontiguousarray(ids[: self.rows, : place + 1])))
        return getattr(output, "logits", output)[:, -1]  # type: ignore[no-any-return]


def _encoded(
    source: Source, module: Any, settings: WritingSettings, prompts: Sequence[Sequence[int]]
) -> list[torch.Tensor]:
    """What an encoder makes of prompts, one for each row; of random tokens where there is no tokenizer."""
    import torch

    longest = min(_SOURCE_TOKENS, source.model.max_source_positions or _SOURCE_TOKENS)
    ids = np.random.default_rng(settings.seed).integers(0, known_tokens(source), (settings.rows, longest))
    mask = np.ones_like(ids)
    for row in range(settings.rows if prompts else 0):
        text = prompts[row % len(prompts)][:longest]
        ids[row, : len(text)], mask[row, len(text) :] = text, 0
    encoded: list[torch.Tensor] = module.encode(torch.from_numpy(ids), torch.from_numpy(mask))
    return encoded
