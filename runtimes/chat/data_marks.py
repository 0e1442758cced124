"""Which characters of a rendered prompt came from the messages, and not from the template: found by marking them.

A template is a program, and may trim, join, cut, escape or change what it is given. So the texts are rendered a second
time with a mark behind their characters. Only when the prompt without its marks is the prompt that was rendered without
any do the marks count; else fewer are tried: not within words that the template looks for, then text by text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from jisu.runtimes.chat.messages import ChatRequest

_PRIVATE_USE = range(0xE000, 0xF8FF)
_MOST_TEXTS = 64  # that are marked one by one, each for the price of a rendering
Render = Callable[[ChatRequest], str]


@dataclass(frozen=True, kw_only=True)
class TracedPrompt:
    """A prompt, and where characters of the messages are in it.

    ``ends`` has the position behind every marked character, ascending. ``unsure`` are texts of messages that hold
    something of the control tokens and could not be marked: the template changes them in a way that depends on them.
    """

    text: str
    ends: tuple[int, ...]
    unsure: tuple[str, ...] = ()

    def is_data(self, start: int, end: int) -> bool:
        """Whether any marked character is in ``text[start:end]``."""
        from bisect import bisect_right

        at = bisect_right(self.ends, start)
        return at < len(self.ends) and self.ends[at] <= end


def trace_prompt(
    render: Render, request: ChatRequest, plain: str, *, controls: Sequence[str], looked_for: Sequence[str], used: str
) -> TracedPrompt:
    """Find where the request's texts are in its rendering.

    Args:
        plain: the rendering without marks.
        controls: texts of the control tokens.
        looked_for: texts that the template compares with, splits at or replaces.
        used: characters that a mark must not be one of, besides those of the prompt and the request.
    """
    texts = request.texts()
    mark = unused_character(used, plain, *texts)
    risky = [_is_risky(text, controls) for text in texts]
    styles: list[Callable[[str], Iterator[int]]] = [
        _every_place,
        lambda text: _places_outside(text, looked_for),
    ]

    def attempt(places: Mapping[int, Sequence[int]]) -> tuple[int, ...] | None:
        marked = render(request.mapped(lambda number, text: _insert(text, places.get(number, ()), mark)))
        pieces = marked.split(mark)
        return _running_lengths(pieces) if "".join(pieces) == plain else None

    for style in styles:
        ends = attempt({number: list(style(text)) for number, text in enumerate(texts)})
        if ends is not None:
            return TracedPrompt(text=plain, ends=ends)
    # One by one, those first that could hold a control token.
    styles.append(lambda text: _places_in_controls(text, controls))
    kept: dict[int, list[int]] = {}
    best: tuple[int, ...] = ()
    unsure = []
    order = sorted(range(len(texts)), key=lambda number: not risky[number])
    for number in [number for number in order if texts[number].strip()][:_MOST_TEXTS]:
        for style in styles:
            places = list(style(texts[number]))
            ends = attempt({**kept, number: places}) if places else None
            if ends is not None:
                kept[number], best = places, ends
                break
        else:
            if risky[number]:
                unsure.append(texts[number])
    unsure += [texts[number] for number in order[_MOST_TEXTS:] if risky[number]]
    return TracedPrompt(text=plain, ends=best, unsure=tuple(unsure))


def unused_character(*texts: str) -> str:
    """A character of the private use area that none of the texts has."""
    return next(chr(code) for code in _PRIVATE_USE if not any(chr(code) in text for text in texts))


def _every_place(text: str) -> Iterator[int]:
    """Behind every character that is no space: spaces at the ends may be trimmed."""
    return (match.end() for match in re.finditer(r"\S", text))


def _places_outside(text: str, looked_for: Sequence[str]) -> Iterator[int]:
    """The same, but not within words that the template looks for, only behind them."""
    inside = {
        place
        for word in looked_for
        if word.strip()
        for match in re.finditer(f"(?={re.escape(word)})", text)
        for place in range(match.start() + 1, match.start() + len(word))
    }
    return (place for place in _every_place(text) if place not in inside)


def _places_in_controls(text: str, controls: Sequence[str]) -> Iterator[int]:
    """Behind the first character of every control token, and of what may become one with what stands beside it."""
    places = {match.start() + 1 for control in controls for match in re.finditer(f"(?={re.escape(control)})", text)}
    core = text.strip()
    start = text.find(core)
    if any(_begins_with_end(core, control) for control in controls):
        places.add(start + 1)
    if any(_ends_with_beginning(core, control) for control in controls):
        places.add(start + len(core))
    return iter(sorted(places))


def _is_risky(text: str, controls: Sequence[str]) -> bool:
    core = text.strip()
    return any(
        control in text or _begins_with_end(core, control) or _ends_with_beginning(core, control)
        for control in controls
    )


def _ends_with_beginning(text: str, control: str) -> bool:
    return any(text.endswith(control[:size]) for size in range(1, len(control)))


def _begins_with_end(text: str, control: str) -> bool:
    return any(text.startswith(control[size:]) for size in range(1, len(control)))


def _insert(text: str, places: Sequence[int], mark: str) -> str:
    cuts = [0, *places, len(text)]
    return mark.join(text[start:end] for start, end in pairwise(cuts))


def _running_lengths(pieces: Sequence[str]) -> tuple[int, ...]:
    ends, total = [], 0
    for piece in pieces[:-1]:
        total += len(piece)
        ends.append(total)
    return tuple(ends)
