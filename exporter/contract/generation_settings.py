"""The generation settings of a model: which entries of ``generation_config.json`` mean something, and how it is read.

Names and meanings are those of transformers' `GenerationConfig` (5.23). Standard library only: what runs an artifact
reads the same file as what made it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.placeholders import refuse_placeholder

GENERATION_CONFIG = "generation_config.json"
# Special tokens; the manifest has them, too, collected from all files of a checkpoint.
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
# What a runtime does as transformers does.
HONOURED = (
    "bad_words_ids",
    "begin_suppress_tokens",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "epsilon_cutoff",
    "eta_cutoff",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "min_new_tokens",
    "min_p",
    "no_repeat_ngram_size",
    "num_beams",
    "renormalize_logits",
    "repetition_penalty",
    "sequence_bias",
    "stop_strings",
    "suppress_tokens",
    "temperature",
    "top_h",
    "top_k",
    "top_p",
    "typical_p",
)
# How transformers computes or returns an answer, not which answer it is; what it assists itself with changes no greedy
# answer and no distribution.
HARMLESS = (
    "_from_model_config",
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_lookbehind",
    "cache_config",
    "cache_implementation",
    "compile_config",
    "continuous_batching_config",
    "disable_compile",
    "is_assistant",
    "max_cache_len",
    "max_matching_ngram_size",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "prefill_chunk_size",
    "prompt_lookup_num_tokens",
    "remove_invalid_values",
    "return_dict_in_generate",
    "target_lookbehind",
    "transformers_version",
    "trust_remote_code",
    "use_cache",
    "use_mtp",
)
# Entries that ask for something else only beyond these values.
OFF: dict[str, tuple[Any, ...]] = {
    "constraints": (),
    "diversity_penalty": (0,),
    "dola_layers": (),
    "force_words_ids": (),
    "guidance_scale": (1,),
    "low_memory": (False,),
    "max_time": (),
    "num_beam_groups": (1,),
    "num_return_sequences": (1,),
    "penalty_alpha": (0,),
    "token_healing": (False,),
    "watermarking_config": (),
}


def read_generation_settings(folder: Path) -> dict[str, Any]:
    """What the model of an artifact asks for, without entries that are empty; nothing where the file is missing.

    Raises:
        InputError: the file cannot be read, or is no JSON object.
    """
    path = folder / GENERATION_CONFIG
    refuse_placeholder(path)
    if not path.is_file():
        return {}
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read", received=error, allowed="a JSON object", fix="Export the model again."
        ) from error
    if not isinstance(stored, dict):
        raise InputError(
            f"{path} does not hold generation settings",
            received=type(stored).__name__,
            allowed="a JSON object",
            fix="Export the model again.",
        )
    return {name: value for name, value in stored.items() if name in HONOURED and value is not None}
