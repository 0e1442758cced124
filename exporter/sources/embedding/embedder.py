"""A text's vector as one module: the encoder, the pooling of its states, and what follows it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import ATTENTION_MASK
from jisu.exporter.sources.embedding.description import EmbeddingDescription, EmbeddingStep, PoolingMode
from jisu.exporter.sources.embedding.pooling import pool

_SAFETENSORS, _PICKLE = "model.safetensors", "pytorch_model.bin"
# Of a vector: more than any model gives.
_MOST_NUMBERS = 1 << 20
# Keys of a Dense module that say what is built; those of names are at their defaults or refused.
_DENSE = {"in_features", "out_features", "bias", "activation_function", "use_residual"}
_NAMES = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}


class Embeddings(NamedTuple):
    """``last_hidden_state`` float32 [B, T, C] of the encoder, ``sentence_embedding`` float32 [B, D]."""

    last_hidden_state: Tensor
    sentence_embedding: Tensor


class Normalize(nn.Module):
    """Gives each vector length 1."""

    def forward(self, vectors: Tensor) -> Tensor:
        return torch.nn.functional.normalize(vectors, p=2.0, dim=1)


class Dense(nn.Module):
    """A linear layer and an activation; with ``residual``, added to the vector, in another size by a linear layer."""

    def __init__(self, sizes: tuple[int, int], *, bias: bool, activation: nn.Module, residual: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(*sizes, bias=bias)
        self.activation = activation
        self.adds = residual
        self.residual = nn.Linear(*sizes, bias=False) if residual and sizes[0] != sizes[1] else None

    def forward(self, vectors: Tensor) -> Tensor:
        actual: Tensor = self.activation(self.linear(vectors))
        if not self.adds:
            return actual
        return actual + (vectors if self.residual is None else self.residual(vectors))


class LayerMean(nn.Module):
    """One state for each token: the weighted mean of its states behind several layers, the embedding being the first.

    Args:
        layers: of the encoder.
        start: the first that counts, 0 for the embedding.
    """

    def __init__(self, layers: int, start: int) -> None:
        super().__init__()
        self.start = start
        self.layer_weights = nn.Parameter(torch.ones(layers + 1 - start))

    def forward(self, states: tuple[Tensor, ...]) -> Tensor:
        weights = self.layer_weights[:, None, None, None]
        return (weights * torch.stack(states[self.start :])).sum(dim=0) / self.layer_weights.sum()


class SentenceEmbedder(nn.Module):
    """``forward(input_ids, attention_mask[, token_type_ids]) -> Embeddings`` of an encoder of transformers.

    Args:
        transformer: the encoder, without a head.
        pooling: modes, whose vectors stand behind each other.
        steps: modules that each take and give a vector for each text.
        layers: makes a state of those of all layers; None for that of the last.
        pools_prompt: whether all tokens are pooled; otherwise those of type 1 are not, which the encoder is not told.
    """

    def __init__(
        self,
        transformer: nn.Module,
        pooling: tuple[PoolingMode, ...],
        steps: list[nn.Module],
        *,
        layers: LayerMean | None = None,
        pools_prompt: bool = True,
    ) -> None:
        super().__init__()
        self.layers, self.pools_prompt = layers, pools_prompt
        self.transformer = transformer
        self.pooling = pooling
        self.steps = nn.Sequential(*steps)
        self._more = {"use_cache": False} if "use_cache" in inspect.signature(transformer.forward).parameters else {}
        self._more |= {"output_hidden_states": True} if layers is not None else {}

    @property
    def config(self) -> Any:
        """Of the encoder."""
        return self.transformer.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Embeddings:
        output = self.transformer(input_ids, **{ATTENTION_MASK: attention_mask}, **self._more)
        states: Tensor = output[0] if self.layers is None else self.layers(output.hidden_states)
        states = states.to(torch.float32)
        counted = attention_mask if token_type_ids is None else attention_mask * (token_type_ids == 0)
        vectors = [pool(states, counted, mode, tokens=attention_mask) for mode in self.pooling]
        pooled = torch.cat(vectors, dim=-1)
        return Embeddings(states, self.steps(pooled))


def build_embedder(
    transformer: nn.Module, description: EmbeddingDescription, *, hidden: int, allow_pickle: bool = False
) -> SentenceEmbedder:
    """The module of a folder, its weights read, in eval mode and without gradients.

    Args:
        hidden: numbers in a state of the encoder.

    Raises:
        InputError: a step's weights are missing, of another shape, or pickled without ``allow_pickle``.
    """
    steps, _ = build_steps(description.steps, hidden * len(description.pooling), allow_pickle=allow_pickle)
    layers = _layer_mean(transformer, description)
    if layers is not None and description.layers is not None:
        weights = dict(layers.named_parameters())
        layers.load_state_dict(_read_weights(description.layers, weights, allow_pickle=allow_pickle))
    embedder = SentenceEmbedder(
        transformer, description.pooling, steps, layers=layers, pools_prompt=description.pools_prompt
    ).eval()
    embedder.requires_grad_(requires_grad=False)
    return embedder


def build_steps(
    described: Sequence[EmbeddingStep], size: int, *, allow_pickle: bool = False
) -> tuple[list[nn.Module], int]:
    """The modules of steps for vectors of a size, their weights read, and the size that the last one gives.

    Raises:
        InputError: see `build_embedder`.
    """
    steps = []
    for step in described:
        module, size = _build(step, size)
        weights = dict(module.named_parameters())
        if weights:
            module.load_state_dict(_read_weights(step, weights, allow_pickle=allow_pickle))
        steps.append(module)
    return steps, size


def outline_embedder(transformer: nn.Module, description: EmbeddingDescription, *, hidden: int) -> SentenceEmbedder:
    """The same without weights, on torch's meta device."""
    size, steps = hidden * len(description.pooling), []
    with torch.device("meta"):
        for step in description.steps:
            module, size = _build(step, size)
            steps.append(module)
        layers = _layer_mean(transformer, description)
    return SentenceEmbedder(
        transformer, description.pooling, steps, layers=layers, pools_prompt=description.pools_prompt
    ).eval()


