"""Are an artifact's greedy tokens those of transformers' `generate`, alone and in batches of unequal lengths?

    python -m benchmarks.studies.greedy_parity build/smollm2 MODEL.gguf

At the first difference of a prompt the source's own logits decide: when its two best tokens lie closer than the
tolerance the difference is a near tie, otherwise an error. Exits with 1 when there is one.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.sources import load_source
from jisu.runtimes import Engine, load

if TYPE_CHECKING:
    from jisu.exporter.sources.source import Source
    from jisu.runtimes.generation.options import OptionChanges

# (text, whether it is rendered as a chat message)
PROMPTS = (
    ("The capital of France is", False),
    ("In the year 1969, humans first", False),
    ("Once upon a time, in a village by the sea,", False),
    ("The three laws of thermodynamics are", False),
    ("To bake a loaf of bread, you need", False),
    ("a", False),
    ("人工智能正在改变", False),
    ("北京是中国的首都，", False),
    ("从前有一座山，山里有一座庙，", False),
    ("def fibonacci(n):\n", False),
    ("import numpy as np\n\ndef softmax(x):", False),
    ("SELECT name, count(*) FROM users", False),
    ("#include <stdio.h>\nint main() {", False),
    ("for i in range(10):\n    print(", False),
    ("What is the capital of France?", True),
    ("Translate to French: good morning", True),
    ("Write a haiku about compilers.", True),
    ("用一句话解释什么是编译器。", True),
    ("Give me three tips for learning to cook. 🍳", True),
    ("Explain, step by step, how to solve 3x + 5 = 20.", True),
    ("List the planets of the solar system in order.", True),
)
BATCH = 3
# Logits closer than this are a tie that either side may break: 60 times the noise that the gate was measured at.
NEAR_TIE = 2e-3


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The first token that differs: its number, and how far the source's two tokens lie apart, in logits."""

    step: int
    gap: float

    @property
    def is_near_tie(self) -> bool:
        return self.gap <= NEAR_TIE


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("source", help="the checkpoint it was made from")
    parser.add_argument("--new-tokens", type=int, default=64)
    arguments = parser.parse_args()

    source = load_source(arguments.source)
    with load(arguments.artifact) as engine:
        prompts = [engine.prompt_ids(text, chat=chat) for text, chat in PROMPTS]
        truths = [reference(source, prompt, arguments.new_tokens) for prompt in prompts]
        alone = [answer(engine, [prompt], arguments.new_tokens)[0] for prompt in prompts]
        batched: list[list[int]] = []
        for start in range(0, len(prompts), BATCH):
            batched += answer(engine, prompts[start : start + BATCH], arguments.new_tokens)
    wrong = 0
    for way, answers in (("alone", alone), (f"in batches of {BATCH}", batched)):
        differences = [difference(source, *items) for items in zip(prompts, truths, answers, strict=True)]
        ties = [item for item in differences if item is not None and item.is_near_tie]
        errors = [item for item in differences if item is not None and not item.is_near_tie]
        tokens = sum(len(truth) for truth in truths)
        print(f"{way}: {len(prompts)} prompts, {tokens} tokens, {len(ties)} near ties, {len(errors)} wrong")
        for (text, _), item in zip(PROMPTS, differences, strict=True):
            if item is not None:
                kind = "near tie" if item.is_near_tie else "WRONG"
                print(f"  {kind}: {text!r} at token {item.step}, logits {item.gap:.2e} apart")
        wrong += len(errors)
    return 1 if wrong else 0


def answer(engine: Engine, prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
    options: OptionChanges = {"max_new_tokens": new_tokens, "do_sample": False, "num_beams": 1}
    return [list(result.token_ids) for result in engine.generate_ids(prompts, **options)]


def reference(source: Source, prompt: list[int], new_tokens: int) -> list[int]:
    """What transformers' own greedy search continues a prompt with."""
    import torch

    module: Any = source.module
    ids = torch.tensor([prompt])
    output = module.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, do_sample=False, num_beams=1
    )
    tokens: list[int] = output[0, len(prompt) :].tolist()
    return tokens


def difference(source: Source, prompt: list[int], truth: list[int], answer: list[int]) -> Difference | None:
    """Where two continuations part first, None when they are equal."""
    import torch

    step = next((i for i, (a, b) in enumerate(zip(truth, answer, strict=False)) if a != b), None)
    if step is None:
        return None if len(truth) == len(answer) else Difference(step=min(len(truth), len(answer)), gap=float("inf"))
    module: Any = source.module
    with torch.inference_mode():
        logits = module(torch.tensor([prompt + truth[:step]])).logits[0, -1]
    return Difference(step=step, gap=abs(float(logits[truth[step]] - logits[answer[step]])))


if __name__ == "__main__":
    sys.exit(main())
