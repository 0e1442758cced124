"""The contract between exporter and runtimes: which tensors go into a graph, which come out, and what it carries.

Standard library only, so that running an artifact needs neither torch nor onnx.

Dimension names: ``B`` batch, ``T`` new tokens, ``S`` total sequence, ``V`` vocabulary, ``K`` requested logits,
``capacity`` the tokens that a key/value buffer has room for, ``source`` the tokens of the text that an encoder read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from jisu.exporter.contract.errors import InputError

StateKind = Literal["kv", "recurrent", "encoder"]
STATE_KINDS: tuple[StateKind, ...] = ("kv", "recurrent", "encoder")
CAPACITY = "capacity"
SOURCE = "source"
# The axis that tensors of a kind have, and those of the other kinds have not.
_AXES: dict[StateKind, str] = {"kv": CAPACITY, "encoder": SOURCE}
_LARGEST = 1 << 31  # of one axis
DTYPES = ("float16", "float32", "float64", "bfloat16", "int8", "int32", "int64", "uint8", "bool")

# Inputs a graph may have besides its state. A runtime feeds the ones that the signature lists.
INPUT_IDS = "input_ids"  # int64 [B, T]
ATTENTION_MASK = "attention_mask"  # int64 [B, S], 1 for each token seen so far including the new ones, then 0
PAST_LENGTH = "past_length"  # int64 [B], tokens already in the state
LOGITS_POSITIONS = "logits_positions"  # int64 [1 or B, K], optional; negative counts from each row's end; default -1
TOKEN_TYPE_IDS = "token_type_ids"  # int64 [B, T], 0 for the first text of a pair and 1 for the second
LOGITS = "logits"  # float32 [B, K, V]; of a model that reads a whole text at once [B, N], or [B, T, N] for its tokens
# Of an embedding model, under the names that sentence-transformers and Optimum know: float32 [B, D] and [B, T, C].
SENTENCE_EMBEDDING = "sentence_embedding"
LAST_HIDDEN_STATE = "last_hidden_state"
# Of a model that reads images, or recordings: all optional, and without them a text is read. Rows of features of both
# kinds take the places of tokens in the same way, under the first one's names.
IMAGE_FEATURES = "image_features"  # float32 [image rows, features]
IMAGE_INDEX = "image_index"  # int64 [B, T]: 0 for a token of text, n for row n - 1 of the image features
IMAGE_SHIFTS = "image_shifts"  # int64 [3, B, T], added to a token's place in the text for each row of positions
AUDIO_FEATURES = "audio_features"  # float32 [rows, features], what the graph that hears gives of one recording
# int64 [B, capacity], of all tokens that a row has room for: 0 for one that sees only those before it. Neighbours of
# another type see each other by the model's own rule.
TOKEN_TYPES = "token_types"


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One graph input or output: its name, its ONNX element type in numpy's spelling, and its dims."""

    name: str
    dtype: str
    dims: tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True)
class StateSpec:
    """One tensor that the model carries from call to call.

    A ``kv`` tensor is a buffer with one axis named ``capacity``; a ``recurrent`` tensor has a fixed shape per row.
    ``past`` names the graph input, ``present`` the graph output of the same dtype and dims. An ``encoder`` tensor has
    one axis named ``source``: the encoder's graph writes it once, under the name by which the decoder's graph reads it
    in every call.
    """

    past: str
    present: str
    kind: StateKind
    dtype: str
    dims: tuple[int | str, ...]

    def __post_init__(self) -> None:
        if self.kind not in STATE_KINDS:
            raise InputError(
                f"State tensor {self.past} has an unknown kind",
                received=self.kind,
                allowed=", ".join(STATE_KINDS),
                fix="Export the model again with this version.",
            )
        if any((axis in self.dims) != (self.kind == kind) for kind, axis in _AXES.items()):
            raise InputError(
                f"State tensor {self.past} of kind {self.kind} has the wrong dims",
                received=self.dims,
                allowed=f"one axis named {CAPACITY!r} for kv, one named {SOURCE!r} for encoder, neither for recurrent",
                fix="Correct the state specification of the model.",
            )
        if self.kind == "encoder" and self.past != self.present:
            raise InputError(
                f"State tensor {self.past} of kind encoder has two names",
                received=f"{self.past} and {self.present}",
                allowed="one: what the encoder writes is what the decoder reads",
                fix="Export the model again.",
            )


