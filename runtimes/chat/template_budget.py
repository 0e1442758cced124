"""How much a chat template may compute: the steps it takes, and the texts and lists it makes.

A template is an untrusted program. Its memory is bounded by what is counted here, so every operation that can make
something larger than its operands is estimated first; what it has made is counted afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, NoReturn

# A template takes a step for each round of a loop and each call of a macro; real ones take a few for each message.
MOST_STEPS = 1_000_000
LONGEST_PROMPT = 10_000_000  # characters of a prompt, and of any text or list on the way to it
# All that is made on the way, one after the other: a constant, and so many times what the messages have.
MOST_MADE, MOST_MADE_PER_INPUT = 32_000_000, 32
LARGEST_NUMBER = 100_000  # as a width, a count or a depth
ELEMENT = 4  # what an element of a list counts for, in characters: it is an object of its own
# A width or precision of five digits or more, or one that an argument gives: printf-style formatting, as % does it.
_LONG_WIDTH = re.compile(r"%[^a-zA-Z%]*(\d{5}|\*)")
# The same of str.format, whose specification stands behind a colon and may be made of another field.
_LONG_FIELD = re.compile(r":[^{}]*(\d{5}|\{)")
_FIELD = 10_000  # the longest width that the two leave


class Budget:
    """What one rendering has used.

    Args:
        given: size of the messages and variables, as `size_of` counts it.
    """

    def __init__(self, input_size: int = 0) -> None:
        self._steps = 0
        self._made = 0
        self._most = MOST_MADE + MOST_MADE_PER_INPUT * min(input_size, LONGEST_PROMPT)

    def step(self, count: int = 1) -> None:
        """Count rounds; raises TemplateError beyond `MOST_STEPS`."""
        self._steps += count
        if self._steps > MOST_STEPS:
            refuse(f"more than {MOST_STEPS} steps")

    def make(self, size: int) -> None:
        """Count characters or elements that are about to be made, or were; raises TemplateError beyond the bounds."""
        if size > LONGEST_PROMPT:
            refuse(f"a text or list of more than {LONGEST_PROMPT} elements")
        self._made += size
        if self._made > self._most:
            refuse(f"texts and lists of more than {self._most} elements altogether")

    def check(self, size: int) -> None:
        """Refuse what would be too large, without counting it."""
        if size > LONGEST_PROMPT:
            refuse(f"a text or list of more than {LONGEST_PROMPT} elements")

    def size_of(self, value: object) -> int:
        """Characters and elements of a value written out, each part as often as it occurs; looking takes steps."""
        total = 0
        rest = [value]
        while rest and total <= LONGEST_PROMPT:
            item = rest.pop()
            self.step()
            if isinstance(item, (str, bytes)):
                total += len(item)
            elif isinstance(item, int):
                total += 1 + item.bit_length() // 3
            elif isinstance(item, Mapping):
                total += 1 + len(item)
                if total <= LONGEST_PROMPT:
                    rest += [*item.keys(), *item.values()]
            elif isinstance(item, (list, tuple, set, frozenset)):
                total += 1 + len(item)
                if total <= LONGEST_PROMPT:
                    rest += item
            else:
                total += 24  # a float, a flag, an object's name
        return total


_BUDGET: ContextVar[Budget | None] = ContextVar("template_budget", default=None)


def begin_budget(*inputs: object) -> Budget:
    """Start counting for a rendering of what was given."""
    budget = Budget(sum(Budget().size_of(value) for value in inputs))
    _BUDGET.set(budget)
    return budget


def budget() -> Budget:
    """The counter of the rendering that is running; a new one while a template is being compiled."""
    return _BUDGET.get() or begin_budget()


def refuse(message: str) -> NoReturn:
    """Raise the error that a template's own ``raise_exception`` raises."""
    from jinja2 import TemplateError

    raise TemplateError(message)


def check_product(one: Any, other: Any) -> None:
    """Raise when a text or list would be repeated too often, or numbers grow beyond 4096 bits."""
    if isinstance(one, (str, bytes, list, tuple)) and isinstance(other, int):
        budget().make(held(one) * max(other, 0))
    if isinstance(one, int) and isinstance(other, int) and one.bit_length() + other.bit_length() > 4096:
        refuse("a product of large numbers")


