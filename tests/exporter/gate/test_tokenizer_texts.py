from __future__ import annotations

import unicodedata

from jisu.exporter.gate.tokenizer_texts import broad_texts


def test_every_script_blank_and_control_is_among_the_texts():
    text = "".join(broad_texts())
    scripts = {unicodedata.name(character, "?").split(" ")[0] for character in text}
    assert {
        "LATIN",
        "GREEK",
        "CYRILLIC",
        "ARABIC",
        "HEBREW",
        "DEVANAGARI",
        "THAI",
        "CJK",
        "HIRAGANA",
        "HANGUL",
    } <= scripts
    assert {"ETHIOPIC", "TIBETAN", "KHMER", "CHEROKEE", "YI", "CUNEIFORM", "EGYPTIAN"} <= scripts
    assert len(scripts) > 150
    assert all(chr(number) in text for number in range(160))


def test_the_texts_are_few_enough_and_can_be_written():
    texts = broad_texts()
    assert len(texts) < 1500
    assert sum(map(len, texts)) < 50_000
    for text in texts:
        assert text.encode("utf-8")
