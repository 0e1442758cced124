from __future__ import annotations

from pathlib import Path

import pytest

from jisu.runtimes.engine import Engine
from jisu.runtimes.generation.special_tokens import SpecialTokens
from tests.runtimes.tiny_text import IM_END, IM_START, ScriptedBackend, byte_level_tokenizer, says, text_artifact

TOKENIZER = byte_level_tokenizer()
END, START = TOKENIZER.token_to_id(IM_END), TOKENIZER.token_to_id(IM_START)


def ids(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False).ids


def spelled(text: str) -> list[int]:
    """Ids of a text in which no token is special."""
    return [token for character in text for token in ids(character)]


def answering(folder: Path, answer: list[int], *, eos: tuple[int, ...] = ()) -> Engine:
    script = says([*ids("say"), *answer][3:], 3, END)
    return Engine(text_artifact(folder / "artifact", eos=eos), ScriptedBackend(TOKENIZER.get_vocab_size(), script))


@pytest.mark.parametrize(
    ("answer", "stop", "text", "length"),
    [
        (ids(f"hey{IM_END}more"), IM_END, "hey", 3),
        (ids(f"hey{IM_START}user x"), f"{IM_START}user", "hey", 7),
        (ids(f"hey\n{IM_START}user x"), f"\n{IM_START}user", "hey", 8),
        (ids(f"hey{IM_END}{IM_START}you{IM_END}\n{IM_START}x"), f"{IM_END}\n{IM_START}", "heyyou", 10),
        (ids("hey") + spelled(IM_END) + ids("more"), IM_END, "hey", 2 + len(IM_END)),
        (ids(f"a{IM_START}b") + spelled("|>") + ids("c"), "|>", "ab", 5),
    ],
    ids=["a token", "token and text", "text, token and text", "two tokens", "spelled", "a part is none"],
)
def test_a_stop_string_with_a_special_token_ends_the_answer(
    tmp_path: Path, answer: list[int], stop: str, text: str, length: int
) -> None:
    engine = answering(tmp_path, answer)
    stream = engine.stream("say", chat=False, stop=[stop, "never"], max_new_tokens=30)
    assert "".join(stream) == stream.result.text == text
    assert (stream.result.finish_reason, len(stream.result.token_ids)) == ("stop", length)


def test_what_only_began_as_a_stop_string_is_shown_without_the_token(tmp_path: Path) -> None:
    engine = answering(tmp_path, ids(f"a{IM_START}useless"))
    result = engine.generate("say", chat=False, stop=f"{IM_START}user", max_new_tokens=9)
    assert (result.text, result.finish_reason) == ("auseless", "length")


def test_special_tokens_are_in_the_text_on_request(tmp_path: Path) -> None:
    engine = answering(tmp_path, ids(f"a{IM_START}b"), eos=(END,))
    assert engine.generate("say", chat=False).text == "ab"
    shown = engine.generate("say", chat=False, special_tokens=True)
    assert shown.text == f"a{IM_START}b{IM_END}" == engine.detokenize(shown.token_ids, special_tokens=True)
    assert engine.generate("say", chat=False, special_tokens=True, num_beams=2).text == shown.text
    assert (
        engine.generate("say", chat=False, special_tokens=True, stop_ids=END, ignore_eos=True).text == f"a{IM_START}b"
    )
    # What is shown is what stop strings are looked for in.
    assert engine.generate("say", chat=False, special_tokens=True, stop="_start").text == "a<|im"


def test_stop_strings_without_special_tokens_stay_as_they_are() -> None:
    special = SpecialTokens({END: IM_END}, ["x", "|>"])
    assert special.stops == ("x", "|>")
    assert special.mark(END) == ""
    assert special.shown("a\U000f0000") == "a\U000f0000"
