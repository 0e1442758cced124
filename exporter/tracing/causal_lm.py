"""Any transformers causal language model behind the traced interface.

Nothing here knows an architecture: attention, masks and experts come through transformers' own registration points, the
cache is a `Cache` that hands tensors through, the shapes of the state are read off one short forward call, and how the
model has to be called is found out by comparing a few tokens with the model's own forward.
"""

from __future__ import annotations

import contextlib
import inspect
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from jisu.calibration.model.whole_sequences import empty_state
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import StateItem
from jisu.exporter.sources.facts import longest_text
from jisu.exporter.sources.half_width import float32_bytes
from jisu.exporter.sources.paged_weights import PAGED_FROM
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.sources.reason import reason_of
from jisu.exporter.tracing.cache import INDEX, StateCache, describe_cache, layer_of
from jisu.exporter.tracing.positions import rows_of_positions
from jisu.exporter.tracing.probes import call_on_meta, cut_down
from jisu.exporter.tracing.routing import ATTENTION, SPELLED_OUT, asks_for_attention, route, routed

# What was found out about large models, each try of which reads all weights.
_FOUND_OUT = frozenset(
    {"_cache_name", "_layers", "_state_spec", "_spare", "_attention", "max_positions", "_accepted", "_calling"}
)
_KNOWN: WeakKeyDictionary[PreTrainedModel, dict[str, Any]] = WeakKeyDictionary()

# Names that transformers uses for the cache, as an argument and in what a forward returns.
_CACHES = ("past_key_values", "cache_params")
_OBSERVED = 2  # tokens that the model is watched with
# Two rows of different lengths, the tokens that follow them, and how near a call that is right comes to the model's own
# logits, in their standard deviations; float32 is off by 1e-5, a wrong call by about one. What is verified rests on
# the gate.
_PAST, _NEW, _NEAR = (4, 2), 2, 1e-3
# Places in their buffers: more than the usual windows, since a model may count them from the buffer's end.
_ROOM = 512


@dataclass(frozen=True, kw_only=True)
class Calling:
    """How a model is called.

    Attributes:
        padding_mask: give it a 2-d mask of the tokens seen so far, off which some models read positions and biases.
        reported: what the cache says its length is: each row's own length [B]; the same as a column [B, 1], for models
            that add the new tokens' places to it; or the place in the buffer at which the new tokens would end it, a
            plain number, for models that make tensors of that size.
    """

    padding_mask: bool
    reported: Literal["rows", "columns", "end"]


_WITHOUT_MASK = (
    Calling(padding_mask=False, reported="rows"),
    Calling(padding_mask=False, reported="end"),
    Calling(padding_mask=False, reported="columns"),
)
_WITH_MASK = (
    Calling(padding_mask=True, reported="rows"),
    Calling(padding_mask=True, reported="end"),
    Calling(padding_mask=True, reported="columns"),
)


class StateNotCarriedError(InputError):
    """A model cannot continue from a state of ours; its own forward over a whole text may be traced all the same."""


