"""What becomes of every stored tensor of a checkpoint, by its name, shape and dtype: no weight is read here.

A tensor without a place in the model is refused, because it may be a part of the model that transformers would drop;
except where it is known to follow from the rest (`exporter.sources.derived_tensors` compares its values), to count
something, or to belong to another task. transformers' own lists of what its classes leave out are believed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from jisu.exporter.sources.account import Account, Fate, Statement, is_ignored
from jisu.exporter.sources.stored_names import StoredName, without_prefix
from jisu.exporter.sources.stored_weights import StoredWeights

# In the spelling of safetensors and of torch. The others are codes, or numbers that float32 cannot hold.
_FLOATS = re.compile(r"F64|F32|F16|BF16|F8_E[45]M[23](FN)?(UZ)?|float(64|32|16)|bfloat16|float8_e[45]m[23](fn)?(uz)?")
_MASK = re.compile(r"(^|\.)(attn|attention|self_attn|self_attention|crossattention)(\.attention)?\.(masked_)?bias$")
_DERIVED = {
    "inv_freq": "rotary frequencies",
    "original_inv_freq": "rotary frequencies",
    "cos_cached": "rotary table",
    "sin_cached": "rotary table",
    "position_ids": "positions from 0",
    "token_type_ids": "zeros",
}
_HARMLESS = {
    "num_batches_tracked": "counts training steps",
    "_extra_state": "state of Transformer Engine, about training",
    "_float_tensor": "an empty marker of fairseq",
    "version": "a format's version",
}
# Predict further tokens, or several at once; the model's own next token does not depend on them.
_PREDICTORS = re.compile(r"(^|\.)(mtp|mtp_block|mtp_layers?|nextn|medusa_head|medusa_heads|eagle_module)(\.|$)")
_HEADS = re.compile(
    r"^(score|classifier|qa_outputs|v_head|value_head|multiple_choice_head|summary|sequence_summary|pooler|nsp|"
    r"classification_head|cls\.seq_relationship|discriminator_predictions)\.|^[a-z0-9_]+\.pooler\."
)
# Of a classifier and of a model without a head, which never use what turns its body's output into words.
_WORD_HEADS = re.compile(r"^(lm_head|cls\.predictions|generator_lm_head|predictions|vocab_\w+|mlm_head)\.")
# Read images and sounds for a model whose configuration declares such an encoder; text passes by them.
_ENCODERS = re.compile(
    r"(^|\.)(vision\w*|visual\w*|image\w*|audio\w*|speech\w*|video\w*|vit|embed_(vision|audio)|mm_projector|"
    r"multi_modal_projector|multimodal_projector|connector|talker|token2wav|code2wav)\."
)
_ENCODER_CONFIG = re.compile(r"(vision|audio|image|speech|video|vit|talker)\w*_config|mm_\w*config")
_QUANTIZED = re.compile(
    r"(scales?|scale_inv|scale_2|zeros?|zero_points?|qweight|g_idx|absmax|quant_map|quant_state\S*|weight_packed|"
    r"weight_shape|SCB|blocks|qdata|weight_format|meta|amax)$"
)
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|layer)\.(\d+)\.")


def leave_out(account: Account, stored: StoredWeights) -> tuple[Account, StoredWeights]:
    """The tensors that no pattern of the account leaves out, and the account with those that one does."""
    matching = {name: [one for one in account.ignore if is_ignored(name, (one,))] for name in stored.shapes}
    account = account.add(
        Statement(kind="tensor", name=name, fate="ignored", why=patterns[0], dtype=stored.dtypes[name])
        for name, patterns in matching.items()
        if patterns
    )
    return account, stored.renamed({name: name for name, patterns in matching.items() if not patterns})


def take_off_prefix(account: Account, stored: StoredWeights, empty: Any) -> tuple[Account, StoredWeights]:
    """The tensors without what wrappers put before all names, and the account that says what was taken off."""
    names, prefixes = without_prefix(empty, stored.shapes)
    for prefix in prefixes:
        account = account.remark(f"The names of the weights have {prefix!r} from a wrapper, which is taken off.")
    # A pattern may name a tensor either way.
    return leave_out(account, stored.renamed(names)) if prefixes else (account, stored)


def account_for_tensors(
    account: Account,
    empty: Any,
    matches: Mapping[str, StoredName],
    dtypes: Mapping[str, str],
    *,
    config: Any = None,
) -> Account:
    """Add a statement for each stored tensor.

    Args:
        account: to add to.
        empty: the model on the meta device.
        matches: what `exporter.sources.stored_names.match_names` found of every stored tensor.
        dtypes: of every stored tensor, in its format's spelling.
        config: of the checkpoint, of which the model's may be a part; the model's when None.
    """
    declared = vars(empty.config if config is None else config)
    encoders = any(_ENCODER_CONFIG.fullmatch(key) and declared[key] is not None for key in declared)
    buffers = {name for name, _ in empty.named_buffers()}
    parameters = {name for name, _ in empty.named_parameters(remove_duplicate=False)}
    statements = []
    for name, match in matches.items():
        dtype = dtypes[name]
        fate: Fate
        if not match.targets and encoders and _ENCODERS.search(match.renamed):
            fate, why = "unread", "they read images or sounds; what is exported reads text"
        elif not match.targets:
            fate, why = _judge(empty, name, match, buffers=buffers, parameters=parameters)
        elif parameters.intersection(match.targets) and not _FLOATS.fullmatch(dtype):
            fate, why = "refused", f"numbers of type {dtype} where weights are expected"
        else:
            fate, why = "used", ""
        statements.append(Statement(kind="tensor", name=name, fate=fate, why=why, dtype=dtype))
    return account.add(statements)


def _judge(empty: Any, stored: str, match: StoredName, *, buffers: set[str], parameters: set[str]) -> tuple[Fate, str]:
    """The fate of a tensor that has no place in the model, and why."""
    name, last = match.renamed, match.renamed.rpartition(".")[2]
    class_name = type(empty).__name__
    if last in _HARMLESS:
        return "harmless", _HARMLESS[last]
    if last in _DERIVED:
        return "derived", _DERIVED[last]
    if _MASK.search(name) and f"{name.rpartition('.')[0]}.weight" not in parameters:
        return "derived", "attention mask"
    if name in buffers:
        return "derived", "computed from the configuration"
    patterns = getattr(empty, "_keys_to_ignore_on_load_unexpected", None) or ()
    if any(re.search(pattern, one) for pattern in patterns for one in (name, stored)):
        return "unread", f"{class_name} of transformers leaves them out"
    if _PREDICTORS.search(name) or _predicts_further(empty, name):
        return "unread", "they predict further tokens, which the next one does not depend on"
    if _HEADS.search(name):
        return "unread", "a head for another task"
    if ("SequenceClassification" in class_name or class_name.endswith("Model")) and _WORD_HEADS.search(name):
        return "unread", "a head for another task"
    return "refused", _reason(empty, name, parameters)


def _reason(empty: Any, name: str, parameters: set[str]) -> str:
    class_name = type(empty).__name__
    if ".lora_" in name or ".base_layer." in name:
        return "an adapter that is not merged"
    if _QUANTIZED.search(name.rpartition(".")[2]):
        return "scales or codes of quantized weights, of which the configuration says nothing that is understood"
    number = _LAYER.search(name)
    layers = _count(empty, "num_hidden_layers")
    if number is not None and layers is not None and int(number[1]) >= layers:
        return f"layers behind the {layers} that the configuration asks for"
    stem, _, last = name.rpartition(".")
    if last == "bias" and f"{stem}.weight" in parameters:
        config = empty.config.get_text_config()
        keys = [key for key, value in vars(config).items() if key.endswith("bias") and value is False]
        hint = f"; config.json may lack {' or '.join(keys)}" if keys else ""
        return f"biases that {class_name} does not have with this configuration{hint}"
    return f"{class_name} has no place for them with this configuration"


def _predicts_further(empty: Any, name: str) -> bool:
    """Whether a tensor is of the layers behind the last that the configuration declares for predicting more tokens."""
    number = _LAYER.search(name)
    layers, further = _count(empty, "num_hidden_layers"), _count(empty, "num_nextn_predict_layers")
    if number is None or layers is None or further is None:
        return False
    return layers <= int(number[1]) < layers + further


def _count(empty: Any, key: str) -> int | None:
    value = getattr(empty.config.get_text_config(), key, None)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def refuse_unexpected(account: Account, unexpected: Iterable[str], matches: Mapping[str, StoredName]) -> Account:
    """The account with what transformers says it did not use, where that was thought to have a place."""
    known = {match.renamed for match in matches.values() if not match.targets}
    surprising = [name for name in unexpected if name not in known]
    return account.state("tensor", surprising, fate="refused", why="transformers loaded the model without them")
