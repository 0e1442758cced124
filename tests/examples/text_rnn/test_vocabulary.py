from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from examples.text_rnn.chinese_corpus import chinese_labelled, chinese_sentences
from examples.text_rnn.english_corpus import english_sentences
from examples.text_rnn.preprocessing import Preprocessing
from examples.text_rnn.vocabulary import SPECIALS, UNKNOWN_ID, build_tokenizer, read_tokenizer, word_level_tokenizer
from jisu.exporter.contract.errors import InputError

EN, ZH = Preprocessing(language="en"), Preprocessing(language="zh")


def test_special_tokens_come_first_and_words_by_their_counts():
    tokenizer = build_tokenizer([["b", "a", "b"], ["c", "b", "a"]], EN)
    assert [tokenizer.id_to_token(index) for index in range(tokenizer.get_vocab_size())] == [*SPECIALS, "b", "a", "c"]
    assert tokenizer.encode("a zebra").tokens == ["<bos>", "a", "<unk>"]


def test_rare_words_and_words_beyond_the_limit_are_unknown():
    texts = [["b", "a", "b"], ["c", "b", "a"]]
    assert "c" not in build_tokenizer(texts, EN, min_count=2).get_vocab()
    assert "a" not in build_tokenizer(texts, EN, max_words=1).get_vocab()
    with pytest.raises(InputError, match="no vocabulary"):
        build_tokenizer(texts, EN, min_count=9)


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("Don't say \"hello\" (again), it's 3.5 [x] 100%. OK?", "don't say \"hello\" (again), it's 3.5 [x] 100%. ok?"),
        ("We'll see; they've won: really...", "we'll see; they've won: really..."),
    ],
)
def test_english_comes_back_with_its_spaces(text, joined):
    tokenizer = word_level_tokenizer(EN.words(text), EN)
    ids = tokenizer.encode(EN.prepare(text)).ids
    assert UNKNOWN_ID not in ids
    assert tokenizer.decode(ids) == joined


def test_chinese_comes_back_without_spaces():
    text = "今天天气很好，我们去公园散步。"
    tokenizer = word_level_tokenizer(ZH.words(text), ZH)
    assert tokenizer.decode(tokenizer.encode(ZH.prepare(text)).ids) == text


def test_text_grows_and_is_never_taken_back():
    text = 'He said "stop (now)", didn\'t he? [yes] 5%.'
    tokenizer = word_level_tokenizer(EN.words(text), EN)
    ids, before = tokenizer.encode(EN.prepare(text)).ids, ""
    for end in range(1, len(ids) + 1):
        now = tokenizer.decode(ids[:end])
        assert now.startswith(before)
        before = now


def test_raw_text_is_understood_without_preprocessing():
    """Whoever has nothing but the artifact gives it text as it is."""
    english, chinese = 'Don\'t open the "old" file (or e.g. a list), please.', "今天天气很好，我们去公园散步。"
    for text, steps in ((english, EN), (chinese, ZH)):
        tokenizer = word_level_tokenizer(steps.words(text), steps)
        assert tokenizer.encode(text).ids == tokenizer.encode(steps.prepare(text)).ids


@pytest.mark.parametrize(
    ("texts", "steps"),
    [
        (english_sentences()[:200], EN),
        (chinese_sentences(300), ZH),
        ([text for text, _ in chinese_labelled(200)], ZH),
    ],
)
def test_words_of_the_own_corpora_stay_whole(texts, steps):
    words = [steps.words(text) for text in texts]
    tokenizer = build_tokenizer(words, steps)
    cut = sum(len(tokenizer.encode(" ".join(text)).ids) != len(text) + 1 for text in words)
    assert cut <= 0.02 * len(texts)


def test_tokenizer_of_something_else_is_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(InputError, match="cannot be read"):
        read_tokenizer(path)
    from tokenizers import models

    Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(path))
    with pytest.raises(InputError, match="not of this example"):
        read_tokenizer(path)
