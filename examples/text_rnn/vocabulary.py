"""Words -> token ids: a `tokenizers` word-level tokenizer, which an exported model carries with it.

Text is cut into words before (`preprocessing.py`) and comes with spaces between them, in Chinese too. So that a raw
text is understood as well, by whoever has nothing but the artifact, the tokenizer cuts what is left: English
punctuation and contractions by rules, Chinese into the longest words of the vocabulary. Its decoder joins Chinese
without spaces and English with spaces where they belong. Both are in tokenizer.json and need none of this code.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from examples.text_rnn.preprocessing import STRAIGHT_QUOTES, Preprocessing
from examples.text_rnn.segmentation import Language
from jisu import InputError
from jisu.networks import PAD_ID

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, UNKNOWN, BEGIN, END = SPECIALS = ("<pad>", "<unk>", "<bos>", "<eos>")
assert SPECIALS.index(PAD) == PAD_ID
UNKNOWN_ID, BEGIN_ID, END_ID = (SPECIALS.index(special) for special in (UNKNOWN, BEGIN, END))

# What a raw English word may have at its end or around it, each a token of its own as NLTK makes them.
_ENGLISH_PARTS = r"(?i:n't$|'(?:s|m|d|ll|re|ve)$)|\.\.\.|,(?!\d)|[;:!?()\[\]{}]|(?<!\.\w)\.$"  # the "." of "e.g." stays
_OPENING_QUOTE = r"(?<=^|[\s(\[{])\""
# Marks that stand without a space after, and before them. NLTK writes opening quotes as `` and closing ones as ''.
_OPENING = (("`` ?", '"'), (r"\( ?", "("), (r"\[ ?", "["), (r"\{ ?", "{"))
_CLOSING = (*".,;:!?)]}%", "...", "n't", "'s", "'m", "'d", "'ll", "'re", "'ve")


def build_tokenizer(
    texts: Iterable[Sequence[str]], preprocessing: Preprocessing, *, min_count: int = 1, max_words: int | None = None
) -> Tokenizer:
    """Count words and build the tokenizer.

    Args:
        texts: the words of each text to learn from, never of the test data.
        preprocessing: how they were made; the language says how raw text is cut and words are joined again.
        min_count: words that are rarer are `<unk>`.
        max_words: keep only this many of the most frequent words; None keeps all.

    Raises:
        InputError: there is no word.
    """
    counts = Counter(word for words in texts for word in words)
    words = [word for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if count >= min_count]
    words = [word for word in words if word not in SPECIALS][:max_words]
    if not words:
        raise InputError(
            "There is no vocabulary",
            received=f"{len(counts)} different words, none of them {min_count} times",
            allowed="at least one word that is frequent enough",
            fix="Give more text, or lower --min-count.",
        )
    return word_level_tokenizer(words, preprocessing)


def word_level_tokenizer(words: Sequence[str], preprocessing: Preprocessing) -> Tokenizer:
    """A tokenizer for these words, their ids following those of the special tokens."""
    language = preprocessing.language
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(
        models.WordLevel({word: place for place, word in enumerate([*SPECIALS, *words])}, unk_token=UNKNOWN)
    )
    tokenizer.add_special_tokens([AddedToken(special, special=True, normalized=False) for special in SPECIALS])
    tokenizer.normalizer = _normalizer(preprocessing)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), _cutter(words, language)])
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, BEGIN_ID)])
    tokenizer.decoder = _joiner(language)
    return tokenizer


def read_tokenizer(path: Path) -> Tokenizer:
    """Open a tokenizer.json; raises InputError when it cannot be read or is none of this example's."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises plain Exception
        raise InputError(
            f"The vocabulary {path} cannot be read",
            received=error,
            allowed="a tokenizer.json that `prepare` wrote",
            fix="Prepare the data again.",
        ) from error
    ids = [tokenizer.token_to_id(special) for special in SPECIALS]
    if ids != list(range(len(SPECIALS))):
        raise InputError(
            f"The vocabulary {path} is not of this example",
            received=f"ids {ids} for {', '.join(SPECIALS)}",
            allowed=f"ids {list(range(len(SPECIALS)))}",
            fix="Use the tokenizer.json that `prepare` wrote.",
        )
    return tokenizer


def _normalizer(preprocessing: Preprocessing):  # type: ignore[no-untyped-def]  # a type of compiled code
    from tokenizers import Regex, normalizers

    steps: list[normalizers.Normalizer] = [normalizers.NFC()]
    if preprocessing.lower:
        steps.append(normalizers.Lowercase())
    if preprocessing.language == "en":
        steps += [normalizers.Replace(curly, straight) for curly, straight in STRAIGHT_QUOTES.items()]
        steps += [normalizers.Replace(Regex(_OPENING_QUOTE), " `` "), normalizers.Replace('"', " '' ")]
    return normalizers.Sequence(steps)


def _cutter(words: Sequence[str], language: Language):  # type: ignore[no-untyped-def]
    from tokenizers import Regex, pre_tokenizers

    if language == "en":
        return pre_tokenizers.Split(Regex(_ENGLISH_PARTS), "isolated")
    # The longest word first; Latin letters and digits stay together.
    known = sorted((word for word in words if not word.isascii()), key=lambda word: (-len(word), word))
    return pre_tokenizers.Split(Regex("|".join([r"[0-9A-Za-z]+", *map(re.escape, known)])), "isolated")


def _joiner(language: Language):  # type: ignore[no-untyped-def]
    from tokenizers import Regex, decoders

    if language == "zh":
        return decoders.Fuse()
    # Every rule takes a space away in front of the last token or behind it, so that text that is handed out word by
    # word never has to be taken back.
    return decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=False),
            decoders.Fuse(),
            decoders.Replace(" ''", '"'),
            *(decoders.Replace(f" {mark}", mark) for mark in _CLOSING),
            *(decoders.Replace(Regex(pattern), mark) for pattern, mark in _OPENING),
        ]
    )