def check_operation(operator: str, left: Any, right: Any) -> None:
    """Raise when the result of a binary operator would be too large."""
    if operator == "*":
        check_product(left, right)
        check_product(right, left)
    elif operator == "**" and not (abs(left) < 1 << 64 and abs(right) <= 64):
        refuse("a power of large numbers")
    elif operator == "%" and isinstance(left, (str, bytes)):
        check_format(str(left), _LONG_WIDTH, "%", right)
    elif operator == "+" and isinstance(left, (str, bytes, list, tuple)) and isinstance(right, type(left)):
        budget().make(held(left) + held(right))


def check_format(pattern: str, long: re.Pattern[str], sign: str, values: object) -> None:
    """Raise when a formatted text would be too large: every field may show all of the values."""
    if long.search(pattern):
        refuse("a text formatted to a great width")
    fields = pattern.count(sign)
    budget().make(len(pattern) + fields * min(budget().size_of(values), LONGEST_PROMPT) + (fields and _FIELD))


def check_fields(pattern: str, values: object) -> None:
    """The same for ``str.format``."""
    check_format(pattern, _LONG_FIELD, "{", values)


def held(value: str | bytes | list[Any] | tuple[Any, ...] | dict[Any, Any]) -> int:
    """What a value counts for that is made: a text's characters, a list's elements, not what is in these."""
    return len(value) if isinstance(value, (str, bytes)) else ELEMENT * len(value)


def listed(values: object) -> object:
    """A generator's items as a list, counted while they come; anything else as it is."""
    if isinstance(values, (str, bytes, list, tuple, Mapping, set, frozenset)) or not isinstance(values, Iterable):
        return values
    items = []
    for item in values:
        budget().make(2 * ELEMENT + (len(item) if isinstance(item, (str, bytes)) else 0))
        items.append(item)
    return items


def _width(text: Any, width: Any = 80, *_: Any) -> int:
    return max(_length(text), width if isinstance(width, int) else 0)


def _indented(text: Any, width: Any = 4, *_: Any, **__: Any) -> int:
    step = width if isinstance(width, int) else _length(width)
    return _length(text) + (str(text).count("\n") + 1) * max(step, 0)


def _replaced(text: Any, old: Any, new: Any, *_: Any, **__: Any) -> int:
    count = str(text).count(str(old)) if old else _length(text) + 1
    return _length(text) + count * _length(new)


def _tabs(text: Any, tabsize: Any = 8) -> int:
    return _length(text) + str(text).count("\t") * max(tabsize if isinstance(tabsize, int) else 0, 0)


def _wrapped(text: Any, width: Any = 79, breaks: Any = None, wrapstring: Any = None, *_: Any, **__: Any) -> int:
    return _length(text) * (1 + _length(wrapstring or "\n"))


def _joined(values: Any, d: Any = "", *_: Any, **__: Any) -> int:
    count = len(values) if hasattr(values, "__len__") else 0
    return budget().size_of(values) + count * _length(d)


def _elements(values: Any, *_: Any, **__: Any) -> int:
    return 2 * ELEMENT * len(values) if hasattr(values, "__len__") else 0


def _pieces(text: Any, sep: Any = None, *_: Any, **__: Any) -> int:
    signs = [sep] if sep else [" ", "\n", "\r", "\t"]
    return 2 * ELEMENT * sum(str(text).count(sign) for sign in signs)


def _lines(text: Any, *_: Any, **__: Any) -> int:
    return _pieces(text)


def _written(value: Any, *_: Any, **__: Any) -> int:
    return budget().size_of(value)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (str, bytes)) else budget().size_of(value)


# What the result of a method of texts, or of a filter, has at most, by its name; others make no more than they get. The
# parameters have the names by which they may be given.
METHODS: dict[str, Callable[..., int]] = {
    "center": _width,
    "ljust": _width,
    "rjust": _width,
    "zfill": _width,
    "expandtabs": _tabs,
    "replace": _replaced,
    "split": _pieces,
    "rsplit": _pieces,
    "splitlines": _lines,
    "join": lambda separator, values: _joined(values, separator),
}
FILTERS: dict[str, Callable[..., int]] = {
    "center": _width,
    "indent": _indented,
    "wordwrap": _wrapped,
    "replace": _replaced,
    "join": _joined,
    "sum": _written,
    **dict.fromkeys(("list", "batch", "slice", "sort", "unique", "groupby"), _elements),
    "string": _written,
    "escape": _written,
    "e": _written,
    "forceescape": _written,
    "urlencode": _written,
}
