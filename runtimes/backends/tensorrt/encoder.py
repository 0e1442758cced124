"""Two plans of a model that turns one text into another: the encoder's writes into the state that its decoder's reads.

Written against TensorRT 11 and TensorRT-RTX 1.7 and **never run on a GPU**: the tests stand in for library and driver.
"""

from __future__ import annotations

from typing import Any

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.backend import TokenIds
from jisu.exporter.contract.signature import ATTENTION_MASK, INPUT_IDS
from jisu.runtimes.backends.encoder_decoder import EncoderDecoderBackend
from jisu.runtimes.backends.tensorrt.backend import PlanBackend, PlanState
from jisu.runtimes.backends.tensorrt.contexts import Contexts
from jisu.runtimes.backends.tensorrt.device import Device
from jisu.runtimes.backends.tensorrt.library import Library
from jisu.runtimes.backends.tensorrt.plan_graph import plan_graphs
from jisu.runtimes.backends.tensorrt.profiles import PREFILL, Shapes


def open_encoder_decoder(
    library: Library, plans: tuple[bytes, bytes], artifact: Artifact, *, shapes: Shapes, cuda: Any
) -> EncoderDecoderBackend:
    """A backend of two plans; arguments and errors as for `PlanBackend`.

    Args:
        plans: the decoder's and the encoder's.
    """
    decoder = PlanBackend(library, plans[0], artifact, shapes=shapes, cuda=cuda)
    encode = _Encoder(library, plans[1], artifact, shapes=shapes, decoder=decoder)
    most, longest = artifact.manifest.model.max_source_positions, shapes.source or 1
    return EncoderDecoderBackend(
        decoder,
        encode,
        artifact.manifest.model,
        longest=longest,
        longer="open a plan with a larger --prompt" if most is None or most > longest else None,
    )


class _Encoder:
    """Runs an encoder's plan; what it needs of the GPU beside its weights is the decoder's to hold and to release."""

    def __init__(
        self, library: Library, plan: bytes, artifact: Artifact, *, shapes: Shapes, decoder: PlanBackend
    ) -> None:
        self._decoder = decoder
        device = decoder.device
        self._contexts = Contexts(library, plan, plan_graphs(artifact)[1], shapes=shapes, device=device)
        size = 8 * shapes.batch * (shapes.source or 1)
        self._fed = {name: device.allocate(size, purpose="sources") for name in (INPUT_IDS, ATTENTION_MASK)}

    def __call__(self, ids: TokenIds, mask: TokenIds, *, capacity: int, copies: int) -> PlanState:
        rows, tokens = ids.shape
        device, context = self._decoder.device, self._contexts.by_name[PREFILL]
        state = self._decoder.new_state(rows * copies, capacity, source=tokens, copies=copies)
        for name, array in ((INPUT_IDS, ids), (ATTENTION_MASK, mask)):
            device.write(self._fed[name], array)
            context.set_input_shape(name, array.shape)
            context.set_tensor_address(name, self._fed[name])
        written = [tensor for tensor in state.tensors if tensor.spec.kind == "encoder"]
        for tensor in written:
            context.set_tensor_address(tensor.spec.present, tensor.places[0])
        self._contexts.execute(PREFILL, rows=rows, tokens=tokens)
        if copies > 1:
            for tensor in written:
                _spread(device, tensor.places[0], tensor.nbytes // (rows * copies), rows=rows, copies=copies)
        return state


def _spread(device: Device, place: int, size: int, *, rows: int, copies: int) -> None:
    """Put copies of the first rows, of ``size`` bytes each, where they belong; the last first, so that none is lost."""
    for number in range(rows * copies - 1, 0, -1):
        device.copy(place + number * size, place + number // copies * size, size)
