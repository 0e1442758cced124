from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.sources.gguf.layouts import processor_of

pytest.importorskip("gguf", reason="reading GGUF files needs the gguf package")


def test_gpt_neox_has_query_key_and_value_of_a_head_side_by_side():
    from transformers import GPTNeoXConfig

    processor = processor_of("gptneox", GPTNeoXConfig(hidden_size=2, num_attention_heads=2))
    rows = np.array([[10], [11], [20], [21], [30], [31]], np.float32)  # queries, keys, values of two heads
    expected = [10, 20, 30, 11, 21, 31]
    assert processor.turned(rows, "blk.0.attn_qkv.weight")[:, 0].tolist() == expected
    assert processor.turned(rows[:, 0], "blk.0.attn_qkv.bias").tolist() == expected
    assert processor.turned(rows, "blk.0.attn_output.weight") is rows
