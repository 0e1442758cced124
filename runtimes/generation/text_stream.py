"""One answer that is handed out while it is being generated."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.generation.beam_run import BeamRun
from jisu.runtimes.generation.result import Result
from jisu.runtimes.generation.text_run import TextRun

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class TextStream:
    """The pieces of one answer; when they are through, ``result`` has the whole. A search with beams has one piece.

    Leaving it early needs no care: ``close`` (or the end of a ``with`` block) stops the run and frees its memory, and
    the engine takes whatever comes next.
    """

    def __init__(self, run: TextRun | BeamRun) -> None:
        self._pieces = self._texts(run)
        self._result: Result | None = None
        self._closed = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._pieces)

    @property
    def result(self) -> Result:
        """The finished answer; raises InputError before the last piece was taken."""
        if self._result is None:
            raise unfinished(closed=self._closed)
        return self._result

    def close(self) -> None:
        """Compute no further; there are no more pieces then. Safe to call twice, and at the end."""
        self._closed = True
        self._pieces.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _texts(self, run: TextRun | BeamRun) -> Generator[str, None, None]:
        for pieces in run:
            for _, text in pieces:
                yield text
        self._result = run.results()[0]


def unfinished(*, closed: bool) -> InputError:
    """The error of a stream that has no result yet."""
    return InputError(
        "The answer is not finished",
        received="a stream closed before its end" if closed else "a stream with pieces left",
        allowed="a stream that was read to its end",
        fix="Iterate over it to its end first.",
    )
