"""Text -> words, in Chinese and in English. Both work from what their packages carry; nothing is downloaded."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, Literal, get_args

from jisu import InputError, MissingDependencyError

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
NEEDED_FOR = "The text example"


def words_of(text: str, language: Language) -> list[str]:
    """The words and punctuation marks of a text, in order.

    Chinese is cut by jieba: of all ways to cut a sentence into words of its dictionary the most probable one, by
    dynamic programming over word frequencies, and a hidden Markov model for words that it does not know. English is
    cut by NLTK after the rules of the Penn Treebank ("don't" is "do" and "n't"), sentence by sentence.
    """
    return _chinese_words(text) if language == "zh" else _english_words(text)


def stop_words(language: Language) -> frozenset[str]:
    """Words too common to tell texts apart, from the package stopwordsiso."""
    try:
        from stopwordsiso import stopwords
    except ImportError as error:
        raise MissingDependencyError("stopwordsiso", extra="text", needed_for=NEEDED_FOR) from error
    return frozenset(stopwords(language))


def check_language(language: str) -> Language:
    """Raise InputError for a language that this example cannot cut into words."""
    if language not in LANGUAGES:
        raise InputError(
            "Texts of this language cannot be cut into words",
            received=language,
            allowed=", ".join(LANGUAGES),
            fix="Name the language of the texts.",
        )
    return language


def _chinese_words(text: str) -> list[str]:
    return [word for word in _jieba().lcut(text) if word.strip()]


def _english_words(text: str) -> list[str]:
    # The tokenizer takes a full stop off the end of its input only. That of "e.g." ends no sentence.
    sentences = re.split(r"(?<=[.!?])(?<!\.\w\.)\s+", text)
    return [word for sentence in sentences for word in _treebank()(sentence)]


@functools.cache
def _jieba() -> Any:
    try:
        import jieba
    except ImportError as error:
        raise MissingDependencyError("jieba", extra="text", needed_for=NEEDED_FOR) from error
    cutter = jieba.Tokenizer()
    # Its own start reads a cache of the dictionary from the folder for temporary files, where anybody may have put it,
    # and with a format that can crash Python. Reading the dictionary itself takes less than a second.
    cutter.FREQ, cutter.total = cutter.gen_pfdict(cutter.get_dict_file())
    cutter.initialized = True
    return cutter


@functools.cache
def _treebank() -> Callable[[str], list[str]]:
    try:
        from nltk.tokenize import NLTKWordTokenizer
    except ImportError as error:
        raise MissingDependencyError("nltk", extra="text", needed_for=NEEDED_FOR) from error
    tokenize: Callable[[str], list[str]] = NLTKWordTokenizer().tokenize
    return tokenize
