"""A tutor: a question in, worked steps out.

python examples/tutor.py build/smollm2 "What is 15% of 80?"

One worked example shows the model the form of an answer. It is a small model: follow the steps, and check the sum.
"""

from __future__ import annotations

import argparse

from jisu import InputError, load

SYSTEM = "You are a patient tutor. You solve each question step by step and end with the answer."
EXAMPLE = (
    {"role": "user", "content": "A pen costs 2 euros. How much are 7 pens?"},
    {
        "role": "assistant",
        "content": "Step 1: One pen costs 2 euros.\nStep 2: 7 pens cost 7 * 2 = 14 euros.\nAnswer: 14 euros.",
    },
)


def main(folder: str, question: str) -> None:
    with load(folder) as engine:
        messages = [{"role": "system", "content": SYSTEM}, *EXAMPLE, {"role": "user", "content": question}]
        for piece in engine.stream_chat(messages, max_new_tokens=160, repetition_penalty=1.05):
            print(piece, end="", flush=True)
        print()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="what `jisu export` wrote")
    parser.add_argument("question", help="what to solve")
    try:
        main(**vars(parser.parse_args()))
    except InputError as error:
        parser.exit(2, f"{error}\n")
