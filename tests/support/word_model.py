"""A recurrent model that knows a dozen words, as a user might train it."""

from __future__ import annotations

from typing import Any

import torch

from tests.support.own_modules import Recurrent, seeded

WORDS = ("red", "green", "blue", "one", "two", "three", "is", "and", "not", "more")
SPECIAL = ("<pad>", "<unk>", "<bos>", "<eos>")


def word_tokenizer() -> Any:
    """A tokenizer of whole words, `<unk>` for every other one."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    names = (*SPECIAL, *WORDS)
    backend = Tokenizer(WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    backend.add_special_tokens(list(SPECIAL))
    return backend


def word_source() -> Any:
    """Its source, with a tokenizer of whole words."""
    from jisu.exporter.sources import load_source

    module = seeded(Recurrent, torch.nn.LSTM, vocab=len(SPECIAL) + len(WORDS))
    module.eos_token_id = SPECIAL.index("<eos>")
    return load_source(module, tokenizer=word_tokenizer())
