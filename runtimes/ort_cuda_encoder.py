"""A model that turns a text into another on ONNX Runtime's CUDA provider: the encoder once, then its decoder.

What the encoder wrote stays in the GPU's memory. Written against onnxruntime-gpu 1.31; **not run on a GPU yet**: the
tests stand in for the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from exporter.artifact import Artifact
from exporter.errors import InputError
from exporter.signature import ATTENTION_MASK, INPUT_IDS, SOURCE
from runtimes.backend import Logits, State, TokenIds, WantedLogits
from runtimes.host_state import BATCH
from runtimes.lengths import check_size, closed, padded_sources
from runtimes.ort_cuda import DeviceState, OrtCudaBackend, device_zeros
from runtimes.ort_cuda_session import DEVICE, NAME, PROVIDER, not_run, open_cuda_session
from runtimes.ort_placement import joined
from runtimes.ort_signature import check_encoder_session


class OrtCudaEncoderBackend:
    """Runs an encoder's graph once for each batch of sources, and then its decoder's, which goes on as any other.

    Args:
        onnxruntime: the package, or what stands in for it.
        allow_cpu_nodes: let operators that cost something run on the processor.
    """

    name = NAME

    def __init__(self, onnxruntime: Any, artifact: Artifact, *, allow_cpu_nodes: bool = False) -> None:
        facts, self._signature = artifact.manifest.model, artifact.manifest.signature
        self._decoder = OrtCudaBackend(onnxruntime, artifact, allow_cpu_nodes=allow_cpu_nodes)
        # Sources differ in length: there are no two calls of one shape that a recording would serve.
        encoder, placement = open_cuda_session(
            onnxruntime, artifact.encoder, captures=False, allow_cpu_nodes=allow_cpu_nodes
        )
        check_encoder_session(encoder, self._signature, provider=PROVIDER)
        self.placement = joined(self._decoder.placement, placement)
        self.vocab_size = self._decoder.vocab_size
        self.max_positions = self._decoder.max_positions
        self.max_source_positions = facts.max_source_positions
        self._ort = onnxruntime
        self._encoder: Any | None = encoder
        self._padding = facts.pad or 0

    def new_state(self, batch: int, capacity: int) -> DeviceState:
        raise InputError(
            "This model says something about a source, and there is none",
            received="a new state",
            allowed="a state of encoded sources",
            fix="Call encode.",
        )

    def encode(self, sources: Sequence[Sequence[int]], *, capacity: int, copies: int = 1) -> DeviceState:
        ids, mask = padded_sources(
            sources, padding=self._padding, vocab_size=self.vocab_size, longest=self.max_source_positions
        )
        batch = len(sources) * copies
        check_size(batch, capacity)
        if self._encoder is None:
            raise closed(self.name)
        written = self._run(self._encoder, ids, mask)
        if copies > 1:
            # By way of this machine's memory, once for each answer: the package copies no parts of a tensor.
            written = {name: self._value(np.repeat(value.numpy(), copies, axis=0)) for name, value in written.items()}
        return DeviceState(self._ort, self._signature, batch=batch, capacity=capacity, encoded=written, copies=copies)

    def _run(self, encoder: Any, ids: TokenIds, mask: TokenIds) -> dict[str, Any]:
        """What the encoder says of sources [B, source], by the names under which the decoder reads it."""
        rows, tokens = ids.shape
        binding, options = encoder.io_binding(), self._ort.RunOptions()
        given = {INPUT_IDS: self._value(ids), ATTENTION_MASK: self._value(mask)}
        for name, value in given.items():
            binding.bind_ortvalue_input(name, value)
        written = {}
        for spec in self._signature.encoded:
            named = {BATCH: rows, SOURCE: tokens}
            sizes = [int(named.get(str(dim), dim)) for dim in spec.dims]
            written[spec.present] = device_zeros(self._ort, sizes, spec.dtype, purpose=spec.present)
            binding.bind_ortvalue_output(spec.present, written[spec.present])
        try:
            encoder.run_with_iobinding(binding, options)
        except Exception as error:  # the package's errors share no class of their own
            raise not_run(error, rows=rows, tokens=tokens) from error
        return written

    def _value(self, array: Any) -> Any:
        return self._ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), DEVICE, 0)

    def forward(
        self, token_ids: TokenIds, state: State, *, new_lengths: TokenIds | None = None, logits: WantedLogits = "last"
    ) -> Logits:
        return self._decoder.forward(token_ids, state, new_lengths=new_lengths, logits=logits)

    def forward_top(self, token_ids: TokenIds, state: State, *, count: int) -> Logits:
        """See `runtimes.backend.TopBackend`."""
        return self._decoder.forward_top(token_ids, state, count=count)

    def close(self) -> None:
        self._encoder = None
        self._decoder.close()
