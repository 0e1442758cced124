"""A model that turns a text into another on ONNX Runtime's CUDA provider: the encoder once, then its decoder.

What the encoder wrote stays in the GPU's memory. Written against onnxruntime-gpu 1.31; **not run on a GPU yet**: the
tests stand in for the package.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.backend import Logits, State, TokenIds
from jisu.exporter.contract.signature import ATTENTION_MASK, INPUT_IDS
from jisu.runtimes.backends.encoder_decoder import EncoderDecoderBackend
from jisu.runtimes.backends.ort.placement import joined
from jisu.runtimes.backends.ort.signature import check_encoder_session
from jisu.runtimes.backends.ort_cuda.backend import OrtCudaBackend
from jisu.runtimes.backends.ort_cuda.device_state import DeviceState, bind_state, device_zeros
from jisu.runtimes.backends.ort_cuda.session import PROVIDER, not_run, on_gpu, open_cuda_session
from jisu.runtimes.backends.state_sizes import state_sizes


class OrtCudaEncoderBackend(EncoderDecoderBackend):
    """The same on the GPU, where the largest logits can be picked.

    Args:
        onnxruntime: the package, or what stands in for it.
        allow_cpu_nodes: let operators that cost something run on the CPU.
    """

    def __init__(self, onnxruntime: Any, artifact: Artifact, *, allow_cpu_nodes: bool = False) -> None:
        facts, signature = artifact.manifest.model, artifact.manifest.signature
        self._on_gpu = OrtCudaBackend(onnxruntime, artifact, allow_cpu_nodes=allow_cpu_nodes)
        # Sources differ in length: there are no two calls of one shape that a recording would serve.
        session, placement = open_cuda_session(
            onnxruntime, artifact.encoder, captures=False, allow_cpu_nodes=allow_cpu_nodes
        )
        check_encoder_session(session, signature, provider=PROVIDER)
        self.placement = joined(self._on_gpu.placement, placement)

        def encode(ids: TokenIds, mask: TokenIds, *, capacity: int, copies: int) -> DeviceState:
            written = _written(onnxruntime, session, artifact, ids, mask)
            batch = len(ids) * copies
            if copies > 1:
                # By way of this machine's memory, once for each answer: the package copies no parts of a tensor.
                written = {
                    name: on_gpu(onnxruntime, value.numpy().repeat(copies, axis=0), rows=batch, tokens=ids.shape[1])
                    for name, value in written.items()
                }
            state = DeviceState(onnxruntime, signature, batch=batch, capacity=capacity, encoded=written, copies=copies)
            return self._on_gpu.states.add(state)

        super().__init__(self._on_gpu, encode, facts, longest=facts.max_source_positions)

    def forward_top(self, token_ids: TokenIds, state: State, *, count: int) -> Logits:
        """See `exporter.contract.backend.TopBackend`."""
        return self._on_gpu.forward_top(token_ids, state, count=count)


def _written(onnxruntime: Any, session: Any, artifact: Artifact, ids: TokenIds, mask: TokenIds) -> dict[str, Any]:
    """What the encoder says of sources [B, source], by the names under which the decoder reads it."""
    rows, tokens = ids.shape
    binding = session.io_binding()
    inputs = {
        name: on_gpu(onnxruntime, np.ascontiguousarray(array), rows=rows, tokens=tokens)
        for name, array in ((INPUT_IDS, ids), (ATTENTION_MASK, mask))
    }
    for name, value in inputs.items():
        binding.bind_ortvalue_input(name, value)
    written = {}
    purpose = f"what the encoder says of {rows} texts of {tokens} tokens"
    for spec in artifact.manifest.signature.encoded:
        sizes = state_sizes(spec, batch=rows, capacity=0, source=tokens)
        written[spec.past] = device_zeros(onnxruntime, sizes, spec.dtype, purpose=purpose)
        bind_state(binding.bind_output, spec.present, written[spec.past], spec.dtype)
    try:
        session.run_with_iobinding(binding, onnxruntime.RunOptions())
    except Exception as error:  # the package's errors share no class of their own
        raise not_run(error, rows=rows, tokens=tokens) from error
    return written
