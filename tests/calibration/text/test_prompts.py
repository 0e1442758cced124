from __future__ import annotations

from jisu.calibration.text.prompts import FORMAL, load_prompts, varied_prompts


def test_no_prompt_is_there_twice_or_empty() -> None:
    texts = [prompt.text for prompt in load_prompts()]
    assert len(set(texts)) == len(texts)
    assert all(text.strip() for text in texts)
    assert {prompt.way for prompt in load_prompts()} == {"chat", "opening"}


def test_prompts_are_of_many_languages_and_forms() -> None:
    languages = {prompt.language for prompt in load_prompts()} - set(FORMAL)
    assert len(languages) >= 24
    assert len({prompt.form for prompt in load_prompts()}) >= 24


def test_every_beginning_of_the_order_is_varied() -> None:
    first = varied_prompts()[:10]
    assert {prompt.way for prompt in first} == {"chat", "opening"}
    assert any(prompt.language == "en" for prompt in first)
    assert any(prompt.language in FORMAL for prompt in first)
    assert len({prompt.language for prompt in first}) >= 5


def test_the_order_has_all_of_them_and_is_the_seeds() -> None:
    assert sorted(prompt.text for prompt in varied_prompts()) == sorted(prompt.text for prompt in load_prompts())
    assert varied_prompts(seed=1) == varied_prompts(seed=1)
    assert varied_prompts(seed=1) != varied_prompts(seed=2)