# (name, kind, dims, dtype), as a traced module's `state_spec()` lists its state.
StateItem = tuple[str, StateKind, tuple[int | str, ...], str]
# What inputs and outputs add to the name of a state tensor; onnxruntime-genai and Optimum know the first pair.
STATE_PREFIXES: dict[StateKind, tuple[str, str]] = {
    "kv": ("past_key_values.", "present."),
    "recurrent": ("past_state.", "present_state."),
    "encoder": ("encoder_state.", "encoder_state."),
}


def state_specs(items: Sequence[StateItem]) -> tuple[StateSpec, ...]:
    """Name the graph inputs and outputs of a module's state."""
    return tuple(
        StateSpec(
            past=STATE_PREFIXES[kind][0] + name,
            present=STATE_PREFIXES[kind][1] + name,
            kind=kind,
            dtype=dtype,
            dims=dims,
        )
        for name, kind, dims, dtype in items
    )


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Everything that a runtime has to know to call a graph.

    ``heard`` is what an encoder reads in the place of a text's token ids and their mask.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    state: tuple[StateSpec, ...]
    heard: tuple[TensorSpec, ...] = ()

    def has_input(self, name: str) -> bool:
        return any(spec.name == name for spec in self.inputs)

    @property
    def takes_one_token(self) -> bool:
        """Whether each call brings exactly one new token for every row, so that a prompt takes as many calls."""
        return any(spec.name == INPUT_IDS and spec.dims[1:] == (1,) for spec in self.inputs)

    @property
    def written(self) -> tuple[StateSpec, ...]:
        """The state tensors that the graph gives back."""
        return tuple(spec for spec in self.state if spec.kind != "encoder")

    @property
    def encoded(self) -> tuple[StateSpec, ...]:
        """The state tensors that only the encoder's graph writes; none where there is no encoder."""
        return tuple(spec for spec in self.state if spec.kind == "encoder")

    def encoder(self) -> Signature:
        """What goes into the encoder's graph and comes out of it, which follows from what the decoder reads."""
        dims = ("B", SOURCE)
        text = tuple(TensorSpec(name=name, dtype="int64", dims=dims) for name in (INPUT_IDS, ATTENTION_MASK))
        return Signature(
            inputs=self.heard or text,
            outputs=tuple(TensorSpec(name=spec.present, dtype=spec.dtype, dims=spec.dims) for spec in self.encoded),
            state=(),
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Signature:
        """Read what `to_dict` wrote; raises InputError when a field is missing or unknown."""
        try:
            return cls(
                inputs=tuple(_tensor(spec) for spec in data["inputs"]),
                outputs=tuple(_tensor(spec) for spec in data["outputs"]),
                state=tuple(StateSpec(**_checked(spec)) for spec in data["state"]),
                heard=tuple(_tensor(spec) for spec in data.get("heard", ())),
            )
        except (KeyError, TypeError) as error:
            raise InputError(
                "The signature in the manifest cannot be read",
                received=error,
                allowed="the signature as the export wrote it",
                fix="Export the model again; the manifest was altered or written by another version.",
            ) from error


def _tensor(data: dict[str, Any]) -> TensorSpec:
    return TensorSpec(**_checked(data))


def _checked(data: dict[str, Any]) -> dict[str, Any]:
    """A specification with its dims as a tuple; raises TypeError when a name is no text or a dtype is unknown."""
    if not isinstance(data, dict):
        raise TypeError(f"a specification must be an object, not {data!r}")
    for name in ("name", "past", "present"):
        if not isinstance(data.get(name, ""), str):
            raise TypeError(f"{name} must be a text, not {data[name]!r}")
    if data["dtype"] not in DTYPES:
        raise TypeError(f"dtype must be one of {', '.join(DTYPES)}, not {data['dtype']!r}")
    return {**data, "dims": _dims(data["dims"])}


def _dims(data: Any) -> tuple[int | str, ...]:
    if not isinstance(data, (list, tuple)) or not all(isinstance(dim, (int, str)) for dim in data):
        raise TypeError(f"dims must be a list of sizes and names, not {data!r}")
    if any(isinstance(dim, int) and (isinstance(dim, bool) or not 0 < dim <= _LARGEST) for dim in data):
        raise TypeError(f"sizes must be from 1 to {_LARGEST}, not {data!r}")
    return tuple(data)
