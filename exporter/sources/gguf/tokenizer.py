"""Builds the tokenizer that a GGUF file describes and judges it by the file's own tokens, merges and flags.

Three kinds are built: byte-level BPE (``gpt2``), whose splitting rule `gguf_splits` knows by name, SentencePiece BPE
(``llama``; with merges of its own ``gemma4``) and unigrams (``t5``). Any other kind is refused. Where a file leaves a
flag out, llama.cpp's value stands.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.account import Account
from jisu.exporter.sources.gguf.generation import END_OF_TURN, SUPPRESSED
from jisu.exporter.sources.gguf.header import GgufHeader, read_array
from jisu.exporter.sources.gguf.splits import NOT_BYTE_LEVEL, RULES

_MODELS = ("gpt2", "llama", "t5", "gemma4")
_NONE = ("none", "no_vocab")
# llama.cpp's token types.
_UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 2, 3, 4, 6
# With those that are undefined, normal and unused, which are split and joined alike.
_TYPES = frozenset(range(7))
# The ids that llama.cpp takes for a role where a file names none.
_DEFAULT_IDS: Mapping[str, Mapping[str, int]] = {
    "gpt2": {},
    "llama": {"bos": 1, "eos": 2, "unknown": 0},
    "t5": {"eos": 1, "unknown": 2, "padding": 0},
    "gemma4": {},
}
_ROLES = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
# Keys that `GgufVocabulary` reads, and those that change nothing that this package computes.
_READ = (
    *("ggml.model", "ggml.pre", "ggml.tokens", "ggml.token_type", "ggml.scores", "ggml.merges", "chat_template"),
    *(f"ggml.{role}_token_id" for role in _ROLES),
    *("ggml.add_bos_token", "ggml.add_eos_token", "ggml.add_space_prefix", "ggml.remove_extra_whitespaces"),
    *("ggml.precompiled_charsmap"),
)
_HARMLESS = {
    "huggingface.json": "the same tokenizer in another format",
    "chat_templates": "names of other templates",
    "rwkv.world": "an older spelling of the vocabulary",
    "ggml.token_type_count": "of encoders",
    "ggml.add_sep_token": "of encoders",
}
# Tokens with a meaning of their own, which may be written in a text and are found there by their spelling.
_NAMED = re.compile(r"ggml\.(eom|seperator|mask|cls|fim_\w+|prefix|suffix|middle)_token_id|chat_template\..+")
_NEAR = 0.9  # likeness of two names of which one is a damaged spelling of the other
_SPACE = "\u2581"


@dataclass(frozen=True, kw_only=True)
class GgufVocabulary:
    """What a GGUF file says of its tokenizer. ``ids`` holds a special token's id by its role; ``pre`` may be empty."""

    path: Path
    architecture: str
    model: str
    pre: str
    tokens: Sequence[str]
    types: Sequence[int]
    scores: Sequence[float]
    merges: Sequence[str] | None
    charsmap: bytes
    ids: Mapping[str, int]
    adds_bos: bool
    adds_eos: bool
    space_prefix: bool
    strips: bool


def build_gguf_tokenizer(header: GgufHeader) -> Any | None:
    """The transformers fast tokenizer of a file, compared with the file; None where the file has none.

    Raises:
        InputError: a kind or a splitting rule that is not known, tables that contradict each other, or a tokenizer that
            does not give back the file's own tokens.
    """
    vocabulary = _read(header)
    if vocabulary is None:
        return None
    from transformers import PreTrainedTokenizerFast

    build = {"gpt2": _byte_level, "t5": _unigram}.get(vocabulary.model, _sentencepiece)
    backend = build(vocabulary)
    _add_tokens(backend, vocabulary)
    template = header.fields.get("tokenizer.chat_template")
    named = {name: vocabulary.tokens[vocabulary.ids[role]] for role, name in _ROLES.items() if role in vocabulary.ids}
    fast_class: Any = PreTrainedTokenizerFast
    tokenizer = fast_class(
        tokenizer_object=backend,
        chat_template=template if isinstance(template, str) else None,
        add_bos_token=vocabulary.adds_bos,
        add_eos_token=vocabulary.adds_eos,
        clean_up_tokenization_spaces=False,
        **named,
    )
    _judge(tokenizer, vocabulary)
    return tokenizer


