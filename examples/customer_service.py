"""A customer-service assistant: it knows a shop's rules, remembers the conversation and answers as it thinks.

python examples/customer_service.py build/smollm2

Lines are read until the input ends. Everything stays on this machine. A model of 135 million parameters makes mistakes:
let it draft answers, and let somebody read them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable

from jisu import Conversation, InputError, SamplingOptions, load

RULES = """You are the customer service assistant of an online book shop. Facts:
- Orders arrive within three working days.
- Books can be returned within 30 days.
- Refunds are paid within a week.
- Shipping is free for orders over 25 euros.
Answer each question with the fact that fits, in one short sentence."""
# The likeliest answer: what a customer is told must not change from one day to the next.
OPTIONS = SamplingOptions(max_new_tokens=80)


def main(folder: str, questions: Iterable[str] = sys.stdin) -> None:
    with load(folder) as engine:
        # The conversation keeps the model's state: each turn computes only what is new in it.
        conversation = Conversation(engine, system=RULES, options=OPTIONS)
        for question in questions:
            if not question.strip():
                continue
            print(f"Customer: {question.strip()}\nAssistant: ", end="", flush=True)
            for piece in conversation.ask(question.strip()):
                print(piece, end="", flush=True)
            print("\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="what `jisu export` wrote")
    try:
        main(parser.parse_args().folder)
    except InputError as error:
        parser.exit(2, f"{error}\n")
