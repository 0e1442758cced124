"""Answers two prompts at once, then streams a third.

python examples/batch_and_stream.py build/smollm2
"""

from __future__ import annotations

import sys

from jisu import load


def main(folder: str) -> None:
    with load(folder) as engine:
        # Prompts of a batch may have any lengths; each answer is what the prompt alone would have got.
        prompts = ["What is the capital of France?", "Translate to French: good morning"]
        for prompt, result in zip(prompts, engine.generate(prompts, max_new_tokens=32), strict=True):
            print(f"{prompt}\n  {result.text!r} ({result.finish_reason})")

        # The same seed gives the same text on every backend.
        for piece in engine.stream("Write a haiku about compilers.", temperature=0.7, seed=1, max_new_tokens=48):
            print(piece, end="", flush=True)
        print()


if __name__ == "__main__":
    main(*sys.argv[1:])
