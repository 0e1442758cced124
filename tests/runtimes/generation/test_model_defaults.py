"""A model's own generation settings are followed as transformers follows them, unless the caller says otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.generation import carried_settings
from jisu.runtimes.engine import Engine
from jisu.runtimes.generation.model_defaults import checked_settings, complete_options
from jisu.runtimes.generation.options import SamplingOptions
from jisu.runtimes.generation.row_rules import RowRules
from jisu.runtimes.generation.sampling import distribution, edit_scores
from tests.runtimes.tiny_models import ListBackend, manifest
from tests.runtimes.tiny_text import text_artifact
from tests.support.models import llama_config, random_model

torch = pytest.importorskip("torch", reason="transformers answers beside us")

FACTS = manifest("ort-cpu").model
PROMPTS = ([5, 6, 7, 8, 9, 10, 11], [200, 17, 200, 17, 200], [9])
NEW = 12


class ModuleBackend(ListBackend):
    """A transformers model without its cache."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module
        self.vocab_size = module.config.vocab_size
        self.max_positions = 512

    def logits(self, tokens: list[int]) -> np.ndarray:
        with torch.no_grad():
            scores: np.ndarray = self.module(torch.tensor([tokens])).logits[0].numpy()
        return scores


@pytest.fixture(scope="module")
def module() -> Any:
    return random_model(llama_config(layers=1), seed=5).eval()


@pytest.fixture
def opened(module: Any, tmp_path: Path) -> Callable[[dict[str, Any]], Engine]:
    """Gives the model a ``generation_config.json``, and opens an artifact that carries it."""
    from transformers import GenerationConfig

    def opened(settings: dict[str, Any]) -> Engine:
        config = GenerationConfig.from_dict({"eos_token_id": [1], "pad_token_id": 2, **settings})
        module.generation_config = config
        eos = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        artifact = text_artifact(tmp_path / "artifact", eos=eos, vocab_size=module.config.vocab_size)
        carried = carried_settings(config, rows=module.config.vocab_size)
        (artifact.folder / "generation_config.json").write_text(json.dumps(carried))
        return Engine(artifact, ModuleBackend(module))

    return opened


def answer(module: Any, prompt: list[int], **options: Any) -> list[int]:
    mask = torch.ones(1, len(prompt), dtype=torch.long)
    ids: list[int] = module.generate(torch.tensor([prompt]), attention_mask=mask, **options)[0].tolist()
    return ids[len(prompt) :]


SETTINGS: list[dict[str, Any]] = [
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.7},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 1, "min_new_tokens": 4},
    {"encoder_no_repeat_ngram_size": 2},
    {"encoder_repetition_penalty": 1.5},
    {"suppress_tokens": [3, 380, 200, 17, 9999, -1], "begin_suppress_tokens": [7, 9]},
    {"forced_eos_token_id": 1},
    {"forced_eos_token_id": [9, 4]},
    {"forced_bos_token_id": 33, "begin_suppress_tokens": [33, 40]},
    {"min_length": 12, "eos_token_id": list(range(300))},
    {"min_new_tokens": 5, "eos_token_id": list(range(300))},
    {"exponential_decay_length_penalty": [2, 1.4], "eos_token_id": [1, 4, 11]},
    {"do_sample": False, "temperature": 0.3, "top_p": 0.2, "top_k": 0},
    {"repetition_penalty": 1.1, "no_repeat_ngram_size": 3, "suppress_tokens": [17], "min_new_tokens": 3},
    {"num_beams": 3, "length_penalty": 0.5},
    {"num_beams": 2, "early_stopping": True, "no_repeat_ngram_size": 2, "renormalize_logits": True},
    {"num_beams": 2, "repetition_penalty": 1.2, "renormalize_logits": True, "eos_token_id": list(range(1, 150))},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_answers_are_those_of_transformers(
    module: Any, opened: Callable[[dict[str, Any]], Engine], settings: dict[str, Any]
) -> None:
    engine = opened(settings)
    expected = [answer(module, prompt, max_new_tokens=NEW) for prompt in PROMPTS]
    actual = engine.generate_ids(PROMPTS, max_new_tokens=NEW)
    assert [list(result.token_ids) for result in actual] == expected


