"""The errors a user can cause, each saying what failed, what was received, what is allowed and what to do.

The command line prints them without a traceback and exits with their code; a traceback means a bug of ours.
"""

from __future__ import annotations

from typing import Any, Protocol


class FourParts(Protocol):
    """An error that keeps what failed, what was received, what is allowed and what to do apart."""

    failed: str
    received: object
    allowed: object
    fix: str


class JisuError(Exception):
    """An error whose message a user can act on.

    Args:
        failed: what failed, one sentence without its full stop.
        received: what was found instead of what was needed.
        allowed: what would have been accepted.
        fix: the next step, an imperative sentence.
    """

    exit_code = 2

    def __init__(self, failed: str, *, received: object = None, allowed: object = None, fix: str | None = None) -> None:
        parts = [failed]
        if received is not None:
            # An empty word would read as if nothing were said.
            parts.append(f"Received: {received if str(received).strip() else repr(received)}")
        if allowed is not None:
            parts.append(f"Allowed: {allowed}")
        if fix is not None:
            parts.append(fix)
        super().__init__(" ".join(part if part.endswith((".", "!", "?")) else f"{part}." for part in parts))


class InputError(JisuError):
    """Bad usage, an unsupported model or unreadable input; nothing was written."""

    @classmethod
    def of(cls, error: FourParts) -> InputError:
        """The same error as one of ours, of another package that says it in the same four parts."""
        return cls(error.failed, received=error.received, allowed=error.allowed, fix=error.fix)


class MissingDependencyError(InputError):
    """A package that this step needs is not installed."""

    def __init__(self, package: str, *, extra: str, needed_for: str) -> None:
        super().__init__(
            f"{needed_for} needs the package {package}, which is not installed",
            fix=f"Install it with: pip install 'jisu[{extra}]'.",
        )


class GateRejectedError(JisuError):
    """The exported graph is not the model it was made from; nothing was published.

    ``gate`` is the record of all checks, as a manifest has it.
    """

    exit_code = 3
    gate: dict[str, Any] | None = None
