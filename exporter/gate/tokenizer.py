"""Whether the artifact's tokenizer and chat template say what the source's do: same ids, same text, same prompt.

Of a conversation the ids are compared, too, as `jisu chat` sends them: the prompt's text alone does not tell them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError, JisuError
from jisu.exporter.gate.domain_tokens import Render
from jisu.exporter.gate.result import Check

if TYPE_CHECKING:
    from jisu.exporter.contract.artifact import ModelFacts

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "机器学习模型的推理速度很重要，但质量更重要！",
    "family 👨‍👩‍👧‍👦, flag 🇫🇷, skin 👍🏽, plain 🙂",
    "def f(x):\n\treturn {'a': [1, 2], \"b\": x ** 2}  # comment\n",
    "  leading and trailing spaces  ",
    "\n\nnew lines\r\nand\ttabs\n",
    "Ça coûte 1 234,56 € à l'été; naïve façade, e\u0301 and é",
    "مرحبا بالعالم, שלום, Привет, こんにちは, 안녕하세요",
    " ",
    "1234567890 3.14159 0x1F 1e-9",
)
MESSAGES: tuple[tuple[dict[str, str], ...], ...] = (
    ({"role": "user", "content": "What is the capital of France?"},),
    (
        {"role": "user", "content": "Hello, 你好 🙂"},
        {"role": "assistant", "content": "Hello! How can I help?"},
        {"role": "user", "content": "  Sum these:\n1, 2\n"},
    ),
)
UNIT = "texts that differ"
_ADDED = 64  # added tokens that are tried within sentences
_AT_ONCE = 1 << 14  # tokens of the vocabulary
_ENCODED = 1 << 17  # of a larger vocabulary every second, third ... token's text is encoded; all ids are decoded


def check_tokenizer(
    source_tokenizer: Any, artifact_folder: Path, texts: Sequence[str] = TEXTS, *, facts: ModelFacts | None = None
) -> list[Check]:
    """Ids of texts, text of ids, both for every token of the vocabulary too, the chat template and its ids.

    Args:
        source_tokenizer: the source's transformers tokenizer.
        artifact_folder: the folder that holds ``tokenizer.json`` and the chat template.
        texts: besides these, `broad_texts` and every special token of the source within a sentence are tried.
        facts: of the artifact, by which the ids of conversations are made; None leaves them out.
    """
    from tokenizers import Tokenizer

    from jisu.exporter.gate.tokenizer_texts import broad_texts

    ours = Tokenizer.from_file(str(artifact_folder / "tokenizer.json"))
    # A tokenizer.json may ask for truncation or padding; a runtime must not let it.
    ours.no_truncation()
    ours.no_padding()
    added = [str(token) for token in source_tokenizer.get_added_vocab()]
    named = dict.fromkeys([*source_tokenizer.all_special_tokens, *added[:_ADDED]])
    specials = [text for token in named for text in (f"before {token} after{token}", f"{token}{token}a {token}")]
    texts = [*texts, *specials, *broad_texts()]
    encoded, decoded = _vocabulary_differences(source_tokenizer, ours)
    return [
        _check_ids(source_tokenizer, ours, texts, encoded),
        _check_round_trip(source_tokenizer, ours, texts, decoded),
        _check_chat_template(source_tokenizer, artifact_folder),
        *([] if facts is None else _check_chat_ids(source_tokenizer, artifact_folder, facts)),
    ]


def _check_ids(source: Any, ours: Any, texts: Sequence[str], of_tokens: list[str]) -> Check:
    differing = []
    for text in texts:
        for special in (True, False):
            theirs = list(source.encode(text, add_special_tokens=special))
            mine = list(ours.encode(text, add_special_tokens=special).ids)
            if mine != theirs:
                at = next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), None)
                at = min(len(mine), len(theirs)) if at is None else at
                differing.append(
                    f"{text!r} differs first at token {at}: {mine[at : at + 3]} where the source has "
                    f"{theirs[at : at + 3]} ({len(mine)} tokens instead of {len(theirs)})."
                )
                break
    fine = f"Same ids as the source for {len(texts)} texts and those of all tokens."
    return _check("tokenizer", differing + of_tokens, fine)


def _check_round_trip(source: Any, ours: Any, texts: Sequence[str], of_tokens: list[str]) -> Check:
    differing = []
    for text in texts:
        ids = list(source.encode(text))
        theirs = source.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        mine = ours.decode(ids, skip_special_tokens=False)
        if mine != theirs:
            differing.append(f"{text!r} comes back as {mine!r} where the source gives {theirs!r}.")
    fine = f"Same text as the source for the ids of {len(texts)} texts and for each token."
    return _check("detokenizer", differing + of_tokens, fine)


def _vocabulary_differences(source: Any, ours: Any) -> tuple[list[str], list[str]]:
    """Tokens whose text has other ids, and tokens that are another text, by the tokenizers themselves."""
    theirs = source.backend_tokenizer
    size = max(source.get_vocab().values(), default=-1) + 1
    encodings, decodings = [], []
    for start in range(0, size, _AT_ONCE):
        ids = [[token] for token in range(start, min(start + _AT_ONCE, size))]
        texts, own = (one.decode_batch(ids, skip_special_tokens=False) for one in (theirs, ours))
        decodings += [
            f"Token {start + index} is {mine!r} where the source has {text!r}."
            for index, (mine, text) in enumerate(zip(own, texts, strict=True))
            if mine != text
        ]
        step = -(-size // _ENCODED)
        chosen = texts[::step]
        encoded, own_encoded = (one.encode_batch_fast(chosen, add_special_tokens=False) for one in (theirs, ours))
        encodings += [
            f"The text of token {start + step * index}, {text!r}, has the ids {mine.ids[:4]} where the source has "
            f"{right.ids[:4]}."
            for index, (text, mine, right) in enumerate(zip(chosen, own_encoded, encoded, strict=True))
            if mine.ids != right.ids
        ]
    return encodings, decodings


def _check_chat_template(source: Any, folder: Path) -> Check:
    name = "chat-template"
    # What users will run, on the files that they will have.
    from jisu.runtimes.chat.chat_template import open_chat_template

    template = open_chat_template(folder)
    if not getattr(source, "chat_template", None):
        differing = ["The artifact has a chat template, the source has none."] if template is not None else []
        return _check(name, differing, "The source has none.")
    if template is None:
        return _check(name, [f"The source has a chat template, {folder.name} has none."], "")
    differing = []
    for messages in MESSAGES:
        conversation = [dict(message) for message in messages]
        # Ours first: it is bounded, and what ends in it ends in the source's as well when both are equal.
        mine = template.render(conversation)
        read = template.as_read(conversation)
        theirs = source.apply_chat_template(read, tokenize=False, add_generation_prompt=True)
        if mine != theirs:
            differing.append(f"A conversation of {len(messages)} messages becomes {mine!r} instead of {theirs!r}.")
    return _check(name, differing, f"Same prompt as the source for {len(MESSAGES)} conversations.")


def chat_renderer(folder: Path) -> Render | None:
    """What turns a conversation into text with an artifact's own template, within bounds; None without one."""
    from jisu.runtimes.chat.chat_template import open_chat_template

    try:
        template = open_chat_template(folder)
    except JisuError:  # one that cannot be read, which is for the check of templates to say
        return None
    return None if template is None else lambda messages: template.render([dict(message) for message in messages])


