"""What makes a transformers checkpoint one that hears, and what it says of languages, times and letters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jisu.exporter.contract.audio_settings import AudioSettings
from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.account import Account
from jisu.exporter.sources.audio import PREPROCESSOR_FILES, AudioSource, observed_settings, read_extractor
from jisu.exporter.sources.jsonfile import read_json
from jisu.exporter.sources.named_classes import listed_classes, named_architectures
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.sources.reason import reason_of
from jisu.exporter.sources.unreadable_settings import UNREADABLE, unreadable_settings

# Settings of generation by which a model that hears is asked for a language, a task and times.
PROMPTING = (
    "forced_decoder_ids",
    "is_multilingual",
    "lang_to_id",
    "language",
    "max_initial_timestamp_index",
    "no_timestamps_token_id",
    "return_timestamps",
    "task",
    "task_to_id",
)
# Others of theirs, that change no word: how times of words are found, and what a text before the recording begins with.
HARMLESS = ("alignment_heads", "median_filter_width", "prev_sot_token_id", "prompt_condition_type")


def speech_class(config: Any) -> Any | None:
    """The transformers class that writes down speech by this configuration; None where it is for something else.

    Those that read sound among the tokens of a text are another kind, see `exporter.sources.audio_text`.
    """
    from transformers import MODEL_FOR_CTC_MAPPING, MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING

    named = named_architectures(config)
    for mapping in (MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING, MODEL_FOR_CTC_MAPPING):
        listed = listed_classes(mapping, config)
        chosen = next((one for one in listed if not named or one.__name__ in named), None)
        if chosen is None:
            continue
        if mapping is MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING and not getattr(config, "is_encoder_decoder", False):
            return None
        return chosen
    return None


def read_audio(folder: Path, config: Any, model: Any, generation: Any | None, tokenizer: Any | None) -> AudioSource:
    """How a folder's model hears, and how what it says becomes a text.

    Args:
        model: built from the configuration, on any device.
        generation: transformers' settings of generation, where there are some.
        tokenizer: a fast one; without one a model that labels frames has its letters in its vocabulary.

    Raises:
        InputError: the folder does not say it, or says something that cannot be followed.
    """
    extractor = read_extractor(folder)
    more: dict[str, Any]
    if getattr(config, "is_encoder_decoder", False):
        try:
            more = {"writes": "tokens", **_prompting(generation)}
        except UNREADABLE as error:
            raise unreadable_settings(folder, error) from error
    else:
        more = {"writes": "frames", **_letters(folder, config, tokenizer)}
    settings = observed_settings(extractor, model.main_input_name, **more)
    _check_fit(extractor, settings, model, folder)
    positions = getattr(config, "max_source_positions", None)
    if settings.no_timestamps is not None and settings.window and isinstance(positions, int) and positions > 0:
        settings = replace(settings, seconds_per_time=settings.window / settings.sampling_rate / positions)
    return AudioSource(extractor=extractor, settings=settings)


def _check_fit(extractor: Any, settings: AudioSettings, model: Any, folder: Path) -> None:
    """Raise InputError where a model cannot read what its extractor makes; shapes alone are tried, without weights."""
    import torch

    seconds = 1 if settings.window is None else 0
    shape = [1, *(settings.sampling_rate * seconds // settings.hop if size is None else size for size in settings.dims)]
    device = next(model.parameters()).device
    reads = model.get_encoder() if settings.writes == "tokens" else model
    training = model.training
    try:
        with torch.inference_mode(), quiet_transformers():
            model.eval()
            reads(torch.zeros(shape, device=device))
    except Exception as error:
        if isinstance(error, NotImplementedError) or "meta" in str(error):
            return  # a model that looks at numbers says nothing of shapes
        raise InputError(
            f"The feature extractor and the model of {folder} do not fit each other",
            received=f"{type(extractor).__name__} makes {shape[1:]}: {reason_of(error)}",
            allowed="features of the shape that the model reads",
            fix=f"Download {' or '.join(PREPROCESSOR_FILES)} and config.json of one model.",
        ) from error
    finally:
        model.train(training)


def account_for_features(account: Account, folder: Path) -> Account:
    """Add what the configuration of the feature extractor states: all of it is the extractor's, which is compared."""
    for name in PREPROCESSOR_FILES:
        if (folder / name).is_file():
            account = account.state("config", [f"{name}: {key}" for key in read_json(folder / name)], fate="used")
    return account


def _prompting(generation: Any | None) -> dict[str, Any]:
    """Languages, tasks and times, as transformers' settings of generation name them."""
    stored: Mapping[str, Any] = {} if generation is None else generation.to_dict()
    languages = {name.strip("<|>"): int(token) for name, token in (stored.get("lang_to_id") or {}).items()}
    tasks = {str(name): int(token) for name, token in (stored.get("task_to_id") or {}).items()}
    forced = stored.get("forced_decoder_ids") or ()
    language, task = stored.get("language"), stored.get("task")
    prefix: list[int] = []
    if language is None and task is None:
        # Those that follow each other from the second place on; a language that is left open is found out.
        for place, (position, token) in enumerate(forced):
            if position != place + 1 or token is None:
                break
            prefix.append(int(token))
    return {
        "languages": languages,
        "tasks": tasks,
        "prefix": tuple(prefix),
        "no_timestamps": stored.get("no_timestamps_token_id"),
        "first_times": stored.get("max_initial_timestamp_index"),
    }


def _letters(folder: Path, config: Any, tokenizer: Any | None) -> dict[str, Any]:
    """The text of each label of a frame, or nothing but the blank where a tokenizer makes it."""
    blank = getattr(config, "pad_token_id", None)
    if tokenizer is not None or not (folder / "vocab.json").is_file():
        return {"blank": blank}
    from transformers import AutoTokenizer

    try:
        with quiet_transformers():
            own: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        vocabulary = own.get_vocab()
    except Exception:  # noqa: BLE001 - transformers raises anything; the file itself says the same
        own, vocabulary = None, read_json(folder / "vocab.json")
    if not all(isinstance(one, int) for one in vocabulary.values()):
        raise InputError(
            f"{folder / 'vocab.json'} does not name the labels of frames",
            received="entries that are no numbers",
            allowed="a text for each label, with its number",
            fix="Download the file again.",
        )
    letters = [""] * (max(vocabulary.values(), default=-1) + 1)
    for letter, number in vocabulary.items():
        letters[number] = letter.lower() if getattr(own, "do_lower_case", False) else letter
    blank = blank if getattr(own, "pad_token_id", None) is None else own.pad_token_id
    letters = letters[: config.vocab_size]  # a tokenizer may know more than the model says
    return {"labels": tuple(letters), "blank": blank, "space": getattr(own, "word_delimiter_token", None) or "|"}
