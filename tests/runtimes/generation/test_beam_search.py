"""The same sequences as transformers' own beam search, for models with and without an encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.generation.beam_search import search_beams
from jisu.runtimes.generation.options import SamplingOptions
from tests.support.models import EOS, PAD, biased_text_to_text_config, llama_config, random_model, text_to_text_config

NEW = 14
SEARCHES: list[dict[str, Any]] = [
    {"num_beams": 2},
    {"num_beams": 4, "early_stopping": True},
    {"num_beams": 3, "length_penalty": 2.5, "early_stopping": True},
    {"num_beams": 3, "length_penalty": -1.0},
    {"num_beams": 3, "length_penalty": 0.4, "early_stopping": "never"},
    {"num_beams": 3, "length_penalty": 0.0, "repetition_penalty": 1.4},
]
PROMPTS = [[5, 6, 7, 8, 9, 10], [40, 41], [300, 3, 77, 12]]


def models() -> dict[str, Any]:
    return {
        "decoder": llama_config(layers=1, hidden=32, heads=2, kv_heads=1, tied=False),
        "encoder": text_to_text_config(encoder_layers=1, decoder_layers=1, forced_eos_token_id=None),
        "biased encoder": biased_text_to_text_config(num_layers=1, forced_eos_token_id=None),
    }


@pytest.fixture(scope="module", params=["decoder", "encoder", "biased encoder"])
def model(request: pytest.FixtureRequest) -> Any:
    import torch

    config = models()[request.param]
    actual = random_model(config, seed=3).eval()
    actual.generation_config.forced_eos_token_id = None
    with torch.no_grad():  # let sequences end now and then, some before others
        head = actual.get_output_embeddings().weight
        head[EOS] = 1.3 * head[17]
    return actual


def theirs(model: Any, prompts: list[list[int]], **options: Any) -> list[list[int]]:
    """What transformers finds, without what was given and without padding."""
    import torch

    width = max(len(prompt) for prompt in prompts)
    left = not model.config.is_encoder_decoder
    padding = [[PAD] * (width - len(prompt)) for prompt in prompts]
    rows = [pad + row if left else row + pad for row, pad in zip(prompts, padding, strict=True)]
    seen = [[0] * len(pad) + [1] * len(row) if left else [1] * len(row) + [0] * len(pad)
            for row, pad in zip(prompts, padding, strict=True)]  # fmt: skip
    with torch.inference_mode():
        actual = model.generate(
            torch.tensor(rows), attention_mask=torch.tensor(seen), max_new_tokens=NEW, do_sample=False, **options
        ).tolist()
    answers = [row[width if left else 1 :] for row in actual]
    return [row[: row.index(EOS) + 1] if EOS in row else row for row in answers]


def ours(model: Any, prompts: list[list[int]], **changes: Any) -> list[list[int]]:
    from jisu.exporter.contract.artifact import ModelFacts
    from jisu.exporter.tracing.trace_source import traced_interface
    from jisu.runtimes.backends.torch.backend import TorchBackend, with_encoder

    options = SamplingOptions(**changes)
    assert options.num_beams is not None
    module = traced_interface(model)
    backend = TorchBackend(module, vocab_size=model.config.vocab_size, max_positions=None)
    facts = ModelFacts(
        architecture="", vocab_size=1, max_positions=None, layers=1, parameters=1, bos=None, eos=(EOS,), pad=PAD
    )
    begun: list[list[int]] = prompts
    state: Any
    if model.config.is_encoder_decoder:
        state = with_encoder(backend, module, facts).encode(prompts, capacity=NEW + 1, copies=options.num_beams)
        begun = [[PAD] for _ in prompts]
    else:
        state = backend.new_state(len(prompts) * options.num_beams, NEW + max(map(len, prompts)))
    actual = search_beams(backend, state, begun, options=options, limits=[NEW] * len(prompts), eos=(EOS,))
    return [list(result.token_ids) for result in actual]


@pytest.mark.parametrize("options", SEARCHES, ids=str)
@pytest.mark.parametrize("rows", [1, 3])
def test_the_sequences_are_those_of_transformers(model: Any, rows: int, options: dict[str, Any]) -> None:
    assert ours(model, PROMPTS[:rows], **options) == theirs(model, PROMPTS[:rows], **options)


class Table:
    """A `Backend` whose logits depend on the last token alone: a table to check by hand."""

    name = "table"
    max_positions = None

    def __init__(self, probabilities: list[list[float]]) -> None:
        with np.errstate(divide="ignore"):
            self._logits = np.log(np.array(probabilities, np.float32))
        self.vocab_size = len(probabilities)

    def new_state(self, batch: int, capacity: int) -> Any:
        from jisu.runtimes.backends.row_lengths import RowLengths

        class State(RowLengths):
            def rewind(self, lengths: Any) -> None:
                self._lengths[:] = lengths

            def reorder(self, rows: Any) -> None:
                self._lengths[:] = self._lengths[rows]

        return State(batch=batch, capacity=capacity)

    def forward(self, token_ids: Any, state: Any, *, new_lengths: Any = None, logits: str = "last") -> Any:
        state.advance(np.ones(len(token_ids), np.int64))
        return self._logits[token_ids[:, -1]][:, None]

    def close(self) -> None:
        pass


# Token 0 ends. After 3 the likeliest is 1 (0.6), but what follows 1 is unlikely; after 2 (0.4) comes a sure end.
GARDEN = [[1, 0, 0, 0], [0.2, 0.3, 0.3, 0.2], [1, 0, 0, 0], [0, 0.6, 0.4, 0]]


def found_in(table: list[list[float]], *, limit: int, **options: Any) -> Any:
    backend: Any = Table(table)
    beams = options["num_beams"]
    return search_beams(
        backend,
        backend.new_state(beams, limit + 1),
        [[3]],
        options=SamplingOptions(**options),
        limits=[limit],
        eos=(0,),
    )[0]


def test_a_later_certainty_beats_the_likeliest_first_token() -> None:
    actual = found_in(GARDEN, limit=5, num_beams=2)
    assert actual.token_ids == (2, 0)
    assert actual.finish_reason == "eos"
    assert actual.score == pytest.approx(np.log(0.4) / 2)


def test_the_limit_ends_a_sequence() -> None:
    actual = found_in(GARDEN, limit=1, num_beams=2)
    assert (actual.token_ids, actual.finish_reason) == ((1,), "length")


def test_a_token_of_the_callers_ends_with_stop() -> None:
    actual = found_in(GARDEN, limit=3, num_beams=2, stop_ids=(2,), length_penalty=0.0)
    assert (actual.token_ids, actual.finish_reason) == ((2,), "stop")


def test_forbidden_tokens_are_in_no_beam() -> None:
    actual = found_in(GARDEN, limit=4, num_beams=2, logit_bias={2: -float("inf")}, length_penalty=0.0)
    assert 2 not in actual.token_ids


def test_logits_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(InputError, match="No token can be chosen at step 0.*nan"):
        found_in([[float("nan")] * 4] * 4, limit=2, num_beams=2)