def test_words_that_the_model_would_say_are_forbidden_or_favoured(
    module: Any, opened: Callable[[dict[str, Any]], Engine]
) -> None:
    plain = [list(scores.token_ids) for scores in opened({}).generate_ids(PROMPTS, max_new_tokens=NEW)]
    first = plain[0]
    for settings in (
        {"bad_words_ids": [first[:1], first[1:3], [1]]},
        {"bad_words_ids": [first[:2], [PROMPTS[0][-1], first[0]]]},
        {"sequence_bias": [[first[2:4], -9.0], [[40], 1.5], [[PROMPTS[0][-1], 77], 30.0]]},
        {"suppress_tokens": first[:1], "begin_suppress_tokens": first[1:2]},
    ):
        engine = opened(settings)
        expected = [answer(module, prompt, max_new_tokens=NEW) for prompt in PROMPTS]
        actual = [list(scores.token_ids) for scores in engine.generate_ids(PROMPTS, max_new_tokens=NEW)]
        assert actual == expected != plain, settings
        without = engine.generate_ids(PROMPTS, max_new_tokens=NEW, model_defaults=False)
        assert [list(scores.token_ids) for scores in without] == plain, settings


DRAWING: list[dict[str, Any]] = [
    {},
    {"temperature": 0.6},
    {"temperature": 1.4, "top_k": 0, "top_p": 0.7},
    {"top_k": 12, "top_p": 0.9, "min_p": 0.05},
    {"typical_p": 0.6},
    {"top_k": 0, "typical_p": 0.3, "temperature": 2.0},
    {"epsilon_cutoff": 0.02, "top_k": 0},
    {"eta_cutoff": 0.04, "top_k": 0},
    {"top_h": 0.5, "top_k": 20},
    {"top_p": 0.8, "repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "suppress_tokens": [5, 6]},
]


@pytest.mark.parametrize("settings", DRAWING, ids=str)
def test_tokens_are_drawn_from_the_distribution_of_transformers(module: Any, settings: dict[str, Any]) -> None:
    from transformers import GenerationConfig

    config = GenerationConfig.from_dict({"do_sample": True, "eos_token_id": 1, **settings})
    own = checked_settings(carried_settings(config, rows=384), FACTS, "the model")
    options = complete_options(SamplingOptions(), own)
    module.generation_config = config
    whole, _ = module._prepare_generation_config(None)
    module._prepare_special_tokens(whole, kwargs_has_attention_mask=True, device="cpu")
    random = np.random.default_rng(3)
    for _ in range(20):
        ids = random.integers(3, 384, 9)
        logits = random.normal(scale=2.0, size=384).astype(np.float32)
        prompt = torch.tensor(ids[None])
        process = module._get_logits_processor(
            whole, input_ids_seq_length=9, encoder_input_ids=prompt, device="cpu", model_kwargs={}
        )
        expected = torch.softmax(process(prompt, torch.tensor(logits[None])), dim=-1)[0].double().numpy()
        rules = RowRules(options, prompt=9, read=ids, limit=20, ends=[1])
        counts = np.zeros(384, np.int64)
        scores = edit_scores(
            logits.astype(np.float64), options, ids=ids, seen=np.unique(ids), counts=counts, rules=rules
        )
        tokens, chances = distribution(scores, options)
        assert tokens.tolist() == np.flatnonzero(expected).tolist()
        np.testing.assert_allclose(chances, expected[tokens], rtol=1e-4, atol=1e-7)


def test_a_file_that_draws_draws_and_the_seed_says_so(opened: Callable[[dict[str, Any]], Engine]) -> None:
    engine = opened({"do_sample": True, "temperature": 5.0, "top_k": 0})
    one, other = (engine.generate_ids([[5, 6]], max_new_tokens=20)[0] for _ in range(2))
    assert one.seed is not None
    assert one.token_ids != other.token_ids
    again = engine.generate_ids([[5, 6]], max_new_tokens=20, seed=one.seed)[0]
    assert again.token_ids == one.token_ids
    for off in ({"temperature": 0}, {"do_sample": False}, {"model_defaults": False}, {"num_beams": 2}):
        assert engine.generate_ids([[5, 6]], max_new_tokens=20, **off)[0].seed is None  # type: ignore[arg-type]


# What is done


def complete(settings: dict[str, Any], **options: Any) -> SamplingOptions:
    return complete_options(SamplingOptions(**options), settings)


DRAWS = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95}


