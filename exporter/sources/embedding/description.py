"""What a folder of sentence-transformers says of itself, read without that package: modules, pooling, prompts, lengths.

Everything that it states is understood or refused by name; nothing in it is executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import shown
from jisu.exporter.sources.embedding.text_limits import read_limits
from jisu.exporter.sources.jsonfile import read_json, read_json_list

PoolingMode = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
POOLING_MODES: tuple[PoolingMode, ...] = get_args(PoolingMode)
StepKind = Literal["Pooling", "Dense", "Normalize", "LayerNorm", "Dropout", "WeightedLayerPooling", "StaticEmbedding"]
_TABLE: Literal["StaticEmbedding"] = "StaticEmbedding"
_LAYERS: Literal["WeightedLayerPooling"] = "WeightedLayerPooling"
STEP_KINDS: tuple[StepKind, ...] = tuple(kind for kind in get_args(StepKind) if kind not in (_LAYERS, _TABLE))

MODULES = "modules.json"
SETTINGS = "config_sentence_transformers.json"
_PACKAGE = "sentence_transformers"
# Names of the modes in older files, where each is a key of its own.
_OLD_MODES: dict[str, PoolingMode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_POOLING_KEYS = {*_OLD_MODES, "pooling_mode", "include_prompt", "word_embedding_dimension", "embedding_dimension"}
# Modules of the package that are known and not exported, and why.
_REASONS = {
    "Router": "has one model for queries and another for documents; give the folder of one of them with --pooling",
    "SpladePooling": "gives a weight for each word of the vocabulary, not a vector",
    "LogitScore": "scores pairs, behind a Transformer for text-generation alone",
}
_SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")


@dataclass(frozen=True, kw_only=True)
class EmbeddingStep:
    """What is done with the vectors after the encoder: the settings of one module, and where its weights lie."""

    kind: StepKind
    settings: Mapping[str, Any]
    folder: Path


@dataclass(frozen=True, kw_only=True)
class EmbeddingDescription:
    """An embedding model besides its encoder.

    Attributes:
        encoder: folder of the encoder and its tokenizer.
        pooling: modes, whose vectors stand behind each other.
        steps: what follows the pooling, in order.
        layers: makes one state for each token of those of several layers; None for that of the last.
        pools_prompt: whether the tokens of a prompt count in the pooling.
        longest: tokens of a text at most, where the folder says so.
        lowers: whether texts are put into lower case before they become tokens.
        prompts, default_prompt, similarity: see `exporter.contract.artifact.EmbeddingFacts`.
    """

    encoder: Path
    pooling: tuple[PoolingMode, ...]
    steps: tuple[EmbeddingStep, ...] = ()
    layers: EmbeddingStep | None = None
    pools_prompt: bool = True
    longest: int | None = None
    lowers: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: str = "cosine"

    @property
    def normalized(self) -> bool:
        """Whether the last step that changes a vector gives it length 1."""
        kinds = [step.kind for step in self.steps if step.kind != "Dropout"]
        return bool(kinds) and kinds[-1] == "Normalize"


def is_embedding_folder(folder: Path) -> bool:
    """Whether a folder is laid out as sentence-transformers does it, for a model that gives a text one vector."""
    return (folder / MODULES).is_file()


def module_places(folder: Path) -> list[str]:
    """Paths of the modules within the folder, as its list spells them; raises InputError for one outside of it."""
    return [place.relative_to(folder).as_posix().strip(".") for _, place in listed_modules(folder)]


def read_description(folder: Path) -> EmbeddingDescription:
    """Read a folder of sentence-transformers.

    Raises:
        InputError: a module, a pooling or a setting that is not understood; all of them by name.
    """
    modules = listed_modules(folder)
    layers = modules.pop(1) if [kind for kind, _ in modules[1:2]] == [_LAYERS] else None
    kinds = [kind for kind, _ in modules]
    known = {"Transformer", *STEP_KINDS}
    foreign = [kind for kind in kinds if kind not in known]
    if foreign or kinds[:1] != ["Transformer"] or "Transformer" in kinds[1:] or kinds[1:2] != ["Pooling"]:
        raise InputError(
            f"{folder} is made of modules that cannot be exported",
            received=", ".join(kinds) + "".join(f"; {kind} {_REASONS[kind]}" for kind in foreign if kind in _REASONS)
            or "no module",
            allowed=f"Transformer, {_LAYERS} or not, Pooling, and then any of {', '.join(STEP_KINDS[1:])}",
            fix="Choose a model that is made of these; a plain encoder takes --pooling instead of modules.json.",
        )
    steps = [EmbeddingStep(kind=kind, settings=_settings(place), folder=place) for kind, place in modules[1:]]  # type: ignore[arg-type]
    if any(step.kind == "Pooling" for step in steps[1:]):
        raise InputError(
            f"{folder} pools twice",
            received=", ".join(kinds),
            allowed="one Pooling, behind the Transformer",
            fix="Correct modules.json.",
        )
    encoder = modules[0][1]
    limits = read_limits(encoder)
    stated = read_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
    prompts, default = stated_prompts(stated, folder)
    return EmbeddingDescription(
        encoder=encoder,
        pooling=_pooling(steps[0]),
        steps=tuple(steps[1:]),
        layers=None if layers is None else EmbeddingStep(kind=_LAYERS, settings=_settings(layers[1]), folder=layers[1]),
        # Without prompts none can be left out.
        pools_prompt=steps[0].settings.get("include_prompt") is not False or not any(prompts.values()),
        longest=limits.get("max_seq_length"),
        lowers=bool(limits.get("do_lower_case", False)),
        prompts=prompts,
        default_prompt=default,
        similarity=stated_similarity(stated, folder),
    )


def static_steps(folder: Path) -> tuple[EmbeddingStep, list[EmbeddingStep]] | None:
    """The table of a folder that has one instead of an encoder, and what follows it; None for any other.

    Raises:
        InputError: what follows it is no step of a vector.
    """
    if not is_embedding_folder(folder):
        return None
    modules = listed_modules(folder)
    if [kind for kind, _ in modules[:1]] != [_TABLE]:
        return None
    foreign = [kind for kind, _ in modules[1:] if kind not in STEP_KINDS or kind == "Pooling"]
    if foreign:
        raise InputError(
            f"{folder} is made of modules that cannot be exported",
            received=f"{', '.join(foreign)} behind {_TABLE}",
            allowed=f"{_TABLE}, and then any of {', '.join(STEP_KINDS[1:])}",
            fix="Choose a model that is made of these.",
        )
    table, *steps = (EmbeddingStep(kind=kind, settings=_settings(place), folder=place) for kind, place in modules)  # type: ignore[arg-type]
    return table, steps


def plain_description(folder: Path, pooling: str) -> EmbeddingDescription:
    """An encoder that says nothing of pooling, with one that the user names; raises InputError for an unknown one."""
    if pooling not in POOLING_MODES:
        raise InputError(
            "There is no such pooling",
            received=f"--pooling {pooling}",
            allowed=", ".join(POOLING_MODES),
            fix="Choose the one that the model was trained with; its card says which.",
        )
    return EmbeddingDescription(encoder=folder, pooling=(pooling,))


def listed_modules(folder: Path) -> list[tuple[str, Path]]:
    """(name of the class, folder) of each module that a folder lists.

    Raises:
        InputError: a class that is not of the package, or a folder outside of the checkpoint.
    """
    return [_module(entry, folder) for entry in read_json_list(folder / MODULES)]


def _module(entry: Any, folder: Path) -> tuple[str, Path]:
    """(name of the class, folder) of one line of modules.json."""
    kind, path = (entry.get("type"), entry.get("path", "")) if isinstance(entry, dict) else (None, "")
    if not isinstance(kind, str) or not isinstance(path, str):
        raise InputError(
            f"{folder / MODULES} lists something that is no module",
            received=repr(entry)[:80],
            allowed="objects with a type and a path",
            fix="Download the checkpoint again.",
        )
    if kind.partition(".")[0] != _PACKAGE:
        raise InputError(
            f"{folder} needs remote code: {MODULES} names a class of its own",
            received=kind,
            allowed=f"modules of {_PACKAGE}; code from a checkpoint is never run",
            fix="Choose a model that needs none.",
        )
    place = folder / path
    if not _is_within(place, folder):
        raise InputError(
            f"{folder / MODULES} names a folder outside of the checkpoint",
            received=shown(path),
            allowed="folders within it",
            fix="Correct modules.json.",
        )
    return kind.rpartition(".")[2], place


def _is_within(place: Path, folder: Path) -> bool:
    try:
        place.exists()
        return place.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError):  # a name that no file can have
        return False


def _settings(place: Path) -> dict[str, Any]:
    return read_json(place / "config.json") if (place / "config.json").is_file() else {}


def _pooling(step: EmbeddingStep) -> tuple[PoolingMode, ...]:
    settings, path = dict(step.settings), step.folder / "config.json"
    if not path.is_file():
        raise InputError(
            f"{path} does not exist",
            received=f"a Pooling in {MODULES} that says nothing of how it pools",
            allowed=f"a file with one or more of {', '.join(POOLING_MODES)}",
            fix="Download the checkpoint again; a plain encoder takes --pooling instead of modules.json.",
        )
    stated = settings.get("pooling_mode")
    if stated is None:
        modes: tuple[Any, ...] = tuple(mode for key, mode in _OLD_MODES.items() if settings.get(key)) or ("mean",)
    else:
        modes = tuple(stated) if isinstance(stated, list) else (stated,)
    unknown = [repr(mode) for mode in modes if mode not in POOLING_MODES]
    unknown += [key for key in settings if key not in _POOLING_KEYS]
    flags = [key for key in (*_OLD_MODES, "include_prompt") if not isinstance(settings.get(key, False), bool)]
    unknown += [f"{key} {settings[key]!r}" for key in flags]
    if unknown or not modes:
        raise InputError(
            f"{path} asks for a pooling that does not exist",
            received=", ".join(unknown) or "no mode",
            allowed=", ".join(POOLING_MODES),
            fix="Download the checkpoint again, or correct the file.",
        )
    return modes


def stated_prompts(stated: Mapping[str, Any], folder: Path) -> tuple[dict[str, str], str | None]:
    prompts, default = stated.get("prompts") or {}, stated.get("default_prompt_name")
    texts = isinstance(prompts, dict) and all(isinstance(text, str | None) for text in prompts.values())
    if not texts or not (default is None or (isinstance(default, str) and default in prompts)):
        raise InputError(
            f"{folder / SETTINGS} has prompts that cannot be used",
            received=f"prompts {prompts!r:.80}, default_prompt_name {default!r}",
            allowed="texts by name, and one of these names as the default",
            fix="Correct the file.",
        )
    return {name: text or "" for name, text in prompts.items()}, default


def stated_similarity(stated: Mapping[str, Any], folder: Path) -> str:
    name = stated.get("similarity_fn_name") or "cosine"
    if not isinstance(name, str) or name not in _SIMILARITIES:
        raise InputError(
            f"{folder / SETTINGS} names a similarity that is not known",
            received=repr(name),
            allowed=", ".join(_SIMILARITIES),
            fix="Correct the file.",
        )
    return str(name)
