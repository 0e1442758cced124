"""ONNX Runtime on an NVIDIA GPU: state and logits stay in its memory, single tokens run as a captured CUDA graph.

Strict: a session with a node that costs anything and is not on the GPU is refused, unless it was allowed. Written
against onnxruntime-gpu 1.31; **not run on a GPU yet**: the tests stand in for the package or for CUDA.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.backend import Logits, State, TokenIds, WantedLogits
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import ATTENTION_MASK
from jisu.runtimes.backends.ort.graph_interface import GraphInterface
from jisu.runtimes.backends.ort.signature import check_session
from jisu.runtimes.backends.ort_cuda.call import NOT_RECORDED, DeviceCall, DeviceGraph
from jisu.runtimes.backends.ort_cuda.device_state import DeviceState
from jisu.runtimes.backends.ort_cuda.session import NAME, PROVIDER, open_cuda_session
from jisu.runtimes.backends.ort_cuda.top import DeviceTop
from jisu.runtimes.backends.row_lengths import States, check_call, check_size
from jisu.runtimes.backends.token_by_token import run_token_by_token
from jisu.runtimes.backends.token_ids import id_array


class OrtCudaBackend:
    """Runs a graph that follows the signature contract on the GPU.

    Args:
        onnxruntime: the package, or what stands in for it.
        allow_cpu_nodes: let operators that cost something run on the CPU.
    """

    name = NAME

    def __init__(self, onnxruntime: Any, artifact: Artifact, *, allow_cpu_nodes: bool = False) -> None:
        self._ort, self._signature = onnxruntime, artifact.manifest.signature
        self.vocab_size = artifact.manifest.model.vocab_size
        self.max_positions = artifact.manifest.model.max_positions
        # Single tokens are recorded once for each state, whose addresses they use; prompts vary in length and are not.
        session, self.placement = open_cuda_session(
            onnxruntime, artifact.graph, captures=True, allow_cpu_nodes=allow_cpu_nodes
        )
        check_session(session, self._signature, provider=PROVIDER)
        interface = GraphInterface.of_session(
            session, self._signature, vocab_size=self.vocab_size, max_positions=self.max_positions
        )
        self._opened: DeviceGraph | None = DeviceGraph(onnxruntime=onnxruntime, session=session, interface=interface)
        self.states = States()
        self._next_graph = 1
        self._tops: dict[int, DeviceTop] = {}

    def new_state(self, batch: int, capacity: int) -> DeviceState:
        check_size(batch, capacity)
        return self.states.add(DeviceState(self._ort, self._signature, batch=batch, capacity=capacity))

    def forward(
        self, token_ids: TokenIds, state: State, *, new_lengths: TokenIds | None = None, logits: WantedLogits = "last"
    ) -> Logits:
        assert isinstance(state, DeviceState), "a state belongs to the backend that made it"
        graph = self._graph
        token_ids = id_array(token_ids)
        past, width = state.lengths, token_ids.shape[1]
        new = check_call(token_ids, new_lengths, lengths=past, capacity=state.capacity, vocab_size=self.vocab_size)
        wants_all = logits == "all"
        if width == 1 or self._fits_one_call(past, new, width):
            one = width == 1
            call = self._decode_call(state) if one else DeviceCall(graph, state, width=width, wants_all=wants_all)
            scores = call.run(token_ids, past, new)
            state.swap()
        else:
            scores = self._token_by_token(token_ids, state, past=past, new=new, wants_all=wants_all)
        state.advance(new)
        return scores

    def forward_top(self, token_ids: TokenIds, state: State, *, count: int) -> Logits:
        """See `exporter.contract.backend.TopBackend`."""
        assert isinstance(state, DeviceState), "a state belongs to the backend that made it"
        graph = self._graph
        token_ids = id_array(token_ids)
        past = state.lengths
        new = check_call(token_ids, None, lengths=past, capacity=state.capacity, vocab_size=self.vocab_size)
        call = self._decode_call(state)
        call.start(token_ids, past, new)
        largest = self._top(graph, count).of(call.logits)
        state.swap()
        state.advance(new)
        return call.fetch() if largest is None else largest

    @property
    def _graph(self) -> DeviceGraph:
        if self._opened is None:
            raise InputError(
                f"The backend {NAME} is closed",
                received="a call after close",
                allowed="calls before close",
                fix="Load it again.",
            )
        return self._opened

    def _top(self, graph: DeviceGraph, count: int) -> DeviceTop:
        count = min(count, self.vocab_size)
        if count not in self._tops:
            dtype = graph.interface.logits_dtype
            self._tops[count] = DeviceTop(self._ort, dtype=dtype, count=count, vocab_size=self.vocab_size)
        return self._tops[count]

    def _fits_one_call(self, past: TokenIds, new: TokenIds, width: int) -> bool:
        """Several tokens behind a past are taken for one row alone, and padding would run through a recurrent state."""
        if self._signature.takes_one_token:
            return False
        whole = bool((new == width).all())
        recurrent = self._graph.interface.is_recurrent
        behind = ATTENTION_MASK in self._graph.interface.inputs and bool(past.any())
        return (whole or not recurrent) and ((len(past) == 1 and whole) or not behind)

    def _token_by_token(
        self, token_ids: TokenIds, state: DeviceState, *, past: TokenIds, new: TokenIds, wants_all: bool
    ) -> Logits:
        def step(one: TokenIds, before: TokenIds) -> Logits:
            logits = self._decode_call(state).run(one, before, np.ones(len(before), np.int64))
            state.swap()
            return logits

        return run_token_by_token(
            step,
            token_ids,
            past=past,
            new=new,
            vocab_size=self.vocab_size,
            wants_all=wants_all,
            recurrent=bool(state.recurrent),
        )

    def _decode_call(self, state: DeviceState) -> DeviceCall:
        if state.phase not in state.decode:
            recording = NOT_RECORDED if self.placement.unrecorded else self._next_graph
            state.decode[state.phase] = DeviceCall(self._graph, state, width=1, wants_all=False, recording=recording)
            self._next_graph += 1
        call: DeviceCall = state.decode[state.phase]
        return call

    def close(self) -> None:
        self._opened = None
        self._tops.clear()
        self.states.release()
