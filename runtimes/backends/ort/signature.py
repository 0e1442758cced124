"""Does an opened ONNX Runtime session have the inputs and outputs that the manifest promises?"""

from __future__ import annotations

from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import CAPACITY, INPUT_IDS, LOGITS, SENTENCE_EMBEDDING, SOURCE, Signature

_TYPES = {"float32": "float", "float64": "double"}  # all others are spelled alike


def check_session(session: Any, signature: Signature, *, provider: str) -> None:
    """Compare a session with a signature; raises InputError that names every difference at once."""
    outputs = [spec.name for spec in signature.outputs]
    faults = _session_faults(session, signature, provider=provider)
    if not signature.has_input(INPUT_IDS) or not {LOGITS, SENTENCE_EMBEDDING} & set(outputs):
        faults.append(f"the manifest names no {INPUT_IDS}, or neither {LOGITS} nor {SENTENCE_EMBEDDING}")
    for state in signature.state:
        unknown = [str(dim) for dim in state.dims if isinstance(dim, str) and dim not in ("B", CAPACITY, SOURCE)]
        faults += [f"the dim {dim} of the state {state.past} is not known" for dim in unknown]
    _refuse(faults, "graph")


def check_encoder_session(session: Any, signature: Signature, *, provider: str) -> None:
    """Compare an encoder's session with what follows from its decoder's signature; raises InputError as above."""
    # How many positions an encoder of sound makes of a window is a number that only its graph knows.
    free = (SOURCE,) if signature.heard else ()
    _refuse(_session_faults(session, signature.encoder(), provider=provider, free=free), "encoder's graph")


def check_frames_session(session: Any, signature: Signature, *, provider: str) -> None:
    """Compare the session of a graph that labels frames with its signature; raises InputError as above."""
    faults = _session_faults(session, signature, provider=provider)
    if len(signature.inputs) != 1 or LOGITS not in [spec.name for spec in signature.outputs]:
        faults.append(f"the manifest names {len(signature.inputs)} inputs or no {LOGITS}")
    _refuse(faults, "graph")


def _refuse(faults: list[str], graph: str) -> None:
    if faults:
        raise InputError(
            f"The {graph} does not have the signature of its manifest",
            received="; ".join(faults),
            allowed="what the manifest lists",
            fix="Export the model again; the graph or the manifest was replaced.",
        )


def _session_faults(session: Any, signature: Signature, *, provider: str, free: tuple[str, ...] = ()) -> list[str]:
    """Every difference; the dims called ``free`` may be numbers in the graph."""
    faults = []
    if provider not in session.get_providers():
        faults.append(f"it runs on {', '.join(session.get_providers())} instead of {provider}")
    inputs = [(spec.name, spec.dtype, spec.dims) for spec in signature.inputs]
    outputs = [(spec.name, spec.dtype, spec.dims) for spec in signature.outputs]
    inputs += [(spec.past, spec.dtype, spec.dims) for spec in signature.state]
    outputs += [(spec.present, spec.dtype, spec.dims) for spec in signature.written]
    session_inputs = {item.name: item for item in session.get_inputs()}
    optional = {item.name: item for item in session.get_overridable_initializers()}
    session_outputs = {item.name: item for item in session.get_outputs()}
    for kind, promised, actual in (
        ("input", inputs, {**optional, **session_inputs}),
        ("output", outputs, session_outputs),
    ):
        for name, dtype, dims in promised:
            faults += _differences(kind, name, dtype, dims, actual.get(name), free)
    unknown = sorted(set(session_inputs) - {name for name, _, _ in inputs})
    faults += [f"the input {name} is not in the manifest" for name in unknown]
    return faults


def _differences(
    kind: str, name: str, dtype: str, dims: tuple[int | str, ...], actual: Any | None, free: tuple[str, ...]
) -> list[str]:
    if actual is None:
        return [f"the {kind} {name} is missing"]
    faults = []
    if actual.type != f"tensor({_TYPES.get(dtype, dtype)})":
        faults.append(f"the {kind} {name} is {actual.type} instead of {dtype}")
    shape = list(actual.shape)
    # A number where the manifest has a letter is a dimension that the trace froze.
    if len(shape) != len(dims) or any(
        isinstance(have, int) and have != want and want not in free for have, want in zip(shape, dims, strict=False)
    ):
        faults.append(f"the {kind} {name} has the shape {shape} instead of {list(dims)}")
    return faults
