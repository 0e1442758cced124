"""What the gate feeds: token sequences chosen so that few reference runs serve all checks.

One long sequence is the prefill, the chunks and the teacher-forced decode; three short ones of unequal lengths are the
batch and the greedy prompts. The long text is English prose of the held-out domains, see `exporter.gate.domains`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isqrt

import numpy as np

from jisu.exporter.contract.errors import InputError
from jisu.exporter.gate.domain_tokens import (
    WINDOW,
    Encoder,
    Judged,
    Render,
    TokenIds,
    domain_tokens,
    random_domain,
    random_ids,
)
from jisu.exporter.gate.domains import held_out_prose
from jisu.exporter.precision.budget import GREEDY_STEPS, LONGEST

PREFILL_LENGTHS = (1, 2, 37)  # and the whole sequence
DECODE_STEPS = 36
# Tokens of a text that ends well behind position 2048, from where on half precision leaves numbers out: positions that
# are computed with too few digits are close enough in shorter ones. (SmolLM2-135M with such positions is off by 0.0002
# nats after 300 tokens, by 0.09 after 2070 and by 0.65 here.) Where more tokens than that cost no more, the text is as
# long as the model's range.
FAR, FAR_STEPS = 2320, 8
FAR_WORK = 1 << 35  # parameters times tokens
FAR_SCORES = 1 << 26  # heads times squared tokens: what an attention that is spelled out keeps of one layer
BATCH_STEPS = 4  # cached steps after the batch's prefill

CHINESE = "春天来了，河边的柳树发出新芽。孩子们在草地上放风筝，老人坐在长椅上，谈论着去年的收成和今年的打算。"
CODE = """def moving_average(values: list[float], width: int) -> list[float]:
    total = sum(values[:width])
    averages = [total / width]
    for left, right in zip(values, values[width:]):
        total += right - left
        averages.append(total / width)
    return averages