def state_tokenizer(account: Account, header: GgufHeader) -> Account:
    """The account with every key of the tokenizer; a key that nothing here knows is said, for it changes no weight."""
    for key in header.fields:
        name = key.removeprefix("tokenizer.")
        if name == key or key in (END_OF_TURN, SUPPRESSED):
            continue
        if name in _READ:
            said = header.fields[key] if name in ("ggml.model", "ggml.pre") else ""
            account = account.state("tokenizer", key, fate="used", why=str(said))
        elif name in _HARMLESS:
            account = account.state("tokenizer", key, fate="harmless", why=_HARMLESS[name])
        elif _NAMED.fullmatch(name):
            account = account.state("tokenizer", key, fate="harmless", why="for uses that are not exported")
        elif near := difflib.get_close_matches(name, (*_READ, *_HARMLESS), n=1, cutoff=_NEAR):
            account = account.state("tokenizer", key, fate="refused", why=f"nearly tokenizer.{near[0]}")
        else:
            account = account.state("tokenizer", key, fate="unread", why="no key of llama.cpp's tokenizers")
    return account


def _read(header: GgufHeader) -> GgufVocabulary | None:
    fields, path = header.fields, header.path
    model = fields.get("tokenizer.ggml.model")
    if model is None or model in _NONE:
        return None
    if model not in _MODELS:
        raise InputError(
            f"The tokenizer of {path} cannot be loaded: it is of a kind that is not known",
            received=repr(model),
            allowed=", ".join(_MODELS),
            fix="Use the model's original Hugging Face folder instead.",
        )
    tokens = read_array(header, "tokenizer.ggml.tokens")
    if not tokens:
        raise _contradiction(path, f"a {model} tokenizer without tokens")
    tokens = tuple(token or f"[EMPTY_{number}]" for number, token in enumerate(tokens))
    if len(set(tokens)) != len(tokens):
        twice = next(token for number, token in enumerate(tokens) if token in tokens[:number])
        raise _contradiction(path, f"the token {twice!r} twice")
    types = read_array(header, "tokenizer.ggml.token_type") or (1,) * len(tokens)
    scores = read_array(header, "tokenizer.ggml.scores") or (0.0,) * len(tokens)
    if not len(tokens) == len(types) == len(scores):
        raise _contradiction(path, f"{len(tokens)} tokens, {len(types)} types and {len(scores)} scores")
    if foreign := set(types) - _TYPES:
        raise _contradiction(path, f"tokens of type {min(foreign, key=repr)!r}")
    pre = str(fields.get("tokenizer.ggml.pre", ""))
    ids = {**_DEFAULT_IDS[model]}
    for role in _ROLES:
        stated = fields.get(f"tokenizer.ggml.{role}_token_id")
        if isinstance(stated, int) and not isinstance(stated, bool):
            ids[role] = stated
    rule = RULES.get(pre or "default")
    by_default = model in ("llama", "gemma4") or (model == "gpt2" and rule is not None and rule.adds_bos)
    return GgufVocabulary(
        path=path,
        architecture=header.architecture,
        model=str(model),
        pre=pre,
        tokens=tokens,
        types=types,
        scores=scores,
        merges=read_array(header, "tokenizer.ggml.merges"),
        charsmap=bytes(one & 0xFF for one in read_array(header, "tokenizer.ggml.precompiled_charsmap") or ()),
        # An id beyond the tokens is refused by whoever knows the model's rows.
        ids={role: number for role, number in ids.items() if 0 <= number < len(tokens)},
        adds_bos=bool(fields.get("tokenizer.ggml.add_bos_token", by_default)),
        adds_eos=bool(fields.get("tokenizer.ggml.add_eos_token", model == "t5")),
        space_prefix=bool(fields.get("tokenizer.ggml.add_space_prefix", model in ("llama", "t5"))),
        strips=bool(fields.get("tokenizer.ggml.remove_extra_whitespaces", False)),
    )


