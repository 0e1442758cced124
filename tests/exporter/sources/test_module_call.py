from __future__ import annotations

import pytest
import torch
from torch import nn

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.module_call import inspect_call
from tests.support.own_modules import POSITIONS, VOCAB, Attentive, Recurrent, Stateless, seeded


def test_a_language_model_shows_its_vocabulary_and_its_table_of_positions():
    call = inspect_call(seeded(Attentive).eval())
    assert (call.model_kind, call.columns, call.embedding_rows, call.position_tables) == (
        "text-generation", VOCAB, VOCAB, (POSITIONS,),
    )  # fmt: skip
    assert inspect_call(seeded(Recurrent).eval()).position_tables == ()
    assert inspect_call(seeded(Stateless).eval()).model_kind == "text-generation"


class Classifier(nn.Module):
    def __init__(self, rows=11):
        super().__init__()
        self.embedding, self.output = nn.Embedding(rows, 4), nn.Linear(4, 3)

    def forward(self, input_ids):
        return self.output(self.embedding(input_ids).mean(1))


def test_logits_of_a_whole_text_are_those_of_a_classifier():
    call = inspect_call(Classifier().eval())
    assert (call.model_kind, call.columns, call.embedding_rows) == ("text-classification", 3, 11)


def test_a_vocabulary_of_one_token_is_taken():
    assert inspect_call(seeded(Stateless, vocab=1).eval()).columns == 1


def test_a_single_number_for_a_text_is_no_choice():
    class Score(Classifier):
        def forward(self, input_ids):
            return super().forward(input_ids)[:, :1]

    with pytest.raises(InputError, match="no choice between labels"):
        inspect_call(Score().eval())


def giving(function, *, spec=None):
    class Given(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        forward = function

    if spec is not None:
        Given.state_spec = lambda self: spec
    return Given()


STATE = [("h", "recurrent", ("B", 4), "float32")]
LOGITS = torch.zeros(2, 5, 7)
WRONG_FORMS = {
    "two tensors are needed": (lambda self, input_ids, other: LOGITS, None),
    "nothing is taken": (lambda self: LOGITS, None),
    "a keyword is needed": (lambda self, input_ids, *, expected: LOGITS, None),
    "a state without its argument": (lambda self, input_ids, past_length: LOGITS, STATE),
}


@pytest.mark.parametrize("case", WRONG_FORMS)
def test_a_forward_of_an_unknown_form_is_refused_with_the_known_ones(case):
    function, spec = WRONG_FORMS[case]
    with pytest.raises(InputError, match="signature that is not supported") as caught:
        inspect_call(giving(function, spec=spec))
    assert "forward(input_ids, past_length, state)" in str(caught.value)


WRONG_OUTPUTS = {
    "integers": lambda self, ids: torch.zeros(2, 5, 7, dtype=torch.int64),
    "a number": lambda self, ids: torch.zeros(()),
    "another length": lambda self, ids: torch.zeros(2, 4, 7),
    "another batch": lambda self, ids: torch.zeros(3, 7),
    "a dictionary": lambda self, ids: {"scores": LOGITS},
}


@pytest.mark.parametrize("case", WRONG_OUTPUTS)
def test_what_is_no_logits_is_refused_with_its_shape(case):
    with pytest.raises(InputError, match="gives no logits"):
        inspect_call(giving(WRONG_OUTPUTS[case]))


WRONG_STATES = {
    "no state comes back": (lambda self, ids, past, state: LOGITS, STATE, "does not give its state back"),
    "a tensor is missing": (lambda self, ids, past, state: (LOGITS, []), STATE, "0 tensors came back instead of 1"),
    "another shape": (lambda self, ids, past, state: (LOGITS, [torch.zeros(2, 3)]), STATE, r"float32 \[2, 3\]"),
    "nothing is listed": (lambda self, ids, past, state: (LOGITS, []), [], "lists nothing"),
    "no rows": (
        lambda self, ids, past, state: (LOGITS, state),
        [("h", "recurrent", (2, 4), "float32")],
        "without one 'B'",
    ),
    "another word for rows": (
        lambda self, ids, past, state: (LOGITS, state),
        [("h", "recurrent", ("batch", 4), "float32")],
        "has a dim 'batch'",
    ),
    "a buffer without its length": (
        lambda self, ids, past, state: (LOGITS, state),
        [("k", "kv", ("B", 4), "float32")],
        "kv has one axis 'capacity'",
    ),
    "an unknown dtype": (
        lambda self, ids, past, state: (LOGITS, state),
        [("h", "recurrent", ("B", 4), "float31")],
        "float31",
    ),
    "an unknown kind": (
        lambda self, ids, past, state: (LOGITS, state),
        [("h", "hidden", ("B", 4), "float32")],
        "the kind hidden",
    ),
    "an encoder's kind": (
        lambda self, ids, past, state: (LOGITS, state),
        [("h", "encoder", ("B", "source", 4), "float32")],
        "the kind encoder",
    ),
}


def test_a_textbooks_pair_of_logits_and_state_is_told_what_to_do():
    with pytest.raises(InputError, match="Return the logits alone; what is carried"):
        inspect_call(giving(lambda self, ids, hidden=None: (LOGITS, torch.zeros(2, 3))))


@pytest.mark.parametrize("case", WRONG_STATES)
def test_a_state_that_is_not_what_it_says_is_refused(case):
    function, spec, said = WRONG_STATES[case]
    with pytest.raises((InputError), match=said):
        inspect_call(giving(function, spec=spec))


def test_the_modules_own_error_is_told():
    def fails(self, ids):
        raise ValueError("I need a GPU")

    with pytest.raises(InputError, match="ValueError: I need a GPU"):
        inspect_call(giving(fails))