def _check_chat_ids(source: Any, folder: Path, facts: ModelFacts) -> list[Check]:
    """The ids that a conversation becomes, and that a message's control tokens are none; none without a template."""
    # What users will run, on the files that they will have.
    from jisu.runtimes.chat.chat_encoder import open_chat_encoder
    from jisu.runtimes.generation.text import open_codec

    codec = open_codec(folder)
    if codec is None or not getattr(source, "chat_template", None):
        return []
    encoder = open_chat_encoder(folder, codec, facts)
    if encoder.template is None:
        return []
    differing = []
    for messages in MESSAGES:
        conversation = [dict(message) for message in messages]
        mine = encoder.encode(conversation)
        theirs = _source_chat_ids(source, encoder.template.as_read(conversation))
        if mine != theirs:
            at = next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), None)
            at = min(len(mine), len(theirs)) if at is None else at
            differing.append(
                f"A conversation of {len(messages)} messages differs first at token {at}: {mine[at : at + 3]} where "
                f"the source has {theirs[at : at + 3]} ({len(mine)} tokens instead of {len(theirs)})."
            )
    controls = encoder.controls.texts
    # What the tokenizer writes for what it has no token for may come of any text.
    numbers = {codec.tokenizer.token_to_id(text) for text in controls} - {None, getattr(source, "unk_token_id", None)}
    expected = _controls_of(encoder, "a word", numbers)
    for text in controls[:_ADDED]:
        actual = _controls_of(encoder, f"a {text} word", numbers)
        if None not in (actual, expected) and actual != expected:
            differing.append(
                f"The control token {text!r} in a message becomes one: {actual} where {expected} is right."
            )
    fine = f"Same ids as the source for {len(MESSAGES)} conversations; {len(controls)} control tokens are text in them."
    return [_check("chat-ids", differing, fine)]


def _source_chat_ids(source: Any, conversation: Sequence[Mapping[str, Any]]) -> list[int]:
    ids = source.apply_chat_template(conversation, tokenize=True, add_generation_prompt=True, return_dict=False)
    return list(ids)


def _controls_of(encoder: Any, content: str, numbers: set[int]) -> list[int] | None:
    """The control tokens of a conversation, in their order; None where a message like this is refused."""
    try:
        ids = encoder.encode([{"role": "user", "content": content}])
    except InputError:
        return None
    return [number for number in ids if number in numbers]


def _check(name: str, differing: list[str], fine: str) -> Check:
    return Check(
        name=name,
        passed=not differing,
        value=len(differing),
        limit=0,
        unit=UNIT,
        detail=differing[0] if differing else fine,
    )
