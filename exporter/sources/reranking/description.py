"""What a folder says of itself as a reranker, in the files of sentence-transformers' CrossEncoder; read without it.

Newer versions list modules: a decoder whose logits of one token, or of two, are the score, or a classifier alone. Both
may put the pair into a prompt by their chat template.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.embedding.description import MODULES, SETTINGS, listed_modules
from jisu.exporter.sources.embedding.text_limits import LENGTHS
from jisu.exporter.sources.jsonfile import read_json
from jisu.exporter.sources.reranking.options import RerankOptions

_SCORE = "LogitScore"
_SCORE_KEYS = {"true_token_id", "false_token_id", "module_input_name"}
_GENERATES, _CLASSIFIES = "text-generation", "sequence-classification"
_MESSAGE = "message"


@dataclass(frozen=True, kw_only=True)
class Reranking:
    """How a model scores a pair.

    Attributes:
        folder: of the model and its tokenizer.
        yes, no: ids of the tokens whose logits are the score, the first less the second; no ids where the model is a
            classifier.
        templated: whether the chat template makes the prompt of a query and a document.
        asks: whether the template is told to add what comes before an answer.
        in_parts: whether its messages are lists of parts.
        variables: what else the template is told.
        instruction: of every pair where the user gives none.
        longest: tokens of a pair at most, where the folder says so.
        options: what the user said instead of all that.
    """

    folder: Path
    yes: int | None = None
    no: int | None = None
    templated: bool = False
    asks: bool = False
    in_parts: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)
    instruction: str | None = None
    longest: int | None = None
    options: RerankOptions | None = None

    @property
    def reads_logits(self) -> bool:
        """Whether the score is read from the logits of a model that generates text."""
        return self.yes is not None or self.options is not None


def read_reranking(folder: Path) -> Reranking | None:
    """What a folder of sentence-transformers says of a reranker; None for a folder of anything else.

    Raises:
        InputError: a setting that is not understood.
    """
    if not (folder / MODULES).is_file():
        return None
    modules = listed_modules(folder)
    kinds = [kind for kind, _ in modules]
    place = modules[0][1] if modules else folder
    path = next((place / name for name in LENGTHS if (place / name).is_file()), None)
    settings = {} if path is None else read_json(path)
    use = settings.get("transformer_task")
    scores = kinds == ["Transformer", _SCORE]
    if not scores and not (kinds == ["Transformer"] and use == _CLASSIFIES):
        return None
    if scores and use != _GENERATES:
        raise _unusable(path or place, f"transformer_task {use!r}", f"{_GENERATES} before a {_SCORE}")
    yes, no = _tokens(modules[1][1]) if scores else (None, None)
    stated = read_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
    ways = settings.get("modality_config")
    if ways is not None and not (isinstance(ways, dict) and all(isinstance(way, dict) for way in ways.values())):
        raise _unusable(path or place, f"modality_config {ways!r:.60}", "an object of objects")
    variables = _template_settings(settings, path or place)
    asks = variables.pop("add_generation_prompt", False)
    variables.pop("restore_suffix", None)  # what is cut off here is the document
    longest = settings.get("max_seq_length")
    if longest is not None and (not isinstance(longest, int) or isinstance(longest, bool) or longest < 1):
        raise _unusable(path or place, f"max_seq_length {longest!r}", "a positive number of tokens")
    return Reranking(
        folder=place,
        yes=yes,
        no=no,
        templated=_MESSAGE in (ways or {}),
        asks=bool(asks),
        in_parts=(ways or {}).get(_MESSAGE, {}).get("format") == "structured",
        variables=variables,
        instruction=_instruction(stated, folder),
        longest=longest,
    )


def _tokens(place: Path) -> tuple[int, int | None]:
    path = place / "config.json"
    record = read_json(path)
    yes, no = record.get("true_token_id"), record.get("false_token_id")
    unknown = [key for key in record if key not in _SCORE_KEYS]
    ids = [one for one in (yes, no) if one is not None]
    if (
        yes is None
        or unknown
        or not all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in ids)
    ):
        received = ", ".join(unknown) or f"true_token_id {yes!r}, false_token_id {no!r}"
        raise _unusable(path, received, "the id of a true token, and that of a false one or null")
    return yes, no


def _template_settings(settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What the chat template is told besides the messages."""
    stated = settings.get("processing_kwargs") or {}
    foreign = [key for key in stated if key != "chat_template"] if isinstance(stated, dict) else [repr(stated)[:60]]
    inner = {} if foreign else stated.get("chat_template") or {}
    if foreign or not isinstance(inner, dict):
        raise _unusable(path, f"processing_kwargs {', '.join(foreign) or repr(inner)[:60]}", "chat_template alone")
    return dict(inner)


def _instruction(stated: Mapping[str, Any], folder: Path) -> str | None:
    """The prompt that goes before every pair, which a template is given as a message of the system."""
    name, prompts = stated.get("default_prompt_name"), stated.get("prompts") or {}
    if name is None:
        return None
    text = prompts.get(name) if isinstance(prompts, dict) else None
    if not isinstance(text, str):
        raise _unusable(folder / SETTINGS, f"default_prompt_name {name!r}", "the name of one of its prompts")
    return text


def _unusable(path: Path, received: str, allowed: str) -> InputError:
    return InputError(
        f"{path} asks for a reranker that is not understood",
        received=received,
        allowed=allowed,
        fix="Correct the file, or choose another model.",
    )
