"""A content writer: a topic in, an article out, written paragraph by paragraph from an outline.

python examples/content_writer.py build/smollm2 "the history of the bicycle"

The text stays on this machine. Facts in it are a small model's: check them.
"""

from __future__ import annotations

import argparse

from jisu import InputError, load

SYSTEM = "You are a writer. You write clear, friendly English prose without lists and headings."
PARTS = (
    "Write the opening paragraph of an article about {topic}. Say why it matters.",
    "Write the next paragraph: the most important things to know about {topic}.",
    "Write the last paragraph: what may come next for {topic}.",
)


def main(folder: str, topic: str, *, seed: int = 1, longest: int = 160) -> None:
    with load(folder) as engine:
        print(f"{topic[:1].upper()}{topic[1:]}\n")
        messages = [{"role": "system", "content": SYSTEM}]
        for part in PARTS:
            # Each paragraph is asked for with those before it in view, so that it goes on from them.
            messages.append({"role": "user", "content": part.format(topic=topic)})
            stream = engine.stream_chat(
                messages, temperature=0.6, top_p=0.9, repetition_penalty=1.1, seed=seed, max_new_tokens=longest
            )
            for piece in stream:
                print(piece, end="", flush=True)
            print("\n")
            messages.append({"role": "assistant", "content": stream.result.text})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="what `jisu export` wrote")
    parser.add_argument("topic", help="what to write about")
    try:
        main(**vars(parser.parse_args()))
    except InputError as error:
        parser.exit(2, f"{error}\n")
