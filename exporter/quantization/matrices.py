"""What of a module can be quantized: linear and recurrent layers, experts, the embedding and the output projection."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.graph.recurrent_weights import is_recurrent
from jisu.exporter.quantization.called_layers import calls_of
from jisu.exporter.sources.experts import expert_name, find_experts, matrices_in, named_weights, stacked_names
from jisu.exporter.sources.layer_stack import find_stack
from jisu.exporter.sources.module_kind import (
    is_of_transformers,
    is_one_stack,
    word_embedding,
)

if TYPE_CHECKING:
    from torch import nn

_SHOWN = 3  # names in a message
_SLIGHT = 0.005  # share of a model's weights that is not worth a word


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A weight that can be quantized: its module's path, [N, K] of its product, and whether it embeds.

    ``embedding`` is set of the embedding and of the output projection; tied ones are two matrices with one
    ``storage``. A recurrent layer has several matrices, each with its parameter's name. ``stacked`` matrices stand in a
    layer of the stack. A ``routed`` one is an expert's, which reads only the tokens that are sent to it; ``routed`` is
    the name of the parameter that holds those of all experts.
    """

    name: str
    rows: int
    features: int
    embedding: bool
    storage: Hashable
    recurrent: bool = False
    routed: str | None = None
    stacked: bool = True

    @property
    def parameter(self) -> str:
        """The name of the parameter that the weight is."""
        return self.name if self.recurrent else f"{self.name}.weight"

    @property
    def elements(self) -> int:
        return self.rows * self.features


def matrices_of(module: nn.Module) -> list[Matrix]:
    """Every linear and recurrent layer, expert, the embedding and the output projection, as the module lists them.

    Of a model of transformers these are the decoder's layers, and the encoder's where it has one; of one that reads
    sound, and of any other module, all that it has.

    Raises:
        InputError: a model of transformers without a list of decoder layers, or a module without any of these.
    """
    from torch import nn

    stack = find_stack(module)
    inside = "" if stack is None else f"{stack.path}."
    prefix = ""
    if is_one_stack(module):
        if stack is None:
            raise InputError(
                f"{type(module).__name__} has no list of decoder layers to quantize",
                received="no nn.ModuleList of decoder layers",
                allowed="a model whose layers are in one nn.ModuleList",
                fix="Export it in fp32.",
            )
        prefix = inside
    # By their weights: one embedding may go by several names, as that of an encoder and a decoder does.
    ends = {id(end.weight) for end in _tables(module)}
    calls = calls_of(module)
    mixtures = {path for path, _ in find_experts(module)} if is_of_transformers(module) else set()
    matrices: list[Matrix] = []
    for name, child in module.named_modules():
        if name in mixtures and name.startswith(prefix):
            matrices += _experts_of(name, child, stacked=bool(inside) and name.startswith(inside))
            continue
        if getattr(child, "routed", None) is not None:
            continue  # an expert's matrix, as a layer for a while
        if not calls(child):
            continue
        embedding = isinstance(child, (nn.Embedding, nn.Linear)) and id(child.weight) in ends
        if embedding or (isinstance(child, nn.Linear) and name.startswith(prefix)):
            weight: Any = child.weight
            rows, features = weight.shape
            stacked = bool(inside) and name.startswith(inside)
            matrices.append(
                Matrix(
                    name=name, rows=rows, features=features, embedding=embedding, storage=id(weight), stacked=stacked
                )
            )
        elif isinstance(child, nn.RNNBase):
            matrices += [
                Matrix(
                    name=f"{name}.{one}" if name else one,
                    rows=parameter.shape[0],
                    features=parameter.shape[1],
                    embedding=False,
                    storage=id(parameter),
                    recurrent=True,
                )
                for one, parameter in child.named_parameters(recurse=False)
                if is_recurrent(one)
            ]
    if not matrices:
        raise InputError(
            f"{type(module).__name__} has nothing that could be quantized",
            received="no layer of a type that can be quantized",
            allowed="nn.Linear, nn.Embedding, nn.LSTM, nn.GRU or nn.RNN",
            fix="Export it in fp32 or fp16.",
        )
    return matrices


def _experts_of(path: str, experts: Any, *, stacked: bool) -> Iterator[Matrix]:
    """The matrices of a mixture, those of all experts in one parameter after another."""
    for name in stacked_names(path, experts):
        kind = name.rpartition(".")[2]
        parameter = id(getattr(experts, kind))
        for number, matrix in enumerate(matrices_in(experts, kind)):
            rows, features = matrix.shape
            yield Matrix(
                name=expert_name(name, number),
                rows=rows,
                features=features,
                embedding=False,
                storage=(parameter, number),
                routed=name,
                stacked=stacked,
            )


def _tables(module: nn.Module) -> list[Any]:
    """The modules of the embedding and of the output projection, those there are."""
    from torch import nn

    model: Any = module
    if is_of_transformers(module):
        return [end for end in (word_embedding(model), model.get_output_embeddings()) if end is not None]
    embeddings = [child for child in module.modules() if isinstance(child, nn.Embedding)]
    if not embeddings:
        return []
    # The one with a row for each token has most of them; the projection onto the vocabulary has as many.
    embedding = max(embeddings, key=lambda child: child.num_embeddings)
    projections = [child for child in module.modules() if isinstance(child, nn.Linear)]
    return [embedding, *(child for child in projections if child.out_features == embedding.num_embeddings)]


def describe_uncovered(module: nn.Module, matrices: Sequence[Matrix]) -> str | None:
    """Which large weights of the decoder layers no format is planned for, in words; None where there are none.

    Raises:
        InputError: not one weight of the decoder layers can be quantized.
    """
    from jisu.exporter.sources.layers import find_layers

    stack = find_layers(module)
    whole = not is_one_stack(module)
    prefix = "" if whole or stack is None else f"{stack.path}."
    covered = {matrix.parameter for matrix in matrices}
    inside = {name: weight for name, weight in named_weights(module).items() if name.startswith(prefix)}
    others = {name: weight.numel() for name, weight in inside.items() if weight.dim() > 1 and name not in covered}
    if not others:
        return None
    shown = ", ".join(list(others)[:_SHOWN])
    more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    if not covered & set(inside):
        raise InputError(
            "The decoder layers have no linear layers that could be quantized",
            received=f"{shown}{more}",
            allowed="weights of nn.Linear",
            fix="Export it in fp32 or fp16.",
        )
    share = sum(others.values()) / sum(weight.numel() for weight in module.parameters())
    if share < _SLIGHT:  # routers, tables of positions
        return None
    return f"{share:.0%} of the weights stay float32, because they belong to no linear layer: {shown}{more}"