def _layer_mean(transformer: nn.Module, description: EmbeddingDescription) -> LayerMean | None:
    """What makes one state of those of all layers, without its weights."""
    step = description.layers
    if step is None:
        return None
    _check_names(step, {"word_embedding_dimension", "layer_start", "num_hidden_layers"})
    _check_size(step, "word_embedding_dimension", hidden_size(transformer))
    config: Any = transformer.config
    layers = int(config.get_text_config().num_hidden_layers)
    start, stated = step.settings.get("layer_start", 4), step.settings.get("num_hidden_layers", 12)
    if stated != layers or type(start) is not int or not 0 <= start <= layers:
        raise _unusable(step, f"layers {start!r} to {stated!r} where the encoder has {layers}")
    return LayerMean(layers, start)


def hidden_size(transformer: Any) -> int:
    """Numbers in a state of an encoder of transformers."""
    return int(transformer.config.get_text_config().hidden_size)


def dimensions_of(embedder: SentenceEmbedder, *, hidden: int) -> int:
    """Numbers in a vector."""
    sizes = [step.linear.out_features for step in embedder.steps if isinstance(step, Dense)]
    return sizes[-1] if sizes else hidden * len(embedder.pooling)


def _build(step: EmbeddingStep, size: int) -> tuple[nn.Module, int]:
    """One step for vectors of a size, and the size that it gives."""
    if step.kind == "Normalize":
        _check_names(step, set(_NAMES))
        return Normalize(), size
    if step.kind == "Dropout":
        return nn.Identity(), size  # it is for training
    if step.kind == "LayerNorm":
        _check_size(step, "dimension", size)
        return VectorNorm(size), size
    _check_names(step, _DENSE | set(_NAMES))
    _check_size(step, "in_features", size)
    out = step.settings.get("out_features")
    if not isinstance(out, int) or not 1 <= out <= _MOST_NUMBERS:
        raise _unusable(step, f"out_features {out!r}")
    dense = Dense(
        (size, out),
        bias=bool(step.settings.get("bias", True)),
        activation=_activation(step),
        residual=bool(step.settings.get("use_residual", False)),
    )
    return dense, out


