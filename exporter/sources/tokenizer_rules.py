"""Makes a folder's tokenizer follow the rules that its tokenizer.json states, and accounts for what other files say.

For many classes transformers 5 builds normalizer, splitting and decoder anew and takes only vocabulary and merges from
tokenizer.json, so that a model which was trained with other rules gets other ids for the same text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.account import Account
from jisu.exporter.sources.jsonfile import read_json
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.sources.reason import reason_of

_RULES = ("normalizer", "pre_tokenizer", "model", "decoder")
_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_FLAGS = ("special", "lstrip", "rstrip", "single_word", "normalized")

_TEXTS = (
    "The quick brown fox, don't!  It costs 12345.67 euros\n\n",
    "def add(a, b):\n    return a_1 + b\n\t# TODO",
    "  HELLO World's naïve café\u00a0ﬁ Ⅷ x²",
    "你好,世界 こんにちは 안녕하세요 Привет مرحبا नमस्ते 🚀👩‍💻",
)
# (key of tokenizer_config.json, place in tokenizer.json, kind of rule there, its flag)
_SETTINGS = (
    ("add_prefix_space", "pre_tokenizer", "ByteLevel", "add_prefix_space"),
    ("do_lower_case", "normalizer", "BertNormalizer", "lowercase"),
)


def follow_stated_rules(account: Account, tokenizer: Any, folder: Path) -> tuple[Account, Any]:
    """The tokenizer with the rules of tokenizer.json, and the account of the folder's tokenizer files.

    Args:
        account: to add to.
        tokenizer: a fast tokenizer, as transformers loads it.
        folder: the checkpoint.

    Raises:
        InputError: tokenizer.json cannot be read.
    """
    file = folder / "tokenizer.json"
    if file.is_file():
        whole = _read(file)
        stated = {rule: _state(getattr(whole, rule)) for rule in _RULES}
        other = _other_rules(tokenizer, stated)
        if other:
            loaded, tokenizer = tokenizer, _as_stated(folder, tokenizer)
            if still := _other_rules(tokenizer, stated):
                why = f"{type(tokenizer).__name__} of transformers replaces them"
                account = account.state(
                    "tokenizer", [f"tokenizer.json: {one}" for one in still], fate="refused", why=why
                )
            elif _ids(loaded) != _ids(tokenizer):
                made = type(loaded).__name__
                account = account.remark(
                    f"{made} of transformers would replace the {' and '.join(other)} of tokenizer.json, which gives "
                    "other ids; the file's rules are used."
                )
        refused = account.names("refused", "tokenizer")
        names = [f"tokenizer.json: {rule}" for rule in _RULES]
        account = account.state("tokenizer", [name for name in names if name not in refused], fate="used")
    # Large, hence read once.
    rules = read_json(file) if file.is_file() else {}
    return _account_for_files(account, tokenizer, folder, rules), tokenizer


def _read(file: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:
        raise InputError(
            f"{file} cannot be read",
            received=reason_of(error),
            allowed="a tokenizer that the installed tokenizers package can read",
            fix="Download or convert the checkpoint again.",
        ) from error


def _as_stated(folder: Path, tokenizer: Any) -> Any:
    """The tokenizer of the class that takes everything from tokenizer.json; as it was where it does not load."""
    from transformers import PreTrainedTokenizerFast

    try:
        with quiet_transformers():
            return PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    except Exception:  # noqa: BLE001 - then the rules differ, and are refused
        return tokenizer


def _ids(tokenizer: Any, *, texts: tuple[str, ...] = _TEXTS, special: bool = False) -> Any:
    """The ids of a few texts, on which rules differ; None where the tokenizer cannot encode them."""
    try:
        return [tokenizer.backend_tokenizer.encode(text, add_special_tokens=special).ids for text in texts]
    except Exception:  # noqa: BLE001 - tokenizers raises an Exception of no class of its own
        return None


def _other_rules(tokenizer: Any, stated: Mapping[str, Any]) -> list[str]:
    """The rules of a tokenizer that are not the stated ones, as data."""
    own = tokenizer.backend_tokenizer
    return [rule for rule in _RULES if _state(getattr(own, rule)) != stated[rule]]


def _state(rule: Any) -> Any:
    return None if rule is None else rule.__getstate__()


def _account_for_files(account: Account, tokenizer: Any, folder: Path, rules: dict[str, Any]) -> Account:
    """Compare the ids, special tokens and templates that the files name with those of the tokenizer."""
    vocabulary = tokenizer.get_vocab()
    for file, claims in _claims(folder, rules):
        wrong = [f"{token!r} as {number}" for token, number in claims.items() if vocabulary.get(token) != number]
        if wrong and file == "vocab.json" and rules:
            why = f"the tokenizer is that of tokenizer.json; {len(wrong)} ids are others"
            account = account.state("tokenizer", file, fate="unread", why=why)
        elif wrong:
            names = [f"{file}: {one}" for one in wrong[:20]]
            account = account.state("tokenizer", names, fate="refused", why="the tokenizer has others")
        else:
            account = account.state("tokenizer", file, fate="used")
    account = _account_for_settings(account, folder, rules)
    account = _account_for_flags(account, folder, rules)
    account = _account_for_roles(account, tokenizer, folder)
    account = _account_for_ends(account, tokenizer, folder)
    return _account_for_templates(account, tokenizer, folder)


def _claims(folder: Path, rules: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file, id by token) of each file that names ids."""
    for name in ("added_tokens.json", "vocab.json"):
        if (folder / name).is_file():
            yield name, {token: number for token, number in read_json(folder / name).items() if isinstance(number, int)}
    listed = _added_tokens(folder)
    if listed:
        yield "tokenizer_config.json", {token: number for number, token in listed.items()}
    added = rules.get("added_tokens") or []
    if added:
        yield "tokenizer.json", {_text(one): one.get("id") for one in added if _text(one)}


