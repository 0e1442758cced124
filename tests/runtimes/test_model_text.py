from __future__ import annotations

from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.generation.text import TextCodec
from jisu.runtimes.model_text import ModelText
from tests.runtimes.tiny_models import write_artifact
from tests.runtimes.tiny_text import IM_END, IM_START, byte_level_tokenizer, text_artifact

TOKENIZER = byte_level_tokenizer()
CODEC = TextCodec(TOKENIZER)


@pytest.fixture
def text(tmp_path: Path) -> ModelText:
    return ModelText(text_artifact(tmp_path / "artifact", eos=[TOKENIZER.token_to_id(IM_END)]))


def test_a_prompt_becomes_one_user_message(text: ModelText) -> None:
    rendered = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert text.prompt_ids("hi", chat=None) == CODEC.encode(rendered, special_tokens=False)
    assert text.prompt_ids("hi", chat=False) == CODEC.encode("hi", special_tokens=False)


def test_special_tokens_in_a_message_are_plain_text(text: ModelText) -> None:
    start = TOKENIZER.token_to_id(IM_START)
    assert text.message_ids([{"role": "user", "content": IM_START}]).count(start) == 2
    assert text.prompt_ids(IM_START, chat=False) == [start]


def test_ids_to_decode_are_checked(text: ModelText) -> None:
    for wrong in ([-1], [TOKENIZER.get_vocab_size()], [4, 2**40]):
        with pytest.raises(InputError, match="A token id is not in the vocabulary"):
            text.decode(wrong, special_tokens=False)
    for no_ids in ([1.5], [True], 3, "4"):
        with pytest.raises(InputError, match="not token ids"):
            text.decode(no_ids, special_tokens=False)  # type: ignore[arg-type]
    assert text.decode([], special_tokens=False) == ""


def test_what_a_model_lacks_is_named(tmp_path: Path) -> None:
    text = ModelText(write_artifact(tmp_path / "artifact", "ort-cpu"))
    for call in (lambda: text.codec, lambda: text.prompt_ids("hi", chat=None), lambda: text.ids_to_score("hi")):
        with pytest.raises(InputError, match="no tokenizer"):
            call()
    assert text.ids_to_score([1, 2]) == [1, 2]
    assert not text.has_chat_template