def test_the_callers_options_go_before_the_models() -> None:
    drawn = complete(DRAWS, top_p=0.5)
    assert (drawn.temperature, drawn.top_k, drawn.top_p) == (0.6, 20, 0.5)
    assert complete({"repetition_penalty": 1.3}, repetition_penalty=1.0).repetition_penalty == 1.0
    assert complete({"bad_words_ids": [[5]]}, bad_words_ids=()).bad_words_ids == ()
    assert complete(DRAWS, top_k=0).top_k is None
    plain = complete({**DRAWS, "repetition_penalty": 1.3, "num_beams": 4}, model_defaults=False)
    assert plain == SamplingOptions(model_defaults=False)


def test_a_way_of_choosing_is_one_decision() -> None:
    greedy = complete(DRAWS, temperature=0)
    assert greedy.is_greedy
    assert (greedy.top_k, greedy.top_p) == (None, None)
    assert complete(DRAWS, do_sample=False).is_greedy
    off = {**DRAWS, "do_sample": False}
    assert complete(off).is_greedy
    assert complete(off, do_sample=True).top_p == 0.95
    assert complete(off, temperature=0.9).top_k == 20
    assert complete({}, do_sample=True).temperature == 1.0
    beams = {"num_beams": 4, "length_penalty": 2.0}
    assert (complete(beams).num_beams, complete(beams).length_penalty) == (4, 2.0)
    drawn = complete(beams, temperature=0.5)
    assert not drawn.searches
    assert drawn.length_penalty is None
    assert complete(DRAWS, num_beams=3).is_greedy
    assert not complete({**DRAWS, **beams}, num_beams=1).is_greedy
    assert complete({**DRAWS, **beams}).searches
    assert not complete_options(SamplingOptions(), beams, searches=False).searches


def test_lengths_of_the_model_are_limits_that_give_way(opened: Callable[[dict[str, Any]], Engine]) -> None:
    settings = {"eos_token_id": []}
    assert len(opened({**settings, "max_new_tokens": 7}).generate_ids([[5, 6]])[0].token_ids) == 7
    engine = opened({**settings, "max_length": 9})
    assert len(engine.generate_ids([[5, 6]])[0].token_ids) == 7
    assert len(engine.generate_ids([[5, 6]], max_new_tokens=11)[0].token_ids) == 11
    with pytest.raises(InputError, match=r"no room for an answer.*max_length is 9.*Set max_new_tokens"):
        engine.generate_ids([[5] * 9])
    long = opened({**settings, "max_new_tokens": 4000})
    assert len(long.generate_ids([[5] * 505])[0].token_ids) == 7  # 512 positions
    assert complete({"max_new_tokens": 5, "max_length": 9}).default_new_tokens == 5


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"do_sample": True, "temperature": -1}, "temperature is -1"),
        ({"do_sample": True, "top_p": 1.5}, "top_p is 1.5"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0"),
        ({"bad_words_ids": [[]]}, "bad_words_ids"),
        ({"bad_words_ids": [5]}, "bad_words_ids"),
        ({"suppress_tokens": "5"}, "suppress_tokens"),
        ({"sequence_bias": {"5": 1.0}}, "sequence_bias"),
        ({"exponential_decay_length_penalty": [1]}, "exponential_decay_length_penalty"),
        ({"no_repeat_ngram_size": 1.5}, "no_repeat_ngram_size is 1.5"),
        ({"num_beams": 2, "stop_strings": ["x"]}, "Beam search cannot use stop"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_followed_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=f"generation settings of the model cannot be followed.*{words}"):
        checked_settings(settings, FACTS, "the model")
    unused = {name: value for name, value in settings.items() if name in ("temperature", "top_p")}
    assert checked_settings({**unused, "do_sample": False}, FACTS, "the model")
