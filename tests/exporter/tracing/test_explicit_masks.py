from __future__ import annotations

import pytest
import torch
from torch import nn

from jisu.exporter.tracing.explicit_masks import explicit_masks


class Masked(nn.Module):
    """A causal Transformer as many articles write it: a mask, and no word on its being causal."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, hidden):
        return self.encoder(hidden, mask=nn.Transformer.generate_square_subsequent_mask(hidden.shape[1]))


def exported(module):
    hidden = torch.randn(2, 5, 8)
    shapes = ({0: torch.export.Dim("B"), 1: torch.export.Dim("T")},)
    return torch.export.export(module, (hidden,), dynamic_shapes=shapes, strict=False).module()


def test_a_causal_mask_that_nobody_called_causal_is_traced():
    module = Masked().eval()
    with torch.no_grad():
        with pytest.raises(Exception, match="data-dependent"):
            exported(module)
        with explicit_masks():
            traced = exported(module)
        hidden = torch.randn(3, 7, 8)
        torch.testing.assert_close(traced(hidden), module(hidden))


def test_a_model_that_is_not_traced_goes_on_as_before():
    own = nn.modules.transformer._detect_is_causal_mask
    with pytest.raises(ValueError, match="ends"), explicit_masks():
        assert nn.modules.transformer._detect_is_causal_mask is not own
        raise ValueError("ends")
    assert nn.modules.transformer._detect_is_causal_mask is own
