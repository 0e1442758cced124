"""Lower case before tokens, where a folder of sentence-transformers asks for it and its tokenizer does not do it."""

from __future__ import annotations

from typing import Any


def lower_texts(tokenizer: Any) -> None:
    """Let a fast tokenizer put every text into lower case first, in place."""
    from tokenizers import normalizers

    backend = tokenizer.backend_tokenizer
    before = [] if backend.normalizer is None else [backend.normalizer]
    backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *before])
