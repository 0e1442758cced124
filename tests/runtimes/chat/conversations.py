"""Templates that treat the messages in every way that real ones do, and tokenizers of every model of text pieces."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from tests.runtimes.tiny_text import byte_level_tokenizer, metaspace_tokenizer

START, END = "<|im_start|>", "<|im_end|>"
_LOOP = "{%% for m in messages %%}%s{%% endfor %%}{%% if add_generation_prompt %%}<|im_start|>assistant\n{%% endif %%}"
# Name -> how one message `m` is written.
PLAIN = {
    "as it is": "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n",
    "added": "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}",
    "joined": "{{ '<|im_start|>' ~ m.role ~ '\n' ~ m.content ~ '<|im_end|>\n' }}",
    "formatted": "{{ '<|im_start|>%s\n%s<|im_end|>\n' % (m.role, m.content) }}",
    "str.format": "{{ '<|im_start|>{}\n{}<|im_end|>\n'.format(m.role, m.content) }}",
    "trimmed": "<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n",
    "stripped": "<|im_start|>{{ m.role }}\n{{ m.content.strip() }}<|im_end|>\n",
    "upper": "<|im_start|>{{ m.role }}\n{{ m.content | upper }}<|im_end|>\n",
    "lower": "<|im_start|>{{ m.role }}\n{{ m.content.lower() }}<|im_end|>\n",
    "json": "<|im_start|>{{ m.role }}\n{{ m.content | tojson }}<|im_end|>\n",
    "whole message as json": "<|im_start|>{{ {'name': m.role, 'text': m.content} | tojson }}<|im_end|>\n",
    "lines": "<|im_start|>{{ m.role }}\n{% for x in m.content.split('\n') %}{{ x }}\n{% endfor %}<|im_end|>\n",
    "last of a split": "<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1].lstrip('\n') }}<|im_end|>\n",
    "replaced": "<|im_start|>{{ m.role }}\n{{ m.content | replace('<think>', '') }}<|im_end|>\n",
    "indented": "<|im_start|>{{ m.role }}\n{{ m.content | indent(2) }}<|im_end|>\n",
    "title": "<|im_start|>{{ m.role }}\n{{ m.content | title }}<|im_end|>\n",
    "twice": "<|im_start|>{{ m.role }}\n{{ m.content }} {{ m.content }}<|im_end|>\n",
    "in a block": "{% set x %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endset %}{{ x }}",
    "escaped": "<|im_start|>{{ m.role }}\n{{ m.content | replace('&', '&amp;') }}<|im_end|>\n",
    "tested": (
        "<|im_start|>{{ m.role }}\n{% if '<tool>' in m.content %}tool{% endif %}"
        "{% if m.content.startswith('a') %}a{% endif %}{{ m.content }}<|im_end|>\n"
    ),
}
TEMPLATES = {name: _LOOP % source for name, source in PLAIN.items()}


def _added(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens([AddedToken(START, special=True), AddedToken(END, special=True)])
    return tokenizer


def unigram() -> Tokenizer:
    """Pieces with scores, of which the control tokens are some, so that a text may be cut into them."""
    letters = [chr(code) for code in range(33, 127)]
    pieces = [("<unk>", 0.0), (START, -1.0), (END, -1.0), ("▁", -2.0), ("▁hello", -3.0), *((c, -9.0) for c in letters)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([AddedToken("<unk>", special=True)])
    return _added(tokenizer)


def wordpiece() -> Tokenizer:
    """Lower case without accents, unknown words, control tokens within the vocabulary."""
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    pieces = ["[UNK]", START, END, *letters, *(f"##{c}" for c in letters), "hello"]
    tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([AddedToken("[UNK]", special=True)])
    return _added(tokenizer)


def merged() -> Tokenizer:
    """Byte-level pieces with the control tokens in the vocabulary, before all others, and whole words."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [START, END, *alphabet, "hello"]
    tokenizer = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _added(tokenizer)


def prefixed() -> Tokenizer:
    """A space put before every piece between control tokens, which take the spaces behind them along."""
    tokenizer = metaspace_tokenizer()
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.add_special_tokens([AddedToken(START, special=True, rstrip=True), AddedToken(END, special=True)])
    return tokenizer


TOKENIZERS = {
    "byte level": byte_level_tokenizer,
    "whole words": merged,
    "metaspace": lambda: _added(metaspace_tokenizer()),
    "prefixed": prefixed,
    "unigram": unigram,
    "wordpiece": wordpiece,
}