def _added_tokens(folder: Path) -> dict[int, str]:
    """Token by id, as tokenizer_config.json lists the added ones."""
    listed = _config(folder).get("added_tokens_decoder")
    if not isinstance(listed, dict):
        return {}
    return {int(number): _text(token) for number, token in listed.items() if str(number).isdecimal()}


def _account_for_settings(account: Account, folder: Path, rules: dict[str, Any]) -> Account:
    """Refuse settings of tokenizer_config.json that contradict the rules of tokenizer.json: either may be meant."""
    config = _config(folder)
    for setting, place, kind, flag in _SETTINGS:
        setting_value = config.get(setting)
        for rule in _leaves(rules.get(place)):
            if (
                rule.get("type") == kind
                and isinstance(setting_value, bool)
                and rule.get(flag, setting_value) is not setting_value
            ):
                why = f"{setting_value} is stated, and the {kind} of tokenizer.json says {rule[flag]}"
                account = account.state("tokenizer", f"tokenizer_config.json: {setting}", fate="refused", why=why)
    return account


def _leaves(rule: Any) -> Iterator[dict[str, Any]]:
    """A rule, or those that a sequence is made of."""
    if isinstance(rule, dict):
        inner = rule.get("normalizers") or rule.get("pretokenizers")
        if isinstance(inner, list):
            for one in inner:
                yield from _leaves(one)
        else:
            yield rule


def _account_for_flags(account: Account, folder: Path, rules: dict[str, Any]) -> Account:
    """Tell of added tokens that two files describe differently: whether they are special, or take spaces with them."""
    listed = _config(folder).get("added_tokens_decoder")
    if not isinstance(listed, dict):
        return account
    added = rules.get("added_tokens") or []
    other = [
        f"{_text(one)!r} {flag}"
        for one in added
        if isinstance(one, dict)
        for flag in _FLAGS
        if isinstance(token := listed.get(str(one.get("id"))), dict) and flag in token and token[flag] != one.get(flag)
    ]
    why = "tokenizer.json says otherwise; transformers takes tokenizer_config.json"
    return account.state("tokenizer", [f"tokenizer_config.json: {one}" for one in other], fate="unread", why=why)


def _account_for_roles(account: Account, tokenizer: Any, folder: Path) -> Account:
    """Tell of special tokens that tokenizer_config.json and special_tokens_map.json name differently."""
    path = folder / "special_tokens_map.json"
    mapped, config = read_json(path) if path.is_file() else {}, _config(folder)
    for role in _ROLES:
        first, second = _text(config.get(role)), _text(mapped.get(role))
        if first and second and first != second:
            used = getattr(tokenizer, role)
            why = f"{first!r} in tokenizer_config.json, {second!r} in special_tokens_map.json; used: {used!r}"
            account = account.state("tokenizer", role, fate="unread", why=why)
    return account


def _account_for_ends(account: Account, tokenizer: Any, folder: Path) -> Account:
    """Tell of first and last tokens that tokenizer_config.json asks for, and the rules of tokenizer.json do not add."""
    config, ids = _config(folder), _ids(tokenizer, texts=("a",), special=True)
    for setting, role, place in (("add_bos_token", "bos_token", 0), ("add_eos_token", "eos_token", -1)):
        token = getattr(tokenizer, f"{role}_id")
        if isinstance(config.get(setting), bool) and ids and ids[0] and token is not None:
            added = ids[0][place] == token
            if added is not config[setting]:
                why = f"{config[setting]} is stated, and the rules {'add' if added else 'do not add'} {role}"
                account = account.state("tokenizer", f"tokenizer_config.json: {setting}", fate="unread", why=why)
    return account


def _account_for_templates(account: Account, tokenizer: Any, folder: Path) -> Account:
    path, written = folder / "chat_template.jinja", _config(folder).get("chat_template")
    if (
        path.is_file()
        and isinstance(written, str)
        and path.read_text(encoding="utf-8", errors="replace").strip() != written.strip()
    ):
        why = "chat_template.jinja is another one, and goes before it"
        account = account.state("tokenizer", "tokenizer_config.json: chat_template", fate="unread", why=why)
    other = folder / "chat_template.json"
    if other.is_file() and read_json(other).get("chat_template") != getattr(tokenizer, "chat_template", None):
        why = "transformers reads it for processors of images only"
        account = account.state("tokenizer", other.name, fate="unread", why=why)
    return account


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    return read_json(path) if path.is_file() else {}


def _text(token: Any) -> str:
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else ""
