"""Contestants that run no model: a worker program whose answers a test writes down."""

from __future__ import annotations

import sys
import textwrap
from typing import Any

from jisu.benchmarks.compare.contestants import Contestant

_PROGRAM = """
import json, os, signal, sys, time
from jisu.benchmarks.peers.worker import Generation, Hearing, Opened, UnsupportedError, serve
requests = []
def generate(prompts, new_tokens):
    requests.append(prompts)
    tokens = [[1] * new_tokens for _ in prompts]
    {body}
    return Generation(step_seconds=[0.5] + [0.01 * {factor}] * (new_tokens - 1), tokens=tokens)
def read(rows, calls):
    seconds = [0.01 * {factor}] * calls
    {labels}
    return seconds
def write_logits(tokens, file, source):
    import numpy as np
    logits = np.zeros((len(tokens), 8), np.float32)
    {logits}
    np.save(file, logits)
def write_numbers(texts, types, file):
    import numpy as np
    numbers = np.zeros((len(texts), 3), np.float32)
    {numbers}
    np.save(file, numbers)
def describe(prompt, images, new_tokens):
    made = generate([prompt], new_tokens)
    return Generation(step_seconds=made.step_seconds, tokens=made.tokens, encode_seconds=0.1)
def hear(files):
    seconds = [0.5 * {factor}] * len(files)
    {hears}
    return Hearing(step_seconds=seconds, sound_seconds=[2.0] * len(files))
def transcript(file):
    said = dict(text="one two three", tokens=[2, 3, 4], prompt=[1], whole=True)
    {says}
    return said
def open_engine():
    {opening}
    return Opened(
        version="fake 1", settings="none", generate=generate, read=read, write_logits=write_logits,
        write_numbers=write_numbers, describe=describe, hear=hear, transcript=transcript
    )
serve(open_engine)
"""


def fake_contestant(
    name: str,
    *,
    body: str = "pass",
    opening: str = "pass",
    logits: str = "logits[:, 1] = 4",
    labels: str = "pass",
    numbers: str = "pass",
    hears: str = "pass",
    says: str = "pass",
    factor: float = 1.0,
    **facts: Any,
) -> Contestant:
    """A contestant whose tokens take ``factor`` times 10 ms; the other strings are Python lines."""
    lines = {
        "body": body,
        "opening": opening,
        "logits": logits,
        "labels": labels,
        "numbers": numbers,
        "hears": hears,
        "says": says,
    }
    program = textwrap.dedent(_PROGRAM).format(**lines, factor=factor)
    facts = {"engine": "jisu", "size_bytes": 5_000_000, "export_seconds": None, **facts}
    return Contestant(name=name, command=(sys.executable, "-c", program), facts=facts)
