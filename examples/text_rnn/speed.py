"""How much faster an engine is than a loop around the PyTorch model: both after warm-up, in turns, as medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from examples.text_rnn.vocabulary import BEGIN_ID
from jisu.networks import Classifier, LanguageModel

if TYPE_CHECKING:
    from jisu import Engine

LOOP, LOOP_WITHOUT_STATE = "PyTorch loop", "PyTorch loop without state"
_TRIALS = 7


@dataclass(frozen=True, kw_only=True)
class Speed:
    """``unit`` per second: the median of the trials, the slowest and the fastest."""

    name: str
    median: float
    low: float
    high: float

    def row(self, reference: float, unit: str) -> str:
        return (
            f"{self.name:28} {self.median:9.0f} {unit}/s ({self.low:.0f} to {self.high:.0f})"
            f"  {self.median / reference:6.2f}x"
        )


def generation_speeds(
    module: LanguageModel, engines: Mapping[str, Engine], *, new_tokens: int = 64, trials: int = _TRIALS
) -> list[Speed]:
    """Words per second of one text that grows word by word, each the most likely one."""
    runs: dict[str, Callable[[], object]] = {
        LOOP: lambda: loop(module, [BEGIN_ID], new_tokens),
        LOOP_WITHOUT_STATE: lambda: loop_without_state(module, [BEGIN_ID], new_tokens),
    }
    for name, engine in engines.items():
        runs[name] = _generation(engine, new_tokens)
    return _measure(runs, count=new_tokens, trials=trials)


def classification_speeds(
    module: Classifier, engines: Mapping[str, Engine], texts: Sequence[str], *, trials: int = _TRIALS
) -> list[Speed]:
    """Texts per second, one at a time, from prepared text to label."""
    encode = next(iter(engines.values())).tokenize

    def by_torch() -> None:
        with torch.inference_mode():
            for text in texts:
                module(torch.tensor([encode(text)])).argmax(dim=1).item()

    runs: dict[str, Callable[[], object]] = {LOOP: by_torch}
    for name, engine in engines.items():
        runs[name] = _classification(engine, texts)
    return _measure(runs, count=len(texts), trials=trials)


def speed_table(speeds: Sequence[Speed], unit: str) -> str:
    """One line for each, with how many times as fast as the first it is."""
    return "\n".join(speed.row(speeds[0].median, unit) for speed in speeds)


def loop(module: LanguageModel, prompt: Sequence[int], new_tokens: int) -> list[int]:
    """Greedy decoding with the state carried along, as plainly as PyTorch allows."""
    capacity = len(prompt) + new_tokens
    sizes: dict[int | str, int] = {"B": 1, "capacity": capacity}
    state = [
        torch.zeros([dim if isinstance(dim, int) else sizes[dim] for dim in dims])
        for _, _, dims, _ in module.state_spec()
    ]
    past, ids, tokens = torch.zeros(1, dtype=torch.int64), torch.tensor([prompt]), []
    with torch.inference_mode():
        for _ in range(new_tokens):
            logits, state = module(ids, past, state)
            past, ids = past + ids.shape[1], logits[:, -1:].argmax(dim=2)
            tokens.append(int(ids))
    return tokens


def loop_without_state(module: LanguageModel, prompt: Sequence[int], new_tokens: int) -> list[int]:
    """The same tokens by running the whole text again for each of them."""
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        for _ in range(new_tokens):
            ids = torch.cat([ids, module.score(ids)[:, -1:].argmax(dim=2)], dim=1)
    return ids[0, len(prompt) :].tolist()


def _generation(engine: Engine, new_tokens: int) -> Callable[[], object]:
    return lambda: engine.generate_ids([[BEGIN_ID]], max_new_tokens=new_tokens, ignore_eos=True)


def _classification(engine: Engine, texts: Sequence[str]) -> Callable[[], object]:
    return lambda: [engine.classify(text) for text in texts]


def _measure(runs: Mapping[str, Callable[[], object]], *, count: int, trials: int) -> list[Speed]:
    """Time each once per round, so that a busy moment of the machine does not hit one of them alone."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(trials):
        for name, run in runs.items():
            begun = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begun)
    return [
        Speed(
            name=name,
            median=count / statistics.median(durations),
            low=count / max(durations),
            high=count / min(durations),
        )
        for name, durations in seconds.items()
    ]
