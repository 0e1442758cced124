"""Runs a graph that was cut into pieces over a prompt and the tokens behind it, call by call, on the CPU.

The state is the graph's own: what a piece wrote into it while it was fed the truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.artifact import WEIGHTS
from jisu.exporter.contract.signature import (
    ATTENTION_MASK,
    CAPACITY,
    INPUT_IDS,
    LOGITS_POSITIONS,
    PAST_LENGTH,
    TOKEN_TYPE_IDS,
    Signature,
)

if TYPE_CHECKING:
    import onnx_ir as ir

TokenIds = npt.NDArray[np.int64]
_ONNX_BFLOAT16 = 16


@dataclass(frozen=True, kw_only=True)
class Call:
    """Positions ``start`` .. ``stop`` of the text, fed at once. ``step`` is 0 for the prompt, then counts tokens."""

    start: int
    stop: int
    step: int


def calls(*, prompt: int, steps: int, one_token: bool) -> list[Call]:
    """The prompt at once, or token by token where the graph takes no more; then each token by itself."""
    cuts = range(prompt) if one_token else (0,)
    first = [Call(start=start, stop=start + 1 if one_token else prompt, step=0) for start in cuts]
    return first + [Call(start=prompt + index, stop=prompt + index + 1, step=index + 1) for index in range(steps)]


class GraphRun:
    """A session of a graph in memory whose weights stay in the artifact's folder."""

    def __init__(self, model: ir.Model, folder: Path, signature: Signature) -> None:
        import onnx_ir as ir

        from jisu.exporter.contract.import_onnxruntime import import_onnxruntime

        self._ort = import_onnxruntime()
        self._signature = signature
        options = self._ort.SessionOptions()
        options.log_severity_level = 3
        if (folder / WEIGHTS).exists():
            # A graph given as bytes has no folder of its own to look for its weights in.
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        data = ir.serde.serialize_model(model).SerializeToString()
        self._session = self._ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        self._read = {item.name for item in self._session.get_inputs()}
        self._read |= {item.name for item in self._session.get_overridable_initializers()}

    def over(
        self,
        token_ids: TokenIds,
        calls: Sequence[Call],
        fed: dict[str, npt.NDArray[np.float32]],
        names: Sequence[str],
        *,
        constant: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> Iterator[tuple[Call, dict[str, Any], dict[str, npt.NDArray[Any]]]]:
        """Run call after call.

        Args:
            token_ids: the whole text, int64 [T].
            fed: what the pieces are given, by input, float32 [T, C].
            names: the outputs to hand on.
            constant: what every call is given besides, by input: what an encoder wrote.

        Yields:
            The call, everything that went in (by name, arrays, and the runtime's own values of the state), and the
            outputs.
        """
        state = {spec.past: self._empty(spec.dtype, self._sizes(spec.dims, len(token_ids))) for spec in self._states()}
        written = {spec.past: spec.present for spec in self._states()}
        for call in calls:
            inputs = self._inputs(token_ids, call)
            inputs |= {name: array[None, call.start : call.stop] for name, array in fed.items()}
            inputs |= constant or {}
            values = {
                name: self._ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
                for name, array in inputs.items()
                if name in self._read
            }
            values |= {name: value for name, value in state.items() if name in self._read}
            outputs_read = [*dict.fromkeys([*names, *written.values()])]
            results = dict(zip(outputs_read, self._session.run_with_ort_values(outputs_read, values), strict=True))
            yield call, {**inputs, **state}, {name: results[name].numpy() for name in names}
            state = {past: results[present] for past, present in written.items()}

    def once(self, inputs: Mapping[str, npt.NDArray[Any]], names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """The outputs ``names`` of a graph without a state for its inputs; names that are none of its are left out."""
        read = {name: np.ascontiguousarray(array) for name, array in inputs.items() if name in self._read}
        return dict(zip(names, self._session.run(list(names), read), strict=True))

    def _states(self) -> tuple[Any, ...]:
        return self._signature.written

    def _inputs(self, token_ids: TokenIds, call: Call) -> dict[str, npt.NDArray[Any]]:
        width = call.stop - call.start
        fed = {
            INPUT_IDS: token_ids[None, call.start : call.stop],
            ATTENTION_MASK: np.ones((1, call.stop), np.int64),
            PAST_LENGTH: np.array([call.start], np.int64),
            TOKEN_TYPE_IDS: np.zeros((1, width), np.int64),
            LOGITS_POSITIONS: np.arange(width, dtype=np.int64)[None],
        }
        return {name: array for name, array in fed.items() if name in self._read}

    def _empty(self, dtype: str, sizes: list[int]) -> Any:
        value = self._ort.OrtValue
        if dtype == "bfloat16":
            return value.ortvalue_from_numpy_with_onnx_type(np.zeros(sizes, np.uint16), _ONNX_BFLOAT16)
        return value.ortvalue_from_numpy(np.zeros(sizes, np.dtype(dtype)))

    @staticmethod
    def _sizes(dims: Sequence[int | str], tokens: int) -> list[int]:
        return [dim if isinstance(dim, int) else tokens if dim == CAPACITY else 1 for dim in dims]