class VectorNorm(nn.Module):
    """A layer norm under the name that its file gives it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)

    def forward(self, vectors: Tensor) -> Tensor:
        actual: Tensor = self.norm(vectors)
        return actual


def _check_size(step: EmbeddingStep, key: str, size: int) -> None:
    if step.settings.get(key) != size:
        raise _unusable(step, f"{key} {step.settings.get(key)!r} where vectors have {size} numbers")


def _check_names(step: EmbeddingStep, known: set[str]) -> None:
    wrong = [key for key in step.settings if key not in known]
    wrong += [
        f"{key} {step.settings[key]!r}" for key, name in _NAMES.items() if step.settings.get(key) not in (None, name)
    ]
    if wrong:
        raise _unusable(step, ", ".join(wrong))


def _activation(step: EmbeddingStep) -> nn.Module:
    """The activation that a path such as ``torch.nn.modules.activation.Tanh`` names; nothing but torch's is built."""
    path = step.settings.get("activation_function", "torch.nn.modules.activation.Tanh")
    name = path.rpartition(".")[2] if isinstance(path, str) and path.startswith("torch.nn.") else ""
    kind = getattr(nn, name, None)
    modules = ("torch.nn.modules.activation", "torch.nn.modules.linear")
    if not (isinstance(kind, type) and issubclass(kind, nn.Module) and kind.__module__ in modules):
        raise _unusable(step, f"activation_function {path!r}")
    try:
        return kind()
    except TypeError as error:
        raise _unusable(step, f"activation_function {path!r}, which needs settings") from error


def load_tensors(step: EmbeddingStep, *, allow_pickle: bool) -> dict[str, Tensor]:
    """The stored tensors of a module by their names; raises InputError where there are none that may be read."""
    path = next((step.folder / name for name in (_SAFETENSORS, _PICKLE) if (step.folder / name).is_file()), None)
    if path is None:
        raise _unusable(step, f"no {_SAFETENSORS}")
    if path.name == _PICKLE and not allow_pickle:
        raise InputError(
            f"The weights of {step.folder.name} are a pickle file, which can run code",
            received=str(path),
            allowed=f"{_SAFETENSORS}, or the pickle file with --allow-pickle",
            fix="Convert the weights to safetensors, or pass --allow-pickle if you trust their origin.",
        )
    return _load(path, step)


def _read_weights(step: EmbeddingStep, needed: Mapping[str, nn.Parameter], *, allow_pickle: bool) -> dict[str, Tensor]:
    stored = load_tensors(step, allow_pickle=allow_pickle)
    wrong = [f"{name} is missing" for name in needed if name not in stored]
    wrong += [f"{name} has no place" for name in stored if name not in needed]
    wrong += [
        f"{name} is {list(stored[name].shape)} instead of {list(parameter.shape)}"
        for name, parameter in needed.items()
        if name in stored and stored[name].shape != parameter.shape
    ]
    if wrong:
        raise _unusable(step, ", ".join(wrong))
    return {name: tensor.to(torch.float32) for name, tensor in stored.items()}


def _load(path: Path, step: EmbeddingStep) -> dict[str, Tensor]:
    try:
        if path.name == _SAFETENSORS:
            from safetensors.torch import load_file

            return load_file(str(path))
        loaded: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise _unusable(step, f"{path.name} that cannot be read ({error})") from error
    return loaded


def _unusable(step: EmbeddingStep, received: str) -> InputError:
    return InputError(
        f"The module {step.kind} in {step.folder} cannot be used",
        received=received,
        allowed="a module as sentence-transformers writes it, with its weights",
        fix="Download the checkpoint again.",
    )
