"""How a module of the user's own is called and what it gives: read off its forward and one short call, or refused.

Nothing here judges whether the numbers make sense: that is `exporter.sources.module_behaviour`.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jisu.calibration.model.whole_sequences import empty_state, has_state, run_whole
from jisu.exporter.contract.artifact import ModelKind
from jisu.exporter.contract.errors import InputError, JisuError
from jisu.exporter.contract.signature import CAPACITY, DTYPES
from jisu.exporter.sources.reason import reason_of

if TYPE_CHECKING:
    import torch

_FORMS = (
    "forward(input_ids, past_length, state) -> (logits, state) together with state_spec()",
    "forward(input_ids) -> logits [B, T, V]",
    "forward(input_ids) or forward(input_ids, attention_mask) -> logits [B, labels]",
)
ALLOWED_FORMS = "; ".join(_FORMS)
# The first call: two rows of a length that is neither theirs nor one, of ids that every vocabulary has.
_ROWS, _TOKENS = 2, 5
# What a module carries itself; an encoder's state comes from a graph of its own.
_STATE_KINDS = ("kv", "recurrent")


@dataclass(frozen=True, kw_only=True)
class ModuleCall:
    """What one call of a module has shown.

    Attributes:
        model_kind: what its logits are for.
        columns: of the logits: tokens of the vocabulary, or labels.
        embedding_rows: rows of the table that the token ids are looked up in; None where they go to no `nn.Embedding`.
        position_tables: rows of tables that were asked for 0, 1, 2 ... in every row, as positions are.
    """

    model_kind: ModelKind
    columns: int
    embedding_rows: int | None
    position_tables: tuple[int, ...]


def inspect_call(module: torch.nn.Module) -> ModuleCall:
    """Call the module once, with explicit state where it has `state_spec()`.

    Raises:
        InputError: a forward that is called in no known way, fails, or gives something else than logits.
    """
    import torch

    _check_parameters(module)
    if has_state(module):
        _check_specification(module)
    ids = torch.arange(_ROWS * _TOKENS).reshape(_ROWS, _TOKENS) % 2
    try:
        return _inspect(module, ids)
    except InputError as reason:
        try:
            return _inspect(module, torch.zeros_like(ids))  # a vocabulary of a single token
        except InputError:
            raise reason from None


def _inspect(module: torch.nn.Module, ids: torch.Tensor) -> ModuleCall:
    import torch

    with _watched_tables(module) as tables, torch.no_grad():  # inference tensors that it keeps could not be trained
        output = _called(module, ids)
    logits = output[0] if has_state(module) else output
    logits = getattr(logits, "logits", logits)
    if has_state(module):
        _check_state(module, output[1])
    if not torch.is_tensor(logits) or not logits.is_floating_point() or logits.dim() not in (2, 3):
        raise _no_logits(module, logits)
    generates = logits.dim() == 3
    if tuple(logits.shape[:-1]) != ((_ROWS, _TOKENS) if generates else (_ROWS,)):
        raise _no_logits(module, logits)
    if has_state(module) and not generates:
        raise _no_logits(module, logits)
    if not generates and logits.shape[-1] < 2:
        raise InputError(
            f"{type(module).__name__} gives a single number for a text, which is no choice between labels",
            received=f"logits of shape {list(logits.shape)}",
            allowed="at least two columns, one for each label",
            fix="Give yes and no a column each; regressions are not supported.",
        )
    return ModuleCall(
        model_kind="text-generation" if generates else "text-classification",
        columns=int(logits.shape[-1]),
        embedding_rows=min((rows for rows, seen in tables if torch.equal(seen, ids)), default=None),
        position_tables=tuple(sorted({rows for rows, seen in tables if _counts_up(seen)})),
    )


def _check_parameters(module: torch.nn.Module) -> None:
    """Raise InputError unless the forward takes as many arguments as its form has."""
    try:
        parameters = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        return  # a forward that Python cannot describe is called and judged by what happens
    needed = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    keyword_only = [p.name for p in parameters if p.default is p.empty and p.kind is p.KEYWORD_ONLY]
    names = [p.name for p in needed]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
    if has_state(module):
        fits = len(needed) <= 3 and (len(positional) >= 3 or any(p.kind is p.VAR_POSITIONAL for p in positional))
    else:
        fits = bool(positional) and (len(needed) <= 1 or names[1:] == ["attention_mask"])
    if not fits or keyword_only:
        raise InputError(
            f"The forward of {type(module).__name__} has a signature that is not supported",
            received=f"forward({', '.join(str(p) for p in parameters)})"
            + (" with state_spec()" if has_state(module) else " without state_spec()"),
            allowed=ALLOWED_FORMS,
            fix="Wrap the module in one whose forward has one of these forms.",
        )


def _called(module: Any, ids: torch.Tensor) -> Any:
    """The output of one call; raises InputError with the module's own reason when it fails."""
    import torch

    try:
        if has_state(module):
            past = torch.zeros(len(ids), dtype=torch.int64)
            output = module(ids, past, empty_state(module.state_spec(), batch=len(ids), capacity=ids.shape[1]))
            if not isinstance(output, (tuple, list)) or len(output) != 2 or not isinstance(output[1], (tuple, list)):
                raise InputError(
                    f"The forward of {type(module).__name__} does not give its state back",
                    received=_described(output),
                    allowed="(logits, list of state tensors)",
                    fix="Return the logits and the state after these tokens.",
                )
            return output
        return run_whole(module, ids)
    except JisuError:
        raise
    except Exception as error:  # somebody else's code may raise anything
        raise InputError(
            f"The forward of {type(module).__name__} fails on {len(ids)} rows of {ids.shape[1]} token ids",
            received=reason_of(error),
            allowed=ALLOWED_FORMS,
            fix="Let it take int64 token ids of any number of rows and tokens; recurrent layers with batch_first=True.",
        ) from error


