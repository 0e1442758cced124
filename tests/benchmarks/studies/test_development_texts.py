from __future__ import annotations

import zipfile

import pytest

from jisu.benchmarks.studies import development_texts as module
from jisu.benchmarks.studies.development_texts import development_domains, sentences, translations


@pytest.fixture
def wheel(tmp_path):
    with zipfile.ZipFile(tmp_path / "spacy-1.whl", "w") as file:
        file.writestr(
            "spacy/lang/xx/examples.py", '"""from spacy.lang.xx import examples"""\nsentences = ["Eins.", "Zwei."]\n'
        )
    return zipfile.ZipFile(tmp_path / "spacy-1.whl")


def test_the_sentences_of_a_language_are_lines_without_the_words_around_them(wheel):
    assert sentences(wheel, "xx") == "Eins.\nZwei."


def test_a_language_without_a_catalog_has_no_text(wheel):
    assert translations(wheel, "de") == ""


def test_a_domain_is_one_window_that_skips_the_head_where_the_text_is_long_enough(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "development_texts", lambda wheels: {"long": "a" * 100, "short": "b" * 20})

    def tokenizer(text, *, add_special_tokens):
        return {"input_ids": list(range(len(text)))}

    long, short = development_domains(tokenizer, tmp_path, tokens=32)
    assert (long.windows[0][0], len(long.windows[0])) == (40, 32)
    assert (short.windows[0][0], len(short.windows[0])) == (0, 20)
