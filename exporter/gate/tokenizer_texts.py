"""Texts to try a tokenizer's rules on: every script of Unicode, runs of white space, numbers, code, controls."""

from __future__ import annotations

import functools
import itertools
import sys
import unicodedata
from collections.abc import Iterator

_LETTERS = 9  # of each script
_RUNS = (1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 33)
_BLANKS = (" ", "\t", "\n", "\r\n", "\r", "\u00a0", "\u3000", "\u2003", "\u200b", "\u2028", "\ufeff", "\v", "\f")
_CODE = (
    "int main(void) { return x->y[3] != NULL && !(a >= b) ? 0 : ~c; }\n",
    "SELECT * FROM t WHERE name LIKE '%o''brien%' -- note\n;",
    '<a href="https://example.org/?q=1&r=%20#top">é</a><!-- c -->',
    "fn f<'a>(s: &'a str) -> Option<&'a [u8]> { s.as_bytes().get(..=4) }",
    "\\begin{equation} \\frac{a_{1}^{2}}{b} \\end{equation} $x$ \\\\",
    'print(f"{x!r:>{width}}")\\n\\t\\x00',
    "CamelCaseHTTPServer2 snake_case_name kebab-case-name SHOUTING_CASE v1.2.3-rc4+build5",
)
_WORDS = (
    "I'm you're we've they'll he'd it's don't I'M YOU'RE WE'VE THEY'LL HE'D IT'S DON'T o'clock 'quoted' ''",
    "İstanbul ISTANBUL ıI ß ẞ ﬁ ﬀ ǆ Ǆ ǅ ς σ Σ K Å Ω ½ ² ① Ⅷ ㎏ ｆｕｌｌ　ｗｉｄｔｈ ﾊﾝｶｸ",
    "e\u0301 é a\u0308\u0323 a\u0323\u0308 q\u0307\u0323 \u0301 x\u0301\u0302\u0303\u0304 한 \u1112\u1161\u11ab",
    "👩🏽‍🚀 🏳️‍🌈 🇫🇷🇩🇪🇯 ☺ ☺️ ☺︎ #️⃣ 1️⃣ 👨‍👩‍👧‍👦👨‍👩‍👧 🫠 \U0001fae8 \U0001f9d1\u200d\U0001f4bb",
    "!!! ??? ... …… --- ——— *** ((( ))) [[[ ]]] {{{ }}} <<< >>> ,,, ;;; ::: ''' \"\"\" ``` ~~~ === ++ ___ $$$ %% ^^ &&",
    "ab\u200dcd ab\u200ccd ab\u00adcd \u202eab\u202c \u2066ab\u2069 ab\u2060cd \ufffd \ufffe \U0010ffff \ue000",
    "word" * 60,
    "a" * 300,
    "1" * 70,
    "=" * 90,
    "中" * 80,
)
_NUMBERS = (
    "0 00 000 0000 00000 1 12 123 1234 12345 123456 1234567 12345678 123456789 1234567890 12345678901234567890",
    "1,234,567.89 1.234.567,89 1 234 567 -1 +1 1e10 1E-10 0x1F 0b101 1_000 3.14.15 $5.00 5% 2024-01-31 12:34:56 1/2",
    "٠١٢٣٤٥٦٧٨٩ ۰۱۲۳ ०१२३४५ ০১২ ௦௧௨ ๐๑๒๓ ០១២ 〇一二三 ０１２３ 𝟎𝟏𝟐 ⁰¹²³ ₀₁₂ Ⅰ Ⅱ Ⅲ",
    "a1b22c333d4444e55555 1a 22b 333c v2 x86_64 H2O CO₂ 10km/h 20°C №5 5th 3rd",
)


@functools.cache
def broad_texts() -> tuple[str, ...]:
    """All of them, a few hundred, always the same."""
    return tuple(dict.fromkeys([*_WORDS, *_NUMBERS, *_CODE, *_scripts(), *_spaces(), *_controls()]))


def _scripts() -> Iterator[str]:
    """For each script by the first word of its letters' names: words of its letters, between words of Latin ones."""
    by_script: dict[str, list[str]] = {}
    for number in itertools.chain(range(0x80, 0x3400), range(0xA000, 0xAC00), range(0xF900, 0x12000, 3)):
        _collect(chr(number), by_script)
    for number in (*range(0x3400, 0x9FFF, 997), *range(0xAC00, 0xD7A4, 487), *range(0x12000, sys.maxunicode, 211)):
        _collect(chr(number), by_script)
    for letters in by_script.values():
        spread = letters[:: max(1, len(letters) // _LETTERS)][:_LETTERS]
        word, rest = "".join(spread[:4]), "".join(spread[4:])
        yield f"{word} {rest}, a{word}b {word}{word}. {rest}!"


def _collect(character: str, by_script: dict[str, list[str]]) -> None:
    name = unicodedata.name(character, "")
    if name and unicodedata.category(character)[0] in "LMNS":
        by_script.setdefault(name.split(" ")[0].split("-")[0], []).append(character)


def _spaces() -> Iterator[str]:
    for blank in _BLANKS:
        yield "".join(f"a{blank * run}" for run in _RUNS) + blank
        yield f"{blank}a{blank}{blank}"
    for first, second in itertools.product(_BLANKS[:6], repeat=2):
        yield f"x{first}{second}y{first}{first}{second} z{second}{first}"


def _controls() -> Iterator[str]:
    yield "".join(f"{chr(number)}a" for number in range(1, 32))
    yield "".join(f"a{chr(number)}" for number in range(0x7F, 0xA1))
    yield "\x00"
    yield "a\x00b"
    yield "".join(chr(number) for number in range(32, 127))