def _check_state(module: Any, after: Sequence[Any]) -> None:
    """Raise InputError unless the specification can be read and the returned state is as it says."""
    import torch

    expected = empty_state(module.state_spec(), batch=_ROWS, capacity=_TOKENS)
    problems = []
    if len(after) != len(expected):
        problems.append(f"{len(after)} tensors came back instead of {len(expected)}")
    problems += [
        f"{item[0]} came back as {_described(actual)} instead of {_described(specified)}"
        for item, specified, actual in zip(module.state_spec(), expected, after, strict=False)
        if not torch.is_tensor(actual) or actual.shape != specified.shape or actual.dtype != specified.dtype
    ]
    if problems:
        raise _wrong_state(module, problems)


def _check_specification(module: Any) -> None:
    """Raise InputError unless `state_spec()` can be read."""
    items = module.state_spec()
    problems = [] if items else ["it lists nothing; leave state_spec() out of a module without state"]
    for item in items:
        if not isinstance(item, (tuple, list)) or len(item) != 4 or not isinstance(item[0], str):
            problems.append(f"{item!r} is no (name, kind, dims, dtype)")
        elif str(item[3]).removeprefix("torch.") not in DTYPES:
            problems.append(f"{item[0]} has the dtype {item[3]}")
        elif item[1] not in _STATE_KINDS:
            problems.append(f"{item[0]} has the kind {item[1]}")
        else:
            problems += _wrong_dims(*item[:3])
    if problems:
        raise _wrong_state(module, problems)


def _wrong_dims(name: str, kind: str, dims: Any) -> list[str]:
    if not isinstance(dims, (tuple, list)):
        return [f"{name} has dims {dims!r}, which are no list"]
    letters = [dim for dim in dims if isinstance(dim, str)]
    unknown = [dim for dim in dims if dim not in ("B", CAPACITY) and (not isinstance(dim, int) or dim < 1)]
    problems = [f"{name} has a dim {dim!r}, where only 'B', '{CAPACITY}' and sizes are known" for dim in unknown]
    if letters.count("B") != 1:
        problems.append(f"{name} has dims {tuple(dims)} without one 'B', the axis that counts rows")
    if letters.count(CAPACITY) != (kind == "kv"):
        problems.append(
            f"{name} of kind {kind} has dims {tuple(dims)}; kv has one axis '{CAPACITY}', recurrent has none"
        )
    return problems


def _wrong_state(module: Any, problems: Sequence[str]) -> InputError:
    return InputError(
        f"The state of {type(module).__name__} does not match its state_spec()",
        received="; ".join(problems),
        allowed='entries (name, "kv" or "recurrent", dims, dtype) such as ("hidden", "recurrent", (2, "B", 64), '
        '"float32") and ("0.key", "kv", ("B", 4, "capacity", 16), "float32"), and tensors like that in the same order',
        fix="Correct state_spec(), or what forward returns.",
    )


def _no_logits(module: torch.nn.Module, output: Any) -> InputError:
    return InputError(
        f"The forward of {type(module).__name__} gives no logits",
        received=f"{_described(output)} for token ids of shape [{_ROWS}, {_TOKENS}]",
        allowed=f"floating-point [{_ROWS}, {_TOKENS}, V] of a language model"
        + ("" if has_state(module) else f", or [{_ROWS}, labels] of a classifier"),
        fix="Return one row of logits for each token, or for each text."
        if not isinstance(output, (tuple, list))
        else "Return the logits alone; what is carried from token to token goes into state_spec() and the state.",
    )


def _described(value: Any) -> str:
    import torch

    if torch.is_tensor(value):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_described, value[:4]))}{', ...' if len(value) > 4 else ''})"
    return type(value).__name__


def _counts_up(ids: torch.Tensor) -> bool:
    import torch

    return bool(ids.numel() % _TOKENS == 0 and torch.equal(ids, torch.arange(_TOKENS).expand(ids.shape)))


@contextlib.contextmanager
def _watched_tables(module: torch.nn.Module) -> Iterator[list[tuple[int, torch.Tensor]]]:
    """Collect (rows, ids) of every `nn.Embedding` that is looked into while the block runs."""
    from torch import nn

    seen: list[tuple[int, torch.Tensor]] = []

    def note(table: Any, inputs: Any) -> None:
        if inputs[0].dim() and inputs[0].shape[-1] == _TOKENS:
            seen.append((table.num_embeddings, inputs[0].to("cpu", copy=True)))

    hooks = [child.register_forward_pre_hook(note) for child in module.modules() if isinstance(child, nn.Embedding)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
