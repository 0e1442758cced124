from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from jisu.exporter.contract.artifact import TEXT_TO_TEXT
from jisu.exporter.quantization.own_writing import (
    FEWEST_ROWS,
    UNPROMPTED,
    WORK,
    WritingSettings,
    choose_writing,
    draw_tokens,
    write_windows,
)
from jisu.exporter.quantization.prompt_tokens import prompt_tokens
from jisu.exporter.sources import load_source
from tests.support.models import BOS, EOS, write_tiny, write_tiny_classifier
from tests.support.own_modules import seeded
from tests.support.word_model import word_source


@pytest.fixture(scope="module")
def source(tiny_source):
    return load_source(tiny_source)


def settings(rows: int, length: int = 24, seed: int = 0) -> WritingSettings:
    return WritingSettings(rows=rows, length=length, seed=seed, requested=rows)


def test_the_same_seed_writes_the_same_and_another_one_other_tokens(source):
    first = write_windows(source, settings(UNPROMPTED))
    assert first.shape == (UNPROMPTED, 24)
    np.testing.assert_array_equal(write_windows(source, settings(UNPROMPTED)), first)
    assert (write_windows(source, settings(UNPROMPTED, seed=1)) != first).any()


def test_rows_begin_with_prompts_and_one_in_four_with_nothing_but_the_first_token(source):
    ids = write_windows(source, settings(UNPROMPTED))
    for row, prompt in zip(ids[:-1], prompt_tokens(source), strict=False):
        assert row[: len(prompt)].tolist() == prompt[:24]
    assert ids[-1, 0] == BOS


def test_tokens_are_those_that_the_model_itself_gives_for_the_row(source):
    """With a temperature near zero each token is the most likely one after the row so far, without a cache."""
    from jisu.calibration.model.whole_sequences import run_whole

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jisu.exporter.quantization.own_writing.TEMPERATURES", (1e-4,))
        row = write_windows(source, settings(UNPROMPTED, length=12))[-1]
    with torch.no_grad():
        logits = run_whole(source.module, torch.from_numpy(row)[None])[0]
    expected = logits[:, : len(source.tokenizer)].argmax(-1).tolist()
    assert row[1:].tolist() == expected[:-1]


def test_a_row_that_ends_goes_on_with_the_next_prompt(source, monkeypatch):
    ending = np.full(UNPROMPTED, EOS)
    monkeypatch.setattr("jisu.exporter.quantization.own_writing.draw_tokens", lambda *_: ending)
    prompts = [[5, 6], [7, 8], [9]]
    monkeypatch.setattr("jisu.exporter.quantization.own_writing.prompt_tokens", lambda _: prompts)
    ids = write_windows(source, settings(UNPROMPTED, length=9))
    # Four rows step through the three prompts by fours.
    assert ids[0].tolist() == [5, 6, EOS, 7, 8, EOS, 9, EOS, 5]
    assert ids[-1].tolist() == [BOS, EOS] * 4 + [BOS]


def test_draws_follow_the_distribution():
    probabilities = np.array([0.1, 0.0, 0.6, 0.3])
    with np.errstate(divide="ignore"):
        logits = np.tile(np.log(probabilities).astype(np.float32), (4000, 1))
    uniform = (np.arange(4000) + 0.5) / 4000
    drawn = draw_tokens(logits, uniform, np.ones(4000))
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 4000, probabilities, atol=1e-3)
    sharper = draw_tokens(logits, uniform, np.full(4000, 0.5))
    np.testing.assert_allclose(np.bincount(sharper, minlength=4) / 4000, probabilities**2 / 0.46, atol=1e-3)


def test_logits_that_are_not_finite_still_give_a_token():
    logits = np.array([[np.nan, 1, 2], [np.inf, 1, 2]], np.float32)
    assert draw_tokens(logits, np.array([0.999, 0.5]), np.ones(2)).tolist() == [2, 0]


def test_a_large_model_writes_fewer_rows_and_says_so(source):
    assert choose_writing(source, rows=32, length=256).rows == 32
    large = replace(source, model=replace(source.model, parameters=WORK // (256 * 6)))
    written = choose_writing(large, rows=32, length=256)
    assert written.rows == 6
    assert "26 windows fewer" in written.to_record()["note"]
    huge = replace(source, model=replace(source.model, parameters=10**12))
    assert choose_writing(huge, rows=32, length=256).rows == FEWEST_ROWS


def test_a_classifier_writes_nothing(tmp_path):
    classifier = load_source(write_tiny_classifier(tmp_path / "classifier"))
    assert choose_writing(classifier, rows=32, length=16).rows == 0


def test_a_recurrent_model_writes_with_its_state():
    source = word_source()
    ids = write_windows(source, settings(3, length=40))
    assert ids.shape == (3, 40)
    assert ids.max() < source.model.vocab_size
    assert len(np.unique(ids)) > 4


class Stateless(torch.nn.Module):
    """Scores the next token by the last two."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.output = torch.nn.Embedding(20, 8), torch.nn.Linear(8, 20)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        hidden = self.embedding(input_ids)
        return self.output(hidden + torch.nn.functional.pad(hidden, (0, 0, 1, 0))[:, :-1])


def test_a_model_without_a_state_writes_as_many_rows_as_that_costs(monkeypatch):
    source = load_source(seeded(Stateless))
    assert write_windows(source, settings(3, length=10)).shape == (3, 10)
    monkeypatch.setattr("jisu.exporter.quantization.own_writing.WORK", source.model.parameters * 100)
    assert write_windows(source, settings(3, length=10)).shape == (2, 10)


def test_the_decoder_of_a_text_to_text_model_answers_prompts(tmp_path):
    from transformers import T5Config

    config = T5Config(
        vocab_size=384, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=2, eos_token_id=1
    )
    source = load_source(write_tiny(tmp_path / "t5", config))
    assert source.model_kind == TEXT_TO_TEXT
    ids = write_windows(source, settings(3, length=8))
    assert ids[:, 0].tolist() == [2, 2, 2]
    assert (ids[0] != ids[1]).any()
