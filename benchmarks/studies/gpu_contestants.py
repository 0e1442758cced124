"""Who runs a model on a GPU: torch, torch.compile, a bare ONNX Runtime session, and our backends.

Each takes a prompt and then its own most likely tokens one by one; a call ends when the token is known on the host, so
that clocks around it measure all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.signature import ATTENTION_MASK, CAPACITY, INPUT_IDS, LOGITS, LOGITS_POSITIONS, PAST_LENGTH

if TYPE_CHECKING:
    import torch

    from jisu.exporter.contract.artifact import Artifact
    from jisu.exporter.contract.backend import Backend, State

TokenIds = npt.NDArray[np.int64]


class Contestant(Protocol):
    """One way to run the model, batch 1."""

    name: str

    def prefill(self, token_ids: TokenIds) -> int:
        """Forget everything, run a prompt int64 [T], and return the most likely next token."""
        ...

    def decode(self, token: int) -> int:
        """Append a token and return the most likely next one."""
        ...


class OurBackend:
    """A backend of ours; its logits come to the host, as they do for users."""

    def __init__(self, backend: Backend, *, capacity: int) -> None:
        self.name = f"jisu {backend.name}"
        self._backend, self._capacity = backend, capacity
        self._state: State = backend.new_state(1, capacity)

    def prefill(self, token_ids: TokenIds) -> int:
        self._state.rewind(np.zeros(1, np.int64))
        return self._next(token_ids[None])

    def decode(self, token: int) -> int:
        return self._next(np.array([[token]]))

    def _next(self, token_ids: TokenIds) -> int:
        return int(self._backend.forward(token_ids, self._state)[0, -1].argmax())


class TorchModel:
    """transformers' own forward with a cache of fixed size; ``compiled`` with CUDA graphs on a GPU."""

    def __init__(self, model: Any, *, capacity: int, device: torch.device, dtype: torch.dtype, compiled: bool) -> None:
        import copy

        import torch

        self.name = "torch.compile" if compiled else "torch eager"
        self._torch, self._device, self._capacity = torch, device, capacity
        self._model = copy.deepcopy(model).to(device=device, dtype=dtype).eval()
        if hasattr(self._model, "set_attn_implementation"):
            self._model.set_attn_implementation("sdpa")
        mode = "reduce-overhead" if device.type == "cuda" else "default"
        self._step = torch.compile(self._model.forward, mode=mode, fullgraph=False) if compiled else self._model.forward
        self._cache: Any = None
        self._length = 0

    def prefill(self, token_ids: TokenIds) -> int:
        from transformers import StaticCache

        if self._cache is None:
            self._cache = StaticCache(config=self._model.config, max_cache_len=self._capacity)
        else:
            self._cache.reset()
        self._length = 0
        # Prompts have many lengths: what users compile is the step, and so do we.
        return self._next(token_ids[None], self._model.forward)

    def decode(self, token: int) -> int:
        return self._next(np.array([[token]], np.int64), self._step)

    def _next(self, token_ids: TokenIds, forward: Any) -> int:
        torch = self._torch
        ids = torch.from_numpy(token_ids).to(self._device)
        positions = torch.arange(self._length, self._length + ids.shape[1], device=self._device)
        with torch.no_grad():  # a cache made in inference mode cannot be reset outside of it
            output = forward(
                input_ids=ids,
                position_ids=positions[None],
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        self._length += ids.shape[1]
        return int(output.logits[0, -1].argmax())


class RawSession:
    """The artifact's graph in a plain session, its state bound on the device: no captured graph, nothing of ours."""

    def __init__(self, artifact: Artifact, *, capacity: int, provider: str, device: str) -> None:
        from jisu.exporter.contract.import_onnxruntime import import_onnxruntime
        from jisu.runtimes.backends.element_types import storage_dtype

        self.name = "raw session"
        self._ort, self._device, self._capacity = import_onnxruntime(), device, capacity
        self._signature = artifact.manifest.signature
        graph = artifact.graph if device == "cuda" else artifact.cpu_graph
        options = self._ort.SessionOptions()
        options.log_severity_level = 3
        self._session = self._ort.InferenceSession(str(graph), options, providers=[provider])
        sizes: dict[int | str, int] = {"B": 1, CAPACITY: capacity}
        self._state = {
            spec.past: self._value(np.zeros([int(sizes.get(dim, dim)) for dim in spec.dims], storage_dtype(spec.dtype)))
            for spec in self._signature.state
        }
        self._length = 0

    def prefill(self, token_ids: TokenIds) -> int:
        self._length = 0
        return self._next(token_ids[None])

    def decode(self, token: int) -> int:
        return self._next(np.array([[token]], np.int64))

    def _next(self, token_ids: TokenIds) -> int:
        width = token_ids.shape[1]
        binding = self._session.io_binding()
        fed = {
            INPUT_IDS: token_ids,
            ATTENTION_MASK: np.ones((1, self._length + width), np.int64),
            PAST_LENGTH: np.array([self._length], np.int64),
            LOGITS_POSITIONS: np.array([[width - 1]], np.int64),
        }
        for name, array in fed.items():
            if self._signature.has_input(name):
                binding.bind_ortvalue_input(name, self._value(np.ascontiguousarray(array)))
        for spec in self._signature.state:
            binding.bind_ortvalue_input(spec.past, self._state[spec.past])
            binding.bind_ortvalue_output(spec.present, self._state[spec.past])
        binding.bind_output(LOGITS, self._device)
        self._session.run_with_iobinding(binding)
        self._length += width
        logits = binding.copy_outputs_to_cpu()[len(self._signature.state)]
        return int(logits[0, -1].argmax())

    def _value(self, array: npt.NDArray[Any]) -> Any:
        return self._ort.OrtValue.ortvalue_from_numpy(array, self._device, 0)
