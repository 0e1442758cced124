"""What an answer about a recording begins with: the language, the task, and whether it has times."""

from __future__ import annotations

from collections.abc import Callable

from jisu.exporter.contract.audio_settings import AudioSettings
from jisu.exporter.contract.errors import InputError

TRANSCRIBE, TRANSLATE = "transcribe", "translate"


def check_wishes(
    settings: AudioSettings,
    *,
    language: str | None,
    translate: bool,
    timestamps: bool,
    num_beams: int | None = None,
) -> None:
    """Raise InputError for a language, a task, times or beams that the model does not know."""
    if language is not None and language not in settings.languages:
        known = ", ".join(sorted(settings.languages))
        raise InputError(
            "This model does not know that language",
            received=language,
            allowed=known or "none: it knows one language, and is not told which",
            fix="Give the code of one of these, such as en." if known else "Leave the language out.",
        )
    if translate and TRANSLATE not in settings.tasks:
        raise InputError(
            "This model does not translate",
            received="a translation",
            allowed=", ".join(settings.tasks) or "the words as they are said",
            fix="Leave the translation out.",
        )
    if timestamps and settings.writes == "tokens" and settings.seconds_per_time is None:
        raise InputError(
            "This model does not tell times",
            received="timestamps",
            allowed="the text alone",
            fix="Leave the timestamps out.",
        )
    if settings.writes == "frames" and num_beams is not None and num_beams > 1:
        raise InputError(
            "This model searches no beams",
            received=f"num_beams {num_beams}",
            allowed="1: it labels each frame for itself",
            fix="Leave the beams out.",
        )


def opening(
    settings: AudioSettings,
    start: int,
    *,
    language: str | None,
    translate: bool,
    timestamps: bool,
    find_language: Callable[[], str],
) -> tuple[list[int], str | None]:
    """The tokens that every answer about a recording begins with, and its language.

    Args:
        start: the decoder's own first token.
        find_language: asked where the model knows several languages and nobody says which.
    """
    tokens = [start]
    if settings.languages and settings.prefix and language is None and not translate:
        tokens += settings.prefix  # the checkpoint's own choice
        names = {token: name for name, token in settings.languages.items()}
        language = next((names[token] for token in settings.prefix if token in names), None)
    elif settings.languages:
        language = language or find_language()
        tokens.append(settings.languages[language])
        task = TRANSLATE if translate else TRANSCRIBE
        if task in settings.tasks:
            tokens.append(settings.tasks[task])
    quiet = settings.no_timestamps
    if quiet is not None:
        tokens = [token for token in tokens if token != quiet]
        tokens += [] if timestamps else [quiet]
    return tokens, language