def _byte_level(vocabulary: GgufVocabulary) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    rule = RULES.get(vocabulary.pre or "default")
    if rule is None or vocabulary.space_prefix:
        known = vocabulary.pre in NOT_BYTE_LEVEL
        raise InputError(
            f"The tokenizer of {vocabulary.path} splits text by a rule that is not known",
            received="a space in front of every text"
            if rule is not None
            else f"tokenizer.ggml.pre {vocabulary.pre!r}{', which is no rule of bytes' if known else ''}",
            allowed=", ".join(RULES),
            fix="Use the model's original Hugging Face folder instead.",
        )
    if vocabulary.merges is None:
        raise _contradiction(vocabulary.path, "a gpt2 tokenizer without merges")
    ids = {token: number for number, token in enumerate(vocabulary.tokens)}
    backend = Tokenizer(models.BPE(vocab=ids, merges=_pairs(vocabulary, ids), ignore_merges=rule.whole_words))
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in rule.patterns]
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*splits, bytes_only])
    backend.decoder = decoders.ByteLevel()
    return backend


def _pairs(vocabulary: GgufVocabulary, ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """The merges, each at its first space but that at its beginning."""
    pairs = []
    for merge in vocabulary.merges or ():
        cut = merge.find(" ", 1)
        left, right = merge[:cut], merge[cut + 1 :]
        if cut < 1 or left not in ids or right not in ids or left + right not in ids:
            raise _contradiction(vocabulary.path, f"the merge {merge!r} of tokens that it does not list")
        pairs.append((left, right))
    return pairs


def _sentencepiece(vocabulary: GgufVocabulary) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers.tokenization_utils_base import generate_merges

    tokens = list(vocabulary.tokens)
    gemma = vocabulary.architecture.startswith("gemma")
    if gemma:
        # Its runs of spaces are stored as spaces.
        tokens = [_SPACE * len(token) if token and not token.strip(" ") else token for token in tokens]
    ids = {token: number for number, token in enumerate(tokens)}
    if len(ids) != len(tokens):
        raise _contradiction(vocabulary.path, "runs of spaces in two spellings")
    if vocabulary.model == "gemma4" and vocabulary.merges is None:
        raise _contradiction(vocabulary.path, "a gemma4 tokenizer without merges")
    if vocabulary.merges is not None:
        merges = _pairs(vocabulary, ids)
    else:
        # Gemma's merges are in the order of its tokens; in other files the scores tell.
        ranks = {token: -number if gemma else vocabulary.scores[number] for token, number in ids.items()}
        merges = generate_merges(ids, ranks)
    has_bytes = any(kind == _BYTE for kind in vocabulary.types)
    unknown = vocabulary.ids.get("unknown")
    backend = Tokenizer(
        models.BPE(
            vocab=ids,
            merges=merges,
            byte_fallback=has_bytes,
            fuse_unk=True,
            unk_token=None if unknown is None else tokens[unknown],
        )
    )
    # In front of every piece of text, also behind a special token, as SentencePiece does with each that it is given.
    prefix = [normalizers.Prepend(_SPACE)] if vocabulary.space_prefix else []
    backend.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", _SPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if vocabulary.space_prefix else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return backend


def _unigram(vocabulary: GgufVocabulary) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    scored = list(zip(vocabulary.tokens, map(float, vocabulary.scores), strict=True))
    has_bytes = any(kind == _BYTE for kind in vocabulary.types)
    backend = Tokenizer(models.Unigram(scored, unk_id=vocabulary.ids.get("unknown"), byte_fallback=has_bytes))
    steps: list[Any] = [normalizers.Precompiled(vocabulary.charsmap)] if vocabulary.charsmap else []
    if vocabulary.strips:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if steps:
        backend.normalizer = normalizers.Sequence(steps)
    scheme = "always" if vocabulary.space_prefix else "never"
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme=scheme)
    backend.decoder = decoders.Metaspace(replacement=_SPACE, prepend_scheme=scheme)
    return backend


