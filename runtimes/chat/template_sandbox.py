"""Jinja as chat templates use it, in a sandbox that reaches nothing and whose steps and memory are bounded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import wraps
from typing import Any

from jisu.runtimes.chat.template_budget import (
    FILTERS,
    LARGEST_NUMBER,
    METHODS,
    budget,
    check_fields,
    check_operation,
    held,
    listed,
    refuse,
)

# Filters that write a value in a shape of their own, of a length that cannot be told before; no template needs them.
_LEFT_OUT = ("pprint", "random", "urlize", "xmlattr")
_LONGEST_PATTERN = 1000  # of a date
_STEPS_OF_A_CALL = 5  # a macro's takes so much longer than a round of a loop
NOW = "strftime_now"


def sandbox() -> Any:
    """A new environment with the filters and functions that transformers gives to chat templates."""
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.visitor import NodeTransformer

    class Counting(NodeTransformer):
        """Puts a count before every round of a loop, every call of a macro and every piece of the template's text."""

        def __init__(self, environment: Any) -> None:
            self._environment = environment

        def _counts(self, method: str, lineno: int, *values: nodes.Expr) -> nodes.ExprStmt:
            statement = nodes.ExprStmt(self._call(method, lineno, *values), lineno=lineno)
            statement.set_environment(self._environment)
            return statement

        def _call(self, method: str, lineno: int, *values: nodes.Expr) -> nodes.Call:
            call = nodes.Call(nodes.EnvironmentAttribute(method), list(values), [], None, None)
            call.set_lineno(lineno)
            call.set_environment(self._environment)
            return call

        def _visit_block(self, block: Any) -> Any:
            block = self.generic_visit(block)
            steps = 1 if isinstance(block, nodes.For) else _STEPS_OF_A_CALL
            block.body.insert(0, self._counts("count_step", block.lineno, nodes.Const(steps)))
            return block

        visit_For = visit_Macro = visit_CallBlock = _visit_block  # noqa: N815  (the base class finds them so)

        def visit_Output(self, output: nodes.Output) -> Any:  # noqa: N802
            size = sum(len(node.data) for node in output.nodes if isinstance(node, nodes.TemplateData))
            output = self.generic_visit(output)  # type: ignore[assignment]
            return [self._counts("count_text", output.lineno, nodes.Const(size)), output] if size else output

        def visit_Getitem(self, item: nodes.Getitem) -> Any:  # noqa: N802
            item = self.generic_visit(item)  # type: ignore[assignment]
            if not isinstance(item.arg, nodes.Slice):
                return item
            ends = [end or nodes.Const(None) for end in (item.arg.start, item.arg.stop, item.arg.step)]
            return self._call("cut", item.lineno, item.node, *ends)

        def visit_Concat(self, concat: nodes.Concat) -> Any:  # noqa: N802
            concat = self.generic_visit(concat)  # type: ignore[assignment]
            return self._call("concatenate", concat.lineno, *concat.nodes)

    class BoundedEnvironment(ImmutableSandboxedEnvironment):
        """Counts steps, and computes no number, text or list that is larger than any prompt."""

        intercepted_binops = frozenset({"+", "*", "**", "%"})

        # Functions and no methods: `call` knows them at a look.
        count_step = staticmethod(_count_step)
        count_text = staticmethod(_count_text)
        concatenate = staticmethod(_concatenate)
        cut = staticmethod(_cut)

        def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
            tree: nodes.Template = Counting(self).visit(super()._parse(source, name, filename))
            return tree

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            check_operation(operator, left, right)
            return super().call_binop(context, operator, left, right)

        def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
            wrapped = super().wrap_str_format(value)
            if wrapped is None:
                return None

            @wraps(wrapped)
            def bounded(*args: Any, **kwargs: Any) -> str:
                check_fields(str(value.__self__), [args, kwargs])
                return wrapped(*args, **kwargs)

            return bounded

        def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
            if any(__obj is own for own in _OWN):
                return __obj(*args)
            args = _checked_call(__obj, args, kwargs)
            return _counted(super().call(__context, __obj, *args, **kwargs))

    class GenerationBlock(Extension):
        """``{% generation %}`` marks the assistant's words for training; here its inside is all that matters."""

        tags = {"generation"}  # noqa: RUF012  (the attribute's type is given by the base class)

        def parse(self, parser: Any) -> list[nodes.Node]:
            next(parser.stream)
            body: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return body

    environment = BoundedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[loopcontrols, GenerationBlock],
        finalize=_counted_output,
        optimized=False,
    )
    environment.filters = {
        name: _bounded_filter(name, function) for name, function in environment.filters.items() if name not in _LEFT_OUT
    }
    environment.filters["tojson"] = _tojson
    environment.globals.pop("lipsum")
    environment.globals["raise_exception"] = refuse
    environment.globals[NOW] = lambda pattern: datetime.now().strftime(_pattern(pattern))
    return environment


