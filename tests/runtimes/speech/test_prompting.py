from __future__ import annotations

from typing import Any

import pytest

from jisu.exporter.contract.audio_settings import AudioSettings
from jisu.exporter.contract.errors import InputError
from jisu.runtimes.speech.prompting import check_wishes, opening


def settings(**changes: Any) -> AudioSettings:
    known: dict[str, Any] = {
        "sampling_rate": 16000,
        "input_name": "input_features",
        "dims": (16, 200),
        "window": 32000,
        "shortest": 1600,
        "hop": 160,
        "writes": "tokens",
        "languages": {"en": 11, "de": 12},
        "tasks": {"transcribe": 13, "translate": 14},
        "no_timestamps": 15,
        "seconds_per_time": 0.02,
    }
    return AudioSettings(**{**known, **changes})


def begun(own: AudioSettings, **wishes: Any) -> tuple[list[int], str | None]:
    options: dict[str, Any] = {"language": None, "translate": False, "timestamps": False, **wishes}
    return opening(own, 10, find_language=lambda: "de", **options)


def test_a_language_is_found_out_where_none_is_asked_for() -> None:
    assert begun(settings()) == ([10, 12, 13, 15], "de")
    assert begun(settings(), language="en", translate=True, timestamps=True) == ([10, 11, 14], "en")


def test_a_model_of_one_language_is_not_asked() -> None:
    one = settings(languages={}, tasks={})
    assert begun(one) == ([10, 15], None)
    assert begun(settings(languages={}, tasks={}, no_timestamps=None)) == ([10], None)


def test_the_choice_of_the_checkpoint_goes_before_a_guess() -> None:
    own = settings(prefix=(11, 13, 15))
    assert begun(own) == ([10, 11, 13, 15], "en")
    assert begun(own, timestamps=True) == ([10, 11, 13], "en")
    assert begun(own, language="de") == ([10, 12, 13, 15], "de")


def test_unknown_wishes_are_refused() -> None:
    for own, wishes, message in (
        (settings(), {"language": "xx"}, "de, en"),
        (settings(languages={}), {"language": "en"}, "it knows one language"),
        (settings(tasks={}), {"translate": True}, "does not translate"),
        (settings(seconds_per_time=None), {"timestamps": True}, "does not tell times"),
    ):
        options: dict[str, Any] = {"language": None, "translate": False, "timestamps": False, **wishes}
        with pytest.raises(InputError, match=message):
            check_wishes(own, **options)
