"""Whether a module of the user's own keeps the promises that its way of being called makes, each tried out on torch.

A graph can be the very same model and still be useless: one that mixes the rows of a batch, looks at later tokens or
forgets its state. That is a fault of the module, and is said of the module, before anything is traced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from jisu.calibration.model.whole_sequences import empty_state, has_state, run_whole
from jisu.exporter.contract.errors import InputError
from jisu.exporter.precision.budget import FP32_LOGIT_ERROR, GREEDY_STEPS, LONGEST
from jisu.exporter.precision.logit_errors import logit_errors
from jisu.exporter.sources.reason import reason_of

if TYPE_CHECKING:
    import torch

_ROWS, _TOKENS, _PREFIX = 3, 12, 7
# Numbers of tokens that are tried in turn; beyond the first only while tokens times parameters, about the products of a
# run, are no more. Counted and not timed: what is found ends up in the artifact, whatever machine looks for it.
_PROBED = (LONGEST + GREEDY_STEPS, 1100, 4200)
_MOST_WORK = 200_000_000_000
# How torch says that memory is missing, in a RuntimeError.
_NO_MEMORY = ("can't allocate memory", "not enough memory")


def check_behaviour(module: torch.nn.Module, *, vocab_size: int, max_positions: int | None, generates: bool) -> None:
    """Run the module on a few random tokens and compare what has to be equal.

    Args:
        module: in evaluation mode.
        vocab_size: ids stay below it.
        max_positions: tokens that it can hold; None for any number.
        generates: it is a language model, whose logits after a token must not depend on later tokens.

    Raises:
        InputError: its output is random, depends on other rows, on later tokens or on how the tokens were split into
            calls, or it fails on inputs of another size.
    """
    import torch

    length = min(_TOKENS, max_positions or _TOKENS)
    ids = torch.randint(0, vocab_size, (_ROWS, length), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = _run(module, ids)
        if not bool(torch.isfinite(together).all()):
            raise InputError(
                f"{type(module).__name__} gives logits that are not finite",
                received=f"NaN or infinity for tokens drawn from its vocabulary of {vocab_size}",
                allowed="finite logits",
                fix="Check its weights; they may be damaged, or never have been set.",
            )
        _compare(
            module, together, _run(module, ids), "its output is random: the same tokens give other logits",
            "Switch off whatever draws numbers in evaluation mode.",
        )  # fmt: skip
        alone = torch.cat([_run(module, row[None]) for row in ids])
        _compare(
            module, alone, together, "it mixes the rows of a batch: a row's logits change when others stand beside it",
            "Let every operation keep to its row; nn.LSTM, nn.GRU and nn.MultiheadAttention read [T, B, C] unless they "
            "are made with batch_first=True.",
        )  # fmt: skip
        if generates:
            prefix = min(_PREFIX, length - 1) or 1
            _compare(
                module, _run(module, ids[:, :prefix]), together[:, :prefix],
                "it looks at later tokens: a token's logits change when more tokens follow",
                "Mask later tokens, and use no bidirectional layers in a model that generates.",
            )  # fmt: skip
        if has_state(module):
            _compare(
                module, together, _token_by_token(module, ids),
                "its state does not hold what came before: token by token the logits are others than in one call",
                "Return in the state whatever later tokens need, start from it, and use past_length for positions.",
            )  # fmt: skip
        # The gate will run as many.
        longest = min(LONGEST + GREEDY_STEPS, max_positions or LONGEST + GREEDY_STEPS)
        for tokens in (1, longest):
            _run(module, torch.zeros((1, tokens), dtype=torch.int64))


def find_longest(module: torch.nn.Module, tables: Sequence[int] = ()) -> int | None:
    """Most tokens that the module takes at once, found by trying; None where no limit was met with reasonable work.

    Args:
        module: in evaluation mode.
        tables: rows of tables that may be of positions, where a limit is looked for first.

    Raises:
        MemoryError: this machine has no room for the tokens, which says nothing about the module.
    """
    import torch

    def fits(tokens: int) -> bool:
        try:
            with torch.no_grad():
                run_whole(module, torch.zeros((1, tokens), dtype=torch.int64))
        except MemoryError:
            raise
        except Exception as error:
            if any(words in str(error) for words in _NO_MEMORY):
                raise MemoryError(str(error)) from error
            return False
        return True

    for rows in sorted(tables):
        if fits(rows) and not fits(rows + 1):
            return rows
    if not fits(_TOKENS):
        return None  # said with its reason by `check_behaviour`
    longest = _TOKENS
    size = sum(parameter.numel() for parameter in module.parameters())
    for tokens in _PROBED:
        if tokens > _PROBED[0] and tokens * size > _MOST_WORK:
            break
        if not fits(tokens):
            low, high = longest, tokens
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if fits(middle) else (low, middle)
            return low
        longest = tokens
    return None


def _token_by_token(module: Any, ids: torch.Tensor) -> torch.Tensor:
    import torch

    rows, length = ids.shape
    state, pieces = empty_state(module.state_spec(), batch=rows, capacity=length), []
    for position in range(length):
        token, past = ids[:, position : position + 1], torch.full((rows,), position, dtype=torch.int64)
        logits, state = _tried(module, token, partial(module, token, past, state))
        pieces.append(logits)
    return torch.cat(pieces, dim=1)


def _run(module: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = _tried(module, ids, lambda: run_whole(module, ids))
    return logits


def _tried(module: torch.nn.Module, ids: torch.Tensor, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # somebody else's code may raise anything
        rows, tokens = ids.shape
        raise InputError(
            f"{type(module).__name__} fails on {rows} row{'s' if rows > 1 else ''} of {tokens} "
            f"token{'s' if tokens > 1 else ''}",
            received=reason_of(error),
            allowed="any number of rows and tokens",
            fix="Correct its forward; a module that holds a limited number of tokens says so in an attribute "
            "max_positions.",
        ) from error


def _compare(module: torch.nn.Module, truth: torch.Tensor, actual: torch.Tensor, what: str, fix: str) -> None:
    """Raise InputError unless logits are equal but for rounding, in standard deviations of a row."""
    assert truth.shape == actual.shape, "one row of logits for each token was checked before"
    columns = truth.shape[-1]
    errors = logit_errors(truth.reshape(-1, columns).numpy(), actual.reshape(-1, columns).numpy())
    if not bool((errors <= FP32_LOGIT_ERROR).all()):
        raise InputError(
            f"{type(module).__name__} cannot be exported, since {what}",
            received=f"logits that differ by {errors.max():.3g} standard deviations",
            allowed=f"at most {FP32_LOGIT_ERROR:g}, which is rounding",
            fix=fix,
        )