def _add_tokens(backend: Any, vocabulary: GgufVocabulary) -> None:
    """Tokens that stand for themselves wherever they are written: control tokens, and those that users defined."""
    from tokenizers import AddedToken

    special = set(vocabulary.ids.values())
    control, plain = [], []
    for number, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True)):
        if vocabulary.architecture.startswith("gemma") and not token.strip(" "):
            continue  # runs of spaces are in its vocabulary, in another spelling
        if kind in (_CONTROL, _UNKNOWN) or (number in special and kind != _BYTE):
            control.append(AddedToken(token, normalized=False, special=True))
        elif kind == _USER_DEFINED:
            plain.append(AddedToken(token, normalized=False, special=False))
    backend.add_special_tokens(control)
    backend.add_tokens(plain)


def _judge(tokenizer: Any, vocabulary: GgufVocabulary) -> None:
    """Raise InputError unless the tokenizer has the file's ids and gives back each token that is text by itself."""
    path, backend = vocabulary.path, tokenizer.backend_tokenizer
    ids = tokenizer.get_vocab()
    wrong = [
        f"{token!r} is {ids.get(token)} instead of {number}"
        for number, token in enumerate(vocabulary.tokens)
        if ids.get(token) != number and token.strip(" ")
    ]
    if len(ids) > len(vocabulary.tokens):
        wrong.append(f"{len(ids)} tokens instead of {len(vocabulary.tokens)}")
    whole = [
        (number, token)
        for number, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True))
        if kind in (_CONTROL, _USER_DEFINED) and token.strip(" ")
    ]
    encoded = backend.encode_batch([token for _, token in whole], add_special_tokens=False)
    wrong += [
        f"{token!r} is encoded as {encoding.ids} instead of [{number}]"
        for (number, token), encoding in zip(whole, encoded, strict=True)
        if encoding.ids != [number]
    ]
    # Folding characters together and dropping spaces changes texts on purpose.
    if not (wrong or vocabulary.charsmap or vocabulary.strips):
        wrong = _changed(backend, [number for number, kind in enumerate(vocabulary.types) if kind == 1])
    if wrong:
        raise InputError(
            f"The tokenizer made of {path} is not the one that the file describes",
            received="; ".join(wrong[:5]),
            allowed=f"its {len(vocabulary.tokens)} tokens by their ids, each giving back its own text",
            fix="Use the model's original Hugging Face folder instead.",
        )


def _changed(backend: Any, numbers: Sequence[int]) -> list[str]:
    """Tokens whose text, encoded and decoded again, is another text; parts of characters have none of their own."""
    alone = backend.decode_batch([[number] for number in numbers], skip_special_tokens=False)
    texts = [text for text in alone if text and "\ufffd" not in text]
    encoded = [one.ids for one in backend.encode_batch(texts, add_special_tokens=False)]
    again = backend.decode_batch(encoded, skip_special_tokens=False)
    return [
        f"the text {text!r} comes back as {other!r}"
        for text, other in zip(texts, again, strict=True)
        if text.strip(" ") != other.strip(" ")
    ]


def _contradiction(path: Path, received: str) -> InputError:
    return InputError(
        f"The tokenizer of {path} cannot be loaded: its tables contradict each other",
        received=received,
        allowed="tokens that are all different, one type and one score for each, and merges of listed tokens",
        fix="Download or convert the checkpoint again.",
    )