class CausalLM(nn.Module):
    """A transformers model as ``forward(input_ids, past_length, state) -> (logits, state)``."""

    weight_prefix = "model."

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        known = _KNOWN.get(model)
        if known is not None:
            self.__dict__.update(known)
            return
        self._large = float32_bytes(model.parameters()) >= PAGED_FROM
        # Read off now, while the model still has an attention of its own to run with.
        self._cache_name, self._layers, self._state_spec = self._observed_state()
        chosen = getattr(model.config.get_text_config(), "index_topk", None) or 0
        self._spare = chosen if any(name.endswith(f".{INDEX}") for name, *_ in self._state_spec) else 0
        self._attention = ATTENTION if asks_for_attention(model, self._call_plainly) else SPELLED_OUT
        self.max_positions = longest_text(model.config.get_text_config())
        self._accepted = frozenset(inspect.signature(model.forward).parameters)
        self._calling = self._fitting_call()
        if self._large:
            _KNOWN[model] = {name: value for name, value in vars(self).items() if name in _FOUND_OUT}

    def state_spec(self) -> list[StateItem]:
        """Name, kind, dims and dtype of each tensor that the model carries from call to call."""
        return list(self._state_spec)

    def route_attention(self) -> None:
        """Keep the model's attention routed through this package, which saves the switch at every call."""
        if self._attention == ATTENTION:
            route(self.model, ATTENTION)

    def forward(self, input_ids: Tensor, past_length: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Append tokens to the state.

        Args:
            input_ids: int64 [B, T], rows padded on the right.
            past_length: int64 [B].
            state: in the order of `state_spec`; key and value buffers are [B, Hkv, capacity, D].

        Returns:
            logits [B, T, V] and the state with the new tokens in it, keys and values written at ``past_length``.
        """
        return self._call(self._calling, input_ids, past_length, state)

    def _call(
        self, calling: Calling, input_ids: Tensor, past_length: Tensor, state: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        new = input_ids.shape[1]
        items = self._state_spec[: len(state)]  # of the first layers only, where only those are traced
        buffer = next((t for t, item in zip(state, items, strict=True) if item[1] == "kv"), None)
        capacity = None if buffer is None else buffer.shape[2]
        reported: Tensor | int = past_length
        if calling.reported == "end" and capacity is not None:
            reported = capacity - new
        columns = calling.reported == "columns"
        if columns:
            reported = past_length[:, None]
        cache = StateCache(
            items, state, count=self._layers, past_length=past_length, reported=reported, spare=self._spare
        )
        arguments: dict[str, Any] = {"input_ids": input_ids, self._cache_name: cache}
        if "position_ids" in self._accepted:
            positions = past_length[:, None] + torch.arange(new, device=input_ids.device)[None, :]
            arguments["position_ids"] = self._position_ids(positions)
        if calling.padding_mask and capacity is not None:
            key = torch.arange(capacity + self._spare, device=input_ids.device)[None, :]
            arguments["attention_mask"] = (key < past_length[:, None] + new).to(torch.int64)
        if buffer is not None:
            arguments |= self._arguments_of_tokens(cache, buffer)
        rows = rows_of_positions(self.model) if columns else contextlib.nullcontext()
        with routed(self.model, self._attention, past_length=past_length), rows:
            output = self.model(**arguments, use_cache=True)
        return output.logits, cache.written()

    def _position_ids(self, positions: Tensor) -> Tensor:
        """Positions as the model takes them, of the tokens' places in their texts, int64 [B, T]."""
        return positions

    def _arguments_of_tokens(self, cache: StateCache, buffer: Tensor) -> dict[str, Tensor]:
        """What a model is told of each token that a row has room for, besides; ``buffer`` is [B, H, capacity, D]."""
        return {}

    def _call_plainly(self) -> Any:
        """Run two tokens, through one layer of each kind at least."""
        ids = torch.arange(_OBSERVED)[None]
        if self._large:
            with contextlib.suppress(Exception), cut_down(self.model):  # the whole one may be another matter
                return self.model(input_ids=ids, use_cache=False)
        return self.model(input_ids=ids, use_cache=False)

    def _call_with_cache(self) -> Any:
        """Run two tokens for the shapes of what they leave in the cache of every layer."""
        ids = torch.arange(_OBSERVED)[None]
        if self._large:
            with contextlib.suppress(Exception):  # a model whose steps depend on numbers raises anything
                return call_on_meta(self.model, input_ids=ids, use_cache=True)
        return self.model(input_ids=ids, use_cache=True)

    def _observed_state(self) -> tuple[str, int, list[StateItem]]:
        """Run two tokens through the model: the cache's name, how many layers it has, and what each then holds."""
        with quiet_transformers(), torch.inference_mode():
            try:
                output = self._call_with_cache()
            except InputError:
                raise  # a reason of ours
            except Exception as error:  # models that cannot be called with a cache raise anything
                raise StateNotCarriedError(
                    f"{type(self.model).__name__} cannot be called with a cache",
                    received=reason_of(error),
                    allowed="a model that makes a cache of its own while it reads a text",
                    fix="Choose a model that transformers itself runs with use_cache=True.",
                ) from error
        name, cache = next(
            ((name, cache) for name in _CACHES if (cache := getattr(output, name, None)) is not None), ("", None)
        )
        layers = getattr(cache, "layers", None)
        items = describe_cache(layers, _OBSERVED) if layers else None
        if not items:
            kinds = sorted({type(layer).__name__ for layer in layers or [cache]})
            raise StateNotCarriedError(
                f"The state of {type(self.model).__name__} cannot be carried from token to token",
                received="no cache" if cache is None else f"a cache of {', '.join(kinds)}",
                allowed="keys and values that grow with the tokens, convolution and recurrent states of fixed size",
                fix="Choose a model whose layers carry nothing else.",
            )
        return name, len(layers or ()), items

    def _fitting_call(self) -> Calling:
        """The first way of calling the model that gives its own logits for rows of different lengths."""
        if self._large:
            with cut_down(self.model) as layers, contextlib.suppress(Exception):  # the whole one may be another matter
                if layers is not None:
                    return self._tried_calls([item for item in self._state_spec if layer_of(item) < layers])
        return self._tried_calls(self._state_spec)

    def _tried_calls(self, items: list[StateItem]) -> Calling:
        """The same with a state of so many tensors, the first ones."""
        order = (*_WITHOUT_MASK, *_WITH_MASK) if self._attention == ATTENTION else (*_WITH_MASK, *_WITHOUT_MASK)
        with quiet_transformers(), torch.inference_mode():
            rows = [torch.arange(past + _NEW)[None] % self._vocabulary() for past in _PAST]
            truth = torch.cat([self.model(input_ids=row, use_cache=False).logits[:, -1] for row in rows])
            errors, refused = [], []
            for step in (_NEW, 1):
                for calling in order:
                    try:
                        error = self._distance(calling, items, rows, truth, step)
                    except InputError:
                        raise  # a reason of ours, the same for every way
                    except Exception as reason:  # noqa: BLE001 - models that are called wrongly raise anything
                        refused.append(reason)
                        continue
                    if error <= _NEAR:
                        return calling
                    errors.append(error)
        wrong = f"other logits than from the beginning, by {min(errors):.2g} sd" if errors else ""
        raise StateNotCarriedError(
            f"{type(self.model).__name__} cannot continue from an explicit state",
            received=wrong or reason_of(refused[0]),
            allowed="a model that appends to a cache at each row's own length",
            fix="Choose a model of another architecture.",
        ) from (None if wrong else refused[0])

    def _distance(
        self, calling: Calling, items: list[StateItem], rows: list[Tensor], truth: Tensor, step: int
    ) -> float:
        """Distance of the last logits [2, V], in standard deviations, of rows fed one by one and continued together."""
        states, lengths = [], []
        for row, past in zip(rows, _PAST, strict=True):
            state = empty_state(items, batch=1, capacity=min(_ROOM, self.max_positions or _ROOM))
            for begin in range(0, past, step):
                _, state = self._call(calling, row[:, begin : begin + step], torch.tensor([begin]), state)
            states.append(state)
            lengths.append(past)
        state = [
            torch.cat(parts, dim=item[2].index("B"))
            for item, parts in zip(items, zip(*states, strict=True), strict=True)
        ]
        new = torch.cat([row[:, -_NEW:] for row in rows])
        for begin in range(0, _NEW, step):
            past_length = torch.tensor(lengths) + begin
            logits, state = self._call(calling, new[:, begin : begin + step], past_length, state)
        error = (logits[:, -1] - truth).abs().max() / truth.std()
        return float(error.nan_to_num(torch.inf))

    def _vocabulary(self) -> int:
        return int(self.model.config.get_text_config().vocab_size)