def _count_step(count: int) -> None:
    budget().step(count)


def _count_text(size: int) -> None:
    budget().make(size)


def _concatenate(*values: Any) -> str:
    budget().make(sum(len(value) if isinstance(value, str) else budget().size_of(value) for value in values))
    return "".join(map(str, values))


def _cut(value: Any, start: Any, stop: Any, step: Any) -> Any:
    """A slice, which Jinja's own code would take without asking the environment."""
    return _counted(value[start:stop:step])


_OWN = (_count_step, _count_text, _concatenate, _cut)


def frozen_now(now: datetime) -> Callable[[str], str]:
    """``strftime_now`` of one moment, so that a template that is rendered twice says the same."""
    return lambda pattern: now.strftime(_pattern(pattern))


def _pattern(pattern: object) -> str:
    if not isinstance(pattern, str) or len(pattern) > _LONGEST_PATTERN:
        refuse("a date of a long pattern")
    return pattern


def _checked_call(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """The arguments of a call whose result is not too large; raises TemplateError for any other."""
    owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
    if isinstance(owner, str):
        if name == "translate":
            refuse("a translation table")
        if name in METHODS:
            args = tuple(listed(value) for value in args)
            budget().check(METHODS[name](owner, *args, **kwargs))
    elif isinstance(owner, (bytes, int, float, complex, type)) and not (isinstance(owner, bytes) and name == "decode"):
        refuse(f"a call of {name} of a {type(owner).__name__}")
    return args


def _bounded_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    takes_context = hasattr(function, "jinja_pass_arg")

    @wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        first = 1 if takes_context else 0
        values = args[first:]
        numbers = [value for value in (*values[1:], *kwargs.values()) if isinstance(value, int)]
        if any(abs(number) > LARGEST_NUMBER for number in numbers) and name not in ("default", "d"):
            refuse(f"the filter {name} with a number above {LARGEST_NUMBER}")
        if name == "format":
            check_operation("%", values[0], kwargs or values[1:])
        elif name in FILTERS:
            values = (listed(values[0]), *values[1:])
            budget().check(FILTERS[name](*values, **kwargs))
        return _counted(function(*args[:first], *values, **kwargs))

    return bounded


def _counted(value: Any) -> Any:
    if isinstance(value, (str, bytes, list, tuple, dict)):
        budget().make(held(value))
    return value


def _counted_output(value: Any) -> Any:
    """What is written into the prompt, or into a macro's or a block's own text."""
    budget().make(len(value) if isinstance(value, str) else budget().size_of(value))
    return value


def _tojson(
    value: object,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002  (the arguments are transformers')
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    """JSON without the escapes that Jinja's own filter makes for HTML."""
    if isinstance(indent, int) and indent > LARGEST_NUMBER:
        refuse("an indentation to a great width")
    value = listed(value)
    budget().check(budget().size_of(value))
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    return "".join(_counted_pieces(encoder.iterencode(value)))


def _counted_pieces(pieces: Iterator[str]) -> Iterator[str]:
    for piece in pieces:
        budget().make(len(piece))
        yield piece


def read_variables(environment: Any, source: str) -> frozenset[str]:
    """Names that a template reads and does not set itself."""
    from jinja2 import meta

    names: set[str] = meta.find_undeclared_variables(environment.parse(source))
    return frozenset(names)


def looked_for(environment: Any, source: str) -> tuple[str, ...]:
    """Texts that a template compares with others, or hands to a method or a filter: what it may look for."""
    from jinja2 import nodes

    names: set[str] = set()
    for node in environment.parse(source).find_all((nodes.Compare, nodes.Call, nodes.Filter, nodes.Test)):
        if isinstance(node, nodes.Compare):
            places: list[nodes.Node] = [node.expr, *node.ops]
        else:
            places = [*node.args, *node.kwargs]
        for place in places:
            constants = [place] if isinstance(place, nodes.Const) else place.find_all(nodes.Const)
            names |= {node.value for node in constants if isinstance(node.value, str)}
    return tuple(sorted(names))
