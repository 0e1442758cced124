"""English to learn from without a download: the reference prose that every CPython carries in `pydoc_data.topics`."""

from __future__ import annotations

import re

# label -> topics of CPython's reference that are about it. Names differ between versions: the ones found count.
TOPICS = {
    "statements": (
        "assert", "assignment", "async", "augassign", "break", "class", "compound", "continue", "del", "for",
        "function", "global", "if", "import", "pass", "raise", "return", "simple", "try", "while", "with", "yield",
    ),
    "types": (
        "bltin-null-object", "bltin-type-objects", "dict", "numeric-types", "objects", "sequence-types", "types",
        "typesfunctions", "typesmapping", "typesmethods", "typesmodules", "typesseq", "typesseq-mutable",
    ),
    "text": ("formatstrings", "string-conversions", "string-methods", "strings"),
}  # fmt: skip
_SHORTEST, _LONGEST = 5, 40  # words of a sentence


def english_sentences() -> list[str]:
    """Every different sentence of the reference, in its order."""
    from pydoc_data.topics import topics

    return list(dict.fromkeys(sentence for name in sorted(topics) for sentence in sentences_of(topics[name])))


def english_labelled() -> list[tuple[str, str]]:
    """(sentence, label) pairs: which part of the language the sentence is about.

    A sentence that stands under two labels is left out: its label could not be learned, and a copy of it in the test
    data would be no test.
    """
    from pydoc_data.topics import topics

    labels_by_sentence: dict[str, set[str]] = {}
    for label, names in TOPICS.items():
        for name in names:
            for sentence in sentences_of(topics.get(name, "")):
                labels_by_sentence.setdefault(sentence, set()).add(label)
    return [(sentence, next(iter(labels))) for sentence, labels in labels_by_sentence.items() if len(labels) == 1]


def sentences_of(topic: str) -> list[str]:
    """The sentences of a topic's paragraphs; code, tables, headings and lists are left out."""
    sentences = []
    for paragraph in re.split(r"\n\s*\n", topic):
        if paragraph.startswith((" " * 5, "*", "+", "|")) or ">>>" in paragraph:
            continue
        text = re.sub(r"-\n\s*", "-", paragraph)  # a word that was broken at its hyphen
        text = re.sub(r"[*`\[\]_]", "", " ".join(text.split()))
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z“\"])", text):
            if _is_prose(sentence):
                sentences.append(sentence)
    return sentences


def _is_prose(sentence: str) -> bool:
    """Whether it reads like a sentence: it begins and ends like one and is made of words."""
    words = sentence.split()
    plain = sum(re.fullmatch(r"[A-Za-z“”\"'‘’(),.;:-]+", word) is not None for word in words)
    return (
        _SHORTEST <= len(words) <= _LONGEST
        and sentence[0].isupper()
        and sentence[-1] in ".!?"
        and plain >= 0.85 * len(words)
    )
