"""The score of a decoder is what its whole logits say at the last token, whatever stands behind that."""

from __future__ import annotations

import pytest
import torch

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.reranking.scorer import AnswerScorer
from tests.support.models import classifier_config, random_model

YES, NO = 70, 71
# Tied and untied projections, one with a soft cap on its logits, one that scales them.
FAMILIES = {
    "Qwen3": {"head_dim": 16},
    "Gemma": {"head_dim": 16},
    "Llama": {"tie_word_embeddings": True},
    "Gemma2": {"head_dim": 16, "final_logit_softcapping": 0.5},
    "Cohere": {"logit_scale": 0.25},
    "Phi": {},  # whose projection has a bias
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_score_is_the_logits_at_the_last_token(family):
    model = random_model(classifier_config(family, **FAMILIES[family])).eval()
    ids = torch.randint(3, 300, (3, 11), generator=torch.Generator().manual_seed(0))
    lengths = (11, 4, 1)
    mask = torch.tensor([[1] * length + [0] * (11 - length) for length in lengths])
    with torch.inference_mode():
        logits = [model(ids[row : row + 1, :length]).logits[0, -1] for row, length in enumerate(lengths)]
        scores = AnswerScorer(model, (YES, NO))(ids, mask).logits
    assert scores.shape == (3, 1)
    expected = torch.stack([one[YES] - one[NO] for one in logits])
    # float32, in which a padded batch sums in another order
    torch.testing.assert_close(scores[:, 0], expected, atol=2e-6, rtol=0)
    probabilities = torch.stack([torch.log_softmax(one[[NO, YES]], dim=0)[1].exp() for one in logits])
    torch.testing.assert_close(torch.sigmoid(scores[:, 0]), probabilities, atol=1e-6, rtol=0)


def test_one_token_alone_is_its_logit_and_left_padding_changes_nothing():
    model = random_model(classifier_config("Llama")).eval()
    ids = torch.randint(3, 300, (1, 6), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(ids).logits[0, -1, YES]
        scorer = AnswerScorer(model, (YES,))
        alone = scorer(ids, torch.ones_like(ids)).logits
        padded = scorer(torch.nn.functional.pad(ids, (3, 0)), torch.tensor([[0] * 3 + [1] * 6])).logits
    torch.testing.assert_close(alone[0, 0], expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(padded, alone, atol=2e-6, rtol=0)


def test_only_the_rows_of_the_tokens_are_kept():
    model = random_model(classifier_config("Llama")).eval()
    assert model.lm_head.weight.shape == (384, 64)
    scorer = AnswerScorer(model, (YES, NO))
    assert dict(scorer.named_parameters())["transformer.lm_head.weight"].shape == (2, 64)


def test_a_model_without_a_projection_is_refused():
    from transformers import AutoModel

    model = AutoModel.from_config(classifier_config("Llama"))
    with pytest.raises(InputError, match="no output projection whose rows could be chosen"):
        AnswerScorer(model, (YES,))