"""
CHAT = (
    "User: My train leaves at 7:45 and the walk to the station takes 25 minutes. When should I leave?\n"
    "Assistant: At 7:20 you would arrive just as it departs, so 7:10 is safer."
)


@dataclass(frozen=True, kw_only=True)
class GatePrompts:
    """What the gate asks. All ids are int64.

    Attributes:
        sequence: [n], the long one; n is at least 4.
        prefill_lengths: prefixes of it to compare at every position, ascending, the last is n.
        decode_steps: how many of its last tokens are fed one by one through the cache.
        rows: three sequences of unequal lengths, each longer than ``batch_steps``.
        batch_steps: how many of each row's last tokens are fed one by one, as a batch.
        greedy: prompts to continue; ``greedy_steps`` tokens each.
        judged: held-out texts of several domains for the quality figures.
        further: more sequences, each by the name of its check: compared at every position.
        far: a long sequence that reaches as far as is affordable; None for a model without positions.
        rewinds: False for a model whose state cannot be taken back (a recurrent one).
        text: what the tokens were made of, for the record.
    """

    sequence: TokenIds
    prefill_lengths: tuple[int, ...]
    decode_steps: int
    rows: tuple[TokenIds, ...]
    batch_steps: int
    greedy: tuple[TokenIds, ...]
    greedy_steps: int
    judged: Judged = field(default_factory=lambda: Judged(domains=()))
    further: tuple[tuple[str, TokenIds], ...] = ()
    far: TokenIds | None = None
    rewinds: bool = True
    text: str = ""


def gate_prompts(
    tokenizer: Encoder | None,
    vocab_size: int,
    max_positions: int | None = None,
    *,
    evaluation: str | None = None,
    far: int | None = None,
    render: Render | None = None,
    judges_quality: bool = True,
    padding: int | None = None,
) -> GatePrompts:
    """Choose what the gate asks one model. Without a tokenizer the ids are random, seeded, uniform over the vocabulary.

    Args:
        vocab_size: ids stay below it.
        max_positions: tokens the model can hold; a small number shortens the sequences.
        evaluation: held-out text of the user's for the quality figures; the built-in domains when None.
        far: tokens of one long text; None for none that is longer than the others.
        judges_quality: whether the quality figures are asked for at all.
        padding: an id that random ones leave out, since no text has it: decoders that count their positions over the
            other tokens contradict themselves behind it, cached steps their own forward over the whole text.
        render: the model's chat template, see `exporter.gate.domain_tokens.domain_tokens`.

    Raises:
        InputError: fewer than 8 positions, a tokenizer whose ids the model has no embedding for, or an evaluation text
            that is shorter than one window or that nothing can read.
    """
    limit = max_positions if max_positions is not None else LONGEST + GREEDY_STEPS
    if limit < 8:
        raise InputError(
            "The model has too few positions to be verified",
            received=f"{limit} positions",
            allowed="at least 8",
            fix="Check max_position_embeddings in its configuration.",
        )
    n = min(LONGEST, limit)
    batch_steps = min(BATCH_STEPS, limit // 4)
    greedy_steps = min(GREEDY_STEPS, limit // 2)
    window = min(WINDOW, limit)
    if tokenizer is None:
        if evaluation is not None:
            raise InputError(
                "The evaluation text cannot be read without a tokenizer",
                received="a checkpoint without a tokenizer",
                allowed="a checkpoint with tokenizer.json",
                fix="Leave --evaluation out, or add the tokenizer's files to the checkpoint.",
            )
        text = "random token ids, seed 0"
        generator = np.random.default_rng(0)
        stream, *others = [
            random_ids(generator, vocab_size, size, padding=padding) for size in (max(n, window), 23, 41, 32)
        ]
        judged = Judged(domains=(random_domain(vocab_size, window, seed=1, padding=padding),))
    else:
        text = "English prose; Chinese, code and chat"
        # Eight characters a token are more than any tokenizer needs for English; a longer text would only cost time.
        stream = _encode(tokenizer, held_out_prose()[: 8 * max(n, far or 0)], vocab_size)
        others = [_encode(tokenizer, string, vocab_size) for string in (CHINESE, CODE, CHAT)]
        judged = Judged(domains=())
        if judges_quality or evaluation is not None:
            judged = domain_tokens(tokenizer, vocab_size, window=window, own=evaluation, render=render)
        if evaluation is not None:
            text += "; quality on a text of the user's"
        elif len(judged.domains) > 1:
            text += f"; quality on {len(judged.domains)} domains of held-out text"
        elif judged.domains:
            text += f"; quality on {judged.domains[0].name}"
    n = min(n, len(stream))
    rows = _unequal_rows(others, limit)
    return GatePrompts(
        sequence=stream[:n],
        prefill_lengths=(*(length for length in PREFILL_LENGTHS if length < n), n),
        decode_steps=min(DECODE_STEPS, n // 2),
        rows=rows,
        batch_steps=min(batch_steps, min(len(row) for row in rows) - 1),
        greedy=tuple(row[: max(1, limit - greedy_steps)] for row in (*rows[:2], stream[: min(12, n)])),
        greedy_steps=greedy_steps,
        judged=judged,
        far=None if far is None or far <= n else np.resize(stream, far),
        text=text,
    )


def far_length(*, parameters: int, heads: int, max_positions: int | None) -> int:
    """Tokens of the longest text that a model is asked: its whole range where that is affordable."""
    affordable = min(FAR_WORK // max(1, parameters), isqrt(FAR_SCORES // max(1, heads)))
    return min(max_positions or FAR, max(FAR, affordable))


def _encode(tokenizer: Encoder, text: str, vocab_size: int) -> TokenIds:
    ids = np.asarray(tokenizer.encode(text), dtype=np.int64)
    if not len(ids) or ids.min() < 0 or ids.max() >= vocab_size:
        raise InputError(
            "The tokenizer does not belong to the model",
            received=f"token ids up to {ids.max()}" if len(ids) else "no token at all for a sentence",
            allowed=f"ids 0..{vocab_size - 1}",
            fix="Use the tokenizer the model was trained with.",
        )
    return ids


def _unequal_rows(sequences: list[TokenIds], limit: int) -> tuple[TokenIds, ...]:
    """Cut to the model's length and to three different lengths, at most 48 tokens and at least 2."""
    lengths = (29, 48, 37) if limit >= 48 else (limit // 2, limit, limit * 3 // 4)
    return tuple(sequence[:length] for sequence, length in zip(sequences, lengths, strict=True))
