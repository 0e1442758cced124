"""Makes a transformers configuration of a GGUF file's metadata and accounts for every key of it.

transformers' own reader knows some keys of some architectures and leaves the defaults of its classes in place of the
rest. Here each key goes where `gguf_keys` says, what a file leaves out is what llama.cpp takes for it, and the finished
configuration is compared with the file: a key that does not stand in it is refused.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from typing import Any

from exporter.contract.errors import InputError
from exporter.sources import gguf_gemma4
from exporter.sources.account import Account
from exporter.sources.gguf_architectures import GEMMA4, config_class
from exporter.sources.gguf_gemma4 import gemma4_fields
from exporter.sources.gguf_header import GgufHeader
from exporter.sources.gguf_keys import (
    ELSEWHERE,
    EPSILON_KEYS,
    FOREIGN,
    GEOMETRY_KEYS,
    HARMLESS,
    MEANINGS,
    NEEDED,
    OFF,
    Meaning,
)
from exporter.sources.gguf_rotary import KEYS as ROTARY_KEYS
from exporter.sources.gguf_rotary import longrope_fields, rotary_fields
from exporter.sources.plausible import check_layer_count
from exporter.sources.quiet import quiet_transformers
from exporter.sources.reason import reason_of

_EMBEDDING = "token_embd.weight"
_OUTPUT = "output.weight"
_NEAR = 0.9  # likeness of two names of which one is a damaged spelling of the other
_NO_COUNTERPART = "the model class has no counterpart"
_UNLIKE = "the model class is built with another value"
# Scores of experts that a class computes by default, by llama.cpp's number; softmax everywhere else.
_GATES = {"minimax_m2": 2, "gpt_oss": 3}
# Whether llama.cpp lets the chosen experts' weights add up to one, where the file does not say.
_NORMED = {"qwen2_moe": False, "qwen3_moe": True}
# Classes whose biases of attention are those of queries, keys and values only.
_NO_OUTPUT_BIAS = ("glm4", "seed_oss")
_OLMO_EPSILON = 1e-5
# Classes that cannot be built or run without a window.
_ALWAYS_WINDOWED = ("gemma2", "gemma3_text", "cohere2")
# Gemma divides scores by the root of the head size; of its largest models, known by their layers, by another number.
_GEMMA_LARGEST = {"gemma2": 46, "gemma3_text": 62}


def read_config(header: GgufHeader) -> tuple[Any, Account]:
    """The configuration that a GGUF file's metadata describes, and what became of each key outside the tokenizer.

    Keys that the finished configuration contradicts are refused in the account, for the caller to raise.

    Raises:
        InputError: transformers reads no such architecture, or the metadata is incomplete or contradicts itself.
    """
    check_layer_count(header.fields.get(f"{header.architecture}.block_count"), header.path)
    translation = _Translation(header, config_class(header))
    translation.translate()
    # What is refused by name says more than what the class makes of the rest.
    translation.account.refuse(header.path)
    try:
        with quiet_transformers():
            config = translation.config_class(**translation.settings)
    except Exception as error:
        raise InputError(
            f"No configuration can be made from the metadata of {header.path}",
            received=f"architecture {header.architecture!r} ({reason_of(error)})",
            allowed=f"numbers that fit together in {translation.config_class.__name__}",
            fix="Use the model's original Hugging Face folder instead.",
        ) from error
    return config, translation.compare(config)


class _Translation:
    """Where the keys of one file go, filled key by key."""

    def __init__(self, header: GgufHeader, config_class: Any) -> None:
        self.header = header
        self.config_class = config_class
        self.model_type: str = config_class.model_type
        self.declared = {field.name for field in dataclasses.fields(config_class)} | set(config_class.attribute_map)
        self.settings: dict[str, Any] = _special_ids(header)
        self.places: dict[str, tuple[str, Any]] = {}
        self.account = Account()
        prefix = f"{header.architecture}."
        self.stated = {
            key.removeprefix(prefix): _plain(header.fields[key])
            for key in header.fields
            if key[: len(prefix)] == prefix
        }
        self.left = dict(self.stated)

    def translate(self) -> None:
        self._refuse_missing()
        self._set_size()
        self._set_heads()
        self._set_windows()
        self._set_experts()
        self._set_structure()
        if self.model_type != GEMMA4:
            self._set_rotary()
        for key in list(self.left):
            if key in MEANINGS:
                self._put(key, MEANINGS[key])
            elif key in OFF:
                self._settle(key, *_off(self.left[key], OFF[key]))
            elif key in HARMLESS:
                self._settle(key, "harmless", HARMLESS[key])
            else:
                self._settle(key, "refused", "unknown to this version")
        for key in self.header.fields:
            self._state_elsewhere(key)

    def _set_rotary(self) -> None:
        fields, used, refused = rotary_fields(self.stated, head_size=self.head_size, config_class=self.config_class)
        self.settings.update(fields)
        # Only Phi 3 chooses between two sets of divisors; elsewhere these tensors have no place.
        scaled, held = longrope_fields(self.header, self.stated) if self.model_type == "phi3" else ({}, ())
        if scaled:
            self.settings["rope_parameters"] |= scaled
            self.settings["original_max_position_embeddings"] = scaled["original_max_position_embeddings"]
            refused = {key: why for key, why in refused.items() if key not in held}
            used = [*used, *held]
        for key in used:
            self._settle(key, "used", "rope_parameters" if "rope_parameters" in self.declared else "")
        for key, why in refused.items():
            self._settle(key, "refused", why)

    def compare(self, config: Any) -> Account:
        """The account, in which every value that the finished configuration does not hold is refused."""
        account = self.account
        for key, (field, value) in self.places.items():
            name = f"{self.header.architecture}.{key}"
            if _equal(getattr(config, field, None), value):
                account = account.state("gguf", name, fate="used", why="" if field == key else field)
            else:
                account = account.state("gguf", name, fate="refused", why=f"{_UNLIKE}: {field}")
        return account

    def _refuse_missing(self) -> None:
        missing = [key for key in NEEDED if key not in self.stated]
        if not any(key in self.stated for key in EPSILON_KEYS):
            missing.append(" or ".join(EPSILON_KEYS))
        wrong = [key for key in NEEDED if not _is_whole(self.stated.get(key, 1))]
        if missing or wrong:
            raise InputError(
                f"The metadata of {self.header.path} does not describe a whole model",
                received=", ".join([f"no {key}" for key in missing] + [f"{key} {self.stated[key]!r}" for key in wrong]),
                allowed=f"every key that a {self.header.architecture} model needs",
                fix="Download the file again, or convert the model with a current converter.",
            )

    def _set_size(self) -> None:
        stored = {tensor.name: tensor.shape for tensor in self.header.tensors}
        layers = self.stated["block_count"]
        if self.model_type.startswith("qwen3_5"):
            predicted = self.left.pop("nextn_predict_layers", 0)
            layers -= predicted
            self._state("nextn_predict_layers", "derived", "layers that only guess ahead")
        self._place("block_count", "num_hidden_layers", layers)
        positions = next((name for name in ("max_position_embeddings",) if name in self.declared), None)
        if positions is None:
            self.settings["max_position_embeddings"] = self.stated["context_length"]
            self._settle("context_length", "harmless", "the model has no table of positions")
        else:
            self._place("context_length", positions, self.stated["context_length"])
        rows = stored.get(_EMBEDDING, (0,))[0]
        self.settings["vocab_size"] = (
            self.stated.get("vocab_size") or rows or self.header.fields.get("tokenizer.ggml.tokens", 0)
        )
        self.settings["tie_word_embeddings"] = _OUTPUT not in stored

    def _set_heads(self) -> None:
        heads, width = self.stated.get("attention.head_count", 0), self.stated["embedding_length"]
        self.head_size = 0
        if isinstance(heads, tuple):
            self._settle("attention.head_count", "refused", "the number of heads differs between layers")
            return
        self._set_kv_heads(heads)
        if self.model_type == GEMMA4:
            self._set_gemma4()
            return
        if not heads:
            for key in ("attention.key_length", "attention.value_length"):
                if key in self.left:
                    self._settle(key, *_off(self.left[key], (0,)))
            return
        default = width // heads
        self.head_size = size = self.stated.get("attention.key_length", default)
        if "head_dim" in self.declared:
            self.settings["head_dim"] = size
            self._put_stated("attention.key_length", "head_dim", size)
        elif size == default:
            self._settle("attention.key_length", "derived", "embedding_length / attention.head_count")
        else:
            # Most classes look for it although their configurations do not list it; the shapes of weights tell.
            self.settings["head_dim"] = size
            self._put_stated("attention.key_length", "head_dim", size)
        if self.stated.get("attention.value_length", default) == size:
            self._settle("attention.value_length", "derived", "attention.key_length")
        elif "attention.value_length" in self.stated or size != default:
            value = self.stated.get("attention.value_length", default)
            self.account = self.account.state(
                "gguf",
                self._name("attention.value_length"),
                fate="refused",
                why=f"values of {value} beside keys of {size}",
            )
            self.left.pop("attention.value_length", None)

    def _set_gemma4(self) -> None:
        fields, refused = gemma4_fields(self.header, self.stated)
        self.settings.update(fields)
        self.head_size = fields["head_dim"]
        for key in gguf_gemma4.KEYS:
            self._settle(
                key, "refused" if key in refused else "used", refused.get(key, "of layers with and without a window")
            )
        if isinstance(self.left.get("feed_forward_length"), tuple):
            fits = "feed_forward_length" not in refused
            self._settle(
                "feed_forward_length",
                "used" if fits else "refused",
                refused.get("feed_forward_length", "intermediate_size"),
            )

    def _set_kv_heads(self, heads: int) -> None:
        key = "attention.head_count_kv"
        kv = self.stated.get(key, heads)
        if isinstance(kv, tuple):
            # Layers without any are convolutions.
            kinds = ["full_attention" if one else "conv" for one in kv]
            if len({one for one in kv if one}) != 1 or self.model_type != "lfm2":
                self._settle(key, "refused", "the number of heads differs between layers")
                return
            self._place(key, "layer_types", kinds)
            self.settings["num_key_value_heads"] = max(kv)
        elif "num_key_value_heads" in self.declared:
            self.settings["num_key_value_heads"] = kv
            self._put_stated(key, "num_key_value_heads", kv)
        elif "num_kv_heads" in self.declared:
            # Falcon: keys for groups of heads, or a second norm, are those of its later models.
            norms = 2 if self._has("attn_norm_2") else 1
            grouped = norms == 2 or kv not in (1, heads)
            self.settings |= {"num_kv_heads": kv, "multi_query": kv == 1, "new_decoder_architecture": grouped}
            self.settings["num_ln_in_parallel_attn"] = norms if grouped else None
            self._put_stated(key, "num_kv_heads", kv)
        elif "multi_query" in self.declared and kv in (1, heads):
            self.settings["multi_query"] = kv == 1
            self._put_stated(key, "multi_query", kv == 1)
        elif kv == heads:
            self._settle(key, "derived", "attention.head_count")
        else:
            self._settle(key, "refused", _NO_COUNTERPART)

    def _set_windows(self) -> None:
        key, pattern_key = "attention.sliding_window", "attention.sliding_window_pattern"
        layers = self.stated["block_count"]
        default = 4096 if self.model_type == "gemma2" else 0
        window, pattern = self.stated.get(key, default), self.stated.get(pattern_key)
        if "sliding_window" not in self.declared:
            for name in (key, pattern_key):
                if name in self.left:
                    self._settle(name, *_off(self.left[name], (0, False)))
            return
        # Gemma's class makes a mask for windows whether a layer has one or not; one of all positions hides nothing.
        unused = self.stated["context_length"] if self.model_type in _ALWAYS_WINDOWED else None
        self.settings["sliding_window"] = window or unused
        self._put_stated(key, "sliding_window", window or unused)
        local = _local_layers(pattern, layers)
        if "layer_types" not in self.declared:
            if window and local is not None and not all(local):
                self._settle(pattern_key, "refused", _NO_COUNTERPART)
            elif pattern is not None:
                self._settle(pattern_key, "derived", "all layers are alike")
            return
        if not window:
            local = [False] * layers
        if local is not None and len(local) == layers:
            self.settings["layer_types"] = ["sliding_attention" if one else "full_attention" for one in local]
            self._put_stated(pattern_key, "layer_types", self.settings["layer_types"])
        elif pattern is not None:
            self._settle(pattern_key, "refused", f"one value for each of {layers} layers is needed")
        if "use_sliding_window" in self.declared:
            self.settings["use_sliding_window"] = bool(window)
            if window and pattern is None:
                self.places.pop(key, None)
                self._state(key, "refused", f"without {pattern_key} nothing says for which layers")

    def _set_experts(self) -> None:
        gate = "expert_gating_func"
        if gate in self.left:
            fits = self.left[gate] in (0, _GATES.get(self.model_type, 1))
            self._settle(gate, "used" if fits else "refused", "" if fits else _UNLIKE)
        if self.model_type in _NORMED:
            self.settings["norm_topk_prob"] = self.stated.get("expert_weights_norm", _NORMED[self.model_type])
            width, chosen = self.stated.get("feed_forward_length", 0), self.stated.get("expert_used_count", 1)
            if "moe_intermediate_size" in self.declared and not self.stated.get("expert_feed_forward_length"):
                self.settings["moe_intermediate_size"] = width // max(chosen, 1)
            if "shared_expert_intermediate_size" in self.declared:
                self.settings["shared_expert_intermediate_size"] = width

    def _set_structure(self) -> None:
        """What the file tells by the tensors that it has, or that follows from its architecture."""
        if "query_pre_attn_scalar" in self.declared and self.head_size:
            largest = _GEMMA_LARGEST.get(self.model_type) == self.stated["block_count"]
            self.settings["query_pre_attn_scalar"] = (
                self.stated["embedding_length"] // self.stated["attention.head_count"] if largest else self.head_size
            )
        self._set_scales()
        if "use_parallel_residual" in self.declared:
            # Models with one norm for both parts of a layer run them side by side.
            self.settings["use_parallel_residual"] = self.stated.get("use_parallel_residual", not self._has("ffn_norm"))
        if "block_auto_adjust_ff_dim" in self.declared:
            self.settings["block_auto_adjust_ff_dim"] = False  # the file's width is the final one
        biases = {
            "attention_bias": ("attn_q.bias",)
            if self.model_type in _NO_OUTPUT_BIAS
            else ("attn_qkv.bias" if self.model_type == "gpt_neox" else "attn_q.bias", "attn_output.bias"),
            "attention_out_bias": ("attn_output.bias",),
            "conv_bias": ("shortconv.conv.bias",),
            "mlp_bias": ("ffn_down.bias",),
            "use_qkv_bias": ("attn_q.bias",),
            "use_bias": ("ssm_in.bias" if self.model_type == "mamba" else "attn_q.bias",),
            "use_conv_bias": ("ssm_conv1d.bias",),
        }
        for field, names in biases.items():
            if field in self.declared:
                self.settings[field] = all(self._has(name) for name in names)
        if "feed_forward_proj" in self.declared:
            gated = self._has("ffn_gate.weight")
            self.settings["feed_forward_proj"] = "gated-gelu" if gated else "relu"
        if self.model_type == "mamba" and "ssm.inner_size" in self.left:
            inner, width = self.left["ssm.inner_size"], self.stated["embedding_length"]
            self.settings["expand"] = inner / width if inner % width else inner // width
            self._place("ssm.inner_size", "intermediate_size", inner, stated=False)
        elif "linear_value_head_dim" in self.declared and "ssm.inner_size" in self.left:
            heads = self.stated.get("ssm.time_step_rank", 1)
            self._place("ssm.inner_size", "linear_value_head_dim", self.left["ssm.inner_size"] // max(heads, 1))
        if "linear_value_head_dim" in self.declared:
            self._set_recurrent_layers(self.places["block_count"][1])
        if self.model_type == "olmo" and "attention.layer_norm_epsilon" in self.left:
            fits = _equal(self.left["attention.layer_norm_epsilon"], _OLMO_EPSILON)
            self._settle(
                "attention.layer_norm_epsilon",
                *(("derived", "a constant of the class") if fits else ("refused", _UNLIKE)),
            )
        if self.model_type == "bloom" and "feed_forward_length" in self.left:
            fits = self.left["feed_forward_length"] == 4 * self.stated["embedding_length"]
            self._settle(
                "feed_forward_length", "derived" if fits else "refused", "4 x embedding_length" if fits else _UNLIKE
            )

    def _set_recurrent_layers(self, layers: int) -> None:
        interval, listed = self.left.get("full_attention_interval", 4), self.left.get("attention.recurrent_layers")
        recurrent = [bool((layer + 1) % max(interval, 1)) for layer in range(layers)]
        if listed is not None:
            recurrent = [bool(one) for one in listed[:layers]] if isinstance(listed, tuple) else [bool(listed)] * layers
        self.settings["layer_types"] = ["linear_attention" if one else "full_attention" for one in recurrent]
        self._put_stated("attention.recurrent_layers", "layer_types", self.settings["layer_types"])
        if listed is None:
            self._put_stated("full_attention_interval", "layer_types", self.settings["layer_types"])
        else:
            self._settle("full_attention_interval", "derived", "attention.recurrent_layers")

    def _set_scales(self) -> None:
        """Factors of scores and logits, which classes of transformers call by different names."""
        key = "attention.scale"
        if key in self.left:
            scale = self.left[key]
            if "attention_multiplier" in self.declared and scale:
                self._place(key, "attention_multiplier", scale)
            elif "query_pre_attn_scalar" in self.declared and scale:
                divisor = scale**-2
                whole = round(divisor)
                self._place(key, "query_pre_attn_scalar", whole if _equal(whole, divisor) else divisor)
            else:
                usual = self.head_size**-0.5 if self.head_size else 0
                self._settle(key, *_off(scale, (0, usual)))
        key = "logit_scale"
        if key in self.left:
            name = next((one for one in ("logit_scale", "logits_scaling") if one in self.declared), None)
            if name is None or not self.left[key]:
                self._settle(key, *_off(self.left[key], (0, 1)))
            else:
                self._place(key, name, self.left[key])

    def _put(self, key: str, meaning: Meaning) -> None:
        value = self.left[key]
        field = next((name for name in meaning.fields if name in self.declared), None)
        if isinstance(value, tuple):
            self._settle(key, "refused", "the value differs between layers")
        elif field is None:
            self._settle(key, *_off(value, meaning.off))
        elif value in meaning.off and not isinstance(value, bool):
            # Where a class has the feature, zero is how a file says that the model does without.
            self._place(key, field, None if field.endswith("softcapping") else value)
        else:
            self._place(key, field, value)

    def _put_stated(self, key: str, field: str, value: Any) -> None:
        if key in self.left:
            self._place(key, field, value)

    def _place(self, key: str, field: str, value: Any, *, stated: bool = True) -> None:
        """Send a value to a field of the configuration; two keys that disagree are both refused in `compare`."""
        self.left.pop(key, None)
        if stated:
            self.settings[field] = value
        self.places[key] = (field, value)

    def _settle(self, key: str, fate: Any, why: str) -> None:
        if self.left.pop(key, None) is not None:
            self._state(key, fate, why)

    def _state(self, key: str, fate: Any, why: str) -> None:
        if key in self.stated:
            self.account = self.account.state("gguf", self._name(key), fate=fate, why=why)

    def _state_elsewhere(self, key: str) -> None:
        if key.startswith((f"{self.header.architecture}.", "tokenizer.", "general.sampling.")):
            return
        why = next((why for start, why in ELSEWHERE.items() if key.startswith(start)), None)
        if why is not None:
            self.account = self.account.state("gguf", key, fate="harmless", why=why)
        elif key.startswith(FOREIGN):
            self.account = self.account.state("gguf", key, fate="refused", why=_NO_COUNTERPART)
        elif near := _nearly(key, self.header.architecture):
            self.account = self.account.state("gguf", key, fate="refused", why=f"nearly {near}, which it may be")
        else:
            self.account = self.account.state("gguf", key, fate="unread", why="no key of llama.cpp")

    def _has(self, part: str) -> bool:
        return any(f".{part}" in tensor.name for tensor in self.header.tensors)

    def _name(self, key: str) -> str:
        return f"{self.header.architecture}.{key}"


def _special_ids(header: GgufHeader) -> dict[str, Any]:
    """Special tokens as the file has them; those that it does not name are none, whatever a class has for them."""
    names = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    return {role: header.fields.get(f"tokenizer.ggml.{name}_token_id") for role, name in names.items()}


def _nearly(key: str, architecture: str) -> str | None:
    """The hyper-parameter that a key is a damaged or foreign spelling of; None for a key of another kind."""
    known = [*MEANINGS, *OFF, *HARMLESS, *NEEDED, *ROTARY_KEYS, *GEOMETRY_KEYS]
    prefix, _, suffix = key.partition(".")
    if suffix in known:
        return f"{architecture}.{suffix}"
    if room := difflib.get_close_matches(prefix, ("tokenizer", "general"), n=1, cutoff=0.8):
        return f"{room[0]}.{suffix}"
    near = difflib.get_close_matches(key, [f"{architecture}.{name}" for name in known], n=1, cutoff=_NEAR)
    return near[0] if near else None


def _local_layers(pattern: Any, layers: int) -> list[bool] | None:
    """Which layers look at a window only: listed one by one, or all but every n-th; None where nothing tells."""
    if isinstance(pattern, tuple):
        return [bool(one) for one in pattern]
    if isinstance(pattern, bool):
        return [pattern] * layers
    if isinstance(pattern, int):
        return [pattern == 0 or layer % pattern < pattern - 1 for layer in range(layers)]
    return None


def _plain(value: Any) -> Any:
    """An array of one and the same number as that number; a float32 as the shortest number that is stored as it."""
    import numpy as np

    if isinstance(value, tuple) and value and len(set(value)) == 1:
        value = value[0]
    if isinstance(value, float) and float(np.float32(value)) == value:
        return float(str(np.float32(value)))
    return value


def _off(value: Any, allowed: tuple[Any, ...]) -> tuple[str, str]:
    """Whether a value switches off what the model class does not have."""
    if any(_equal(value, one) for one in allowed):
        return "harmless", "switched off"
    return "refused", _NO_COUNTERPART


def _equal(actual: Any, stated: Any) -> bool:
    if isinstance(actual, float) or isinstance(stated, float):
        try:
            if math.isnan(stated):
                return math.isnan(actual)
            return abs(float(actual) - float(stated)) <= 1e-6 * abs(float(stated))
        except (TypeError, ValueError, OverflowError):
            return False
    return bool(actual == stated)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
