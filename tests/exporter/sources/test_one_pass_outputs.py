"""The tensors that are read off what a forward returned."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.one_pass_outputs import output_names, output_tensors

TEXT, TOKENS = torch.zeros(2, 3), torch.zeros(2, 5, 3)


def test_a_module_may_return_the_logits_themselves():
    assert output_tensors("text-classification", TEXT, model="M")[0] is TEXT
    assert output_tensors("token-classification", SimpleNamespace(logits=TOKENS), model="M")[0] is TOKENS


def test_where_answers_begin_and_end_are_two_columns():
    output = SimpleNamespace(start_logits=torch.zeros(2, 5), end_logits=torch.ones(2, 5))
    assert output_tensors("question-answering", output, model="M")[0].tolist()[0][0] == [0.0, 1.0]


def test_the_answer_of_an_embedding_model_comes_last():
    assert output_names("feature-extraction") == ("last_hidden_state", "sentence_embedding")


@pytest.mark.parametrize(
    ("kind", "output", "words"),
    [
        ("text-classification", TOKENS, "logits of 3 dims"),
        ("token-classification", TEXT, "logits of 2 dims"),
        ("feature-extraction", SimpleNamespace(last_hidden_state=TOKENS), "Received: SimpleNamespace"),
    ],
)
def test_anything_else_is_an_error_of_the_model(kind, output, words):
    with pytest.raises(InputError, match=f"M does not give what a model for {kind} gives.*{words}"):
        output_tensors(kind, output, model="M")
