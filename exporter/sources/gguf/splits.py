"""How byte-level tokenizers split text before they merge, by the names that GGUF files give to their rules.

llama.cpp's names (its ``llama-vocab.cpp``) are a closed set, and each stands for regular expressions that a model's
own tokenizer publishes: one after another splits what those before it left, matches and gaps alike. A name that is not
here is refused; no rule is taken in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Regular expressions in order; whether a piece that is a token stays whole; what stands in front of a text.

    ``adds_bos`` is what llama.cpp does where a file does not say it.
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    adds_bos: bool = False


_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_ENGLISH = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_END = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _ENGLISH + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + _END
_QWEN2 = _ENGLISH + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + _END
_QWEN35 = _ENGLISH + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + _END
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def _cased(upper: str, lower: str, after: str, rest: str) -> str:
    """Words that begin anew where a capital follows small letters, then ``rest``."""
    start = r"[^\r\n\p{L}\p{N}]?"
    return f"{start}{upper}*{lower}+{after}|{start}{upper}+{lower}*{after}|{rest}|{_END}"


_TEKKEN = _cased(_UPPER, _LOWER, "", r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*")
_GPT4O = _cased(_UPPER, _LOWER, f"{_ENGLISH}?", r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*")
_NO_HAN = (_UPPER[:-1] + r"&&[^\p{Han}]]", _LOWER[:-1] + r"&&[^\p{Han}]]")
_KIMI = r"\p{Han}+|" + _cased(*_NO_HAN, f"{_ENGLISH}?", r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*")
# Three digits each, counted from the right.
_THREES = r"\d{1,3}(?=(?:\d{3})*(?!\d))"
_PUNCTUATION = r"[\p{P}\$\+<=>\^~\|]+"
_ASCII_PUNCTUATION = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"
_DEEPSEEK3 = _ASCII_PUNCTUATION + r"[A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|" + _END
_HAN_AND_KANA = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
# Letters of alphabets that have capitals.
_CASED_LETTERS = (
    "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-"
    "\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec"
    "\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-"
    "\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3"
    "\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17"
    "\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-"
    "\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943]+"
)
_WIDE_PUNCTUATION = "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"
_CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
_CLAUSES = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
_ASIAN_SCRIPTS = (
    "[\u4e00-\u9fff\u3400-\u4dbf\u8c48-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0e7f"
    "\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+"
)
_YOUTU_SCRIPTS = (
    "[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f"
    "\ufe30-\ufe4f]+|[\u3105-\u312f]+|[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
)

_DIGITS_FIRST = Rule(patterns=(r"\p{N}", _GPT2))
_RULES: Mapping[Rule, tuple[str, ...]] = {
    Rule(patterns=(_PUNCTUATION, _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")): ("default",),
    Rule(patterns=(_GPT2,)): (
        *("gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "jina-v2-es", "jina-v2-de", "a.x-4.0", "mellum"),
        *("modern-bert", "jina-v1-en", "jina-v2-code", "roberta-bpe", "mpt", "olmo", "jais", "trillion"),
        *("granite-docling", "exaone4"),
    ),
    _DIGITS_FIRST: (*("starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"),),
    Rule(patterns=(_LLAMA3,), whole_words=True, adds_bos=True): (
        *("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"),
    ),
    Rule(patterns=(_LLAMA3,)): ("dbrx", "smaug-bpe", "chatglm-bpe"),
    Rule(patterns=(_LLAMA3,), whole_words=True): ("glm4", "glm5"),
    Rule(patterns=(_QWEN2,)): (
        *("qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "stablelm2", "megrez", "hunyuan", "solar-open", "grok-2"),
    ),
    Rule(patterns=(_QWEN35,)): ("qwen35",),
    Rule(patterns=(_QWEN2.removeprefix(f"{_ENGLISH}|"),)): ("ufakzeka",),
    Rule(patterns=(r"[^\n]+|[\n]+", _QWEN2)): ("laguna",),
    Rule(patterns=(_TEKKEN,), whole_words=True, adds_bos=True): ("tekken",),
    Rule(patterns=(_GPT4O,)): ("gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"),
    Rule(patterns=(_GPT4O,), whole_words=True): ("granite-embed-multi-97m",),
    Rule(patterns=(r"\d{1,3}(?=(?:\d{3})*\b)", _GPT4O)): ("tiny_aya", "cohere2moe"),
    Rule(patterns=(_YOUTU_SCRIPTS, _GPT4O.replace(r"\p{N}{1,3}", r"\p{N}")), whole_words=True): ("youtu",),
    Rule(patterns=(_KIMI,)): ("kimi-k2",),
    Rule(patterns=(r"\p{N}+", _THREES)): ("superbpe",),
    Rule(patterns=(r"[\r\n]", _CASED_LETTERS, _WIDE_PUNCTUATION, r"\s+$", _CJK, r"\p{N}+")): ("deepseek-llm",),
    Rule(patterns=(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, r"\p{N}")): ("deepseek-coder",),
    Rule(patterns=(r"\p{N}{1,3}", _HAN_AND_KANA, _DEEPSEEK3)): (
        *("deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"),
    ),
    Rule(
        patterns=(
            r"\p{N}{1,3}",
            _HAN_AND_KANA,
            _DEEPSEEK3.removesuffix(f"[\\r\\n]*|{_END}") + r"|[\r\n]|\s+(?!\S)|\s+",
            r"\p{N}",
        )
    ): ("spark2_5",),
    Rule(patterns=(_THREES, _ASIAN_SCRIPTS, _DEEPSEEK3)): ("afmoe",),
    Rule(patterns=(_PUNCTUATION.replace(r"\|", r"\|`"), _GPT2, "[0-9][0-9][0-9]")): ("falcon",),
    Rule(patterns=(_CLAUSES,)): ("poro-chat", "bloom", "gpt3-finnish"),
    Rule(patterns=(_CLAUSES, r"\p{N}")): ("viking",),
    Rule(
        patterns=(
            "<sentinel:[0-9]+>",
            "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
            r"([\t\n]|    |  )",
            r"\p{N}",
            r"[\p{P}!-/:-@\[-`{-~]",
            _GPT2,
        ),
        adds_bos=True,
    ): ("chameleon",),
    Rule(
        patterns=(
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*"
            r"|\s*[\r\n]|\s+(?!\S)|\s+",
        )
    ): ("bailingmoe", "bailingmoe2", "llada-moe"),
    Rule(patterns=(_ENGLISH + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|" + _END,)): ("seed-coder",),
    Rule(
        patterns=(
            _ENGLISH
            + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?"
            + r"|\s*[\r\n]|\s+(?!\S)|\s+",
        )
    ): ("exaone-moe",),
    Rule(
        patterns=(
            _LLAMA3.removesuffix(r"\s+(?!\S)|\s+")
            + "".join(rf"\s{{{count}}}(?!\S)|" for count in (512, 256, 128, 64, 32, 16, 8, 4))
            + r"\s{1,2}(?!\S)|\s{1}",
        )
    ): ("jais-2",),
    Rule(patterns=(r"\p{N}{1,3}", _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}+")), whole_words=True): ("minicpm5",),
}
RULES: Mapping[str, Rule] = {name: rule for rule, names in _RULES.items() for name in names}
# Rules of tokenizers that split no bytes, which are built in other ways.
NOT_BYTE_LEVEL = ("gemma4", "granite-embed-multi-311m", "sarvam-moe", "whitespace")
