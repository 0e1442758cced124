"""Tiny checkpoints with random weights, written in a fraction of a second: the models that the tests run on."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

TINY_VOCAB = 384  # rows of the embedding; the tokenizer uses a few ids less
BOS, EOS, PAD = 0, 1, 2

CHAT_TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }}\n{{ message['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)

_SENTENCES = (
    "The quick brown fox jumps over the lazy dog, and the dog does not mind.",
    "A language model reads the words so far and guesses the next word.",
    "The capital of France is Paris; the capital of Japan is Tokyo.",
    "def add(a, b):\n    return a + b\n",
    "语言模型读取到目前为止的文字,并猜测下一个文字。",
    "你好,世界!今天天气很好。",
    "Emoji are text as well: 🚀 🙂 👩‍💻 🎉.",
)


def tiny_tokenizer() -> Any:
    """A byte-level BPE tokenizer of at most TINY_VOCAB ids through which any text makes a round trip."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=_train_backend(),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template=CHAT_TEMPLATE,
    )


def random_model(config: Any, *, seed: int = 0, classifies: bool = False) -> Any:
    """The float32 model of a configuration with the random weights that `write_tiny` describes."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

    kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    if classifies:
        kind = AutoModelForSequenceClassification
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(std=parameter.shape[-1] ** -0.5)
                else:
                    parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def write_tiny(folder: Path, config: Any, *, seed: int = 0, tokenizer: bool = True) -> Path:
    """Write a model of any transformers configuration of a language model with random weights; returns the folder.

    The configuration needs ``vocab_size >= TINY_VOCAB`` for the tokenizer to fit. Weights are larger than a fresh
    model's and the norms are not all ones: logits differ clearly, and a weight in the wrong place shows.
    """
    from jisu.exporter.sources.quiet import quiet_transformers

    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        random_model(config, seed=seed).save_pretrained(str(folder))
    if tokenizer:
        tiny_tokenizer().save_pretrained(str(folder))
    return folder


LABELS = ("sad", "neutral", "glad")


def classifier_config(family: str = "Bert", *, labels: tuple[str, ...] = LABELS, **changes: Any) -> Any:
    """A small configuration of any transformers family whose classifier is to be built."""
    import transformers

    settings: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": TINY_VOCAB,
        "max_position_embeddings": 512,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }
    return getattr(transformers, f"{family}Config")(**{**settings, **changes})


def write_tiny_classifier(
    folder: Path, family: str = "Bert", *, seed: int = 0, tokenizer: bool = True, **changes: Any
) -> Path:
    """Write a classifier with random weights; ``changes`` go into its configuration. Returns the folder."""
    from jisu.exporter.sources.quiet import quiet_transformers

    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        random_model(classifier_config(family, **changes), seed=seed, classifies=True).save_pretrained(str(folder))
    if tokenizer:
        tiny_tokenizer().save_pretrained(str(folder))
    return folder


def write_tiny_reader(
    folder: Path,
    head: str,
    family: str = "Bert",
    *,
    seed: int = 0,
    tokenizer: Any | None = None,
    stored: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Write a model that reads whole texts, with random weights and a tokenizer of words; returns the folder.

    Args:
        head: of transformers, such as TokenClassification, MaskedLM, QuestionAnswering or SequenceClassification.
        tokenizer: `word_tokenizer` when None.
        stored: goes into config.json as it is.
        changes: go into the configuration.
    """
    import torch
    import transformers

    from jisu.exporter.sources.quiet import quiet_transformers

    tokenizer = tokenizer or word_tokenizer()
    config = classifier_config(family, **{"pad_token_id": tokenizer.pad_token_id, **changes})
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, f"AutoModelFor{head}").from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(std=parameter.shape[-1] ** -0.5)
                else:
                    parameter.add_(torch.randn_like(parameter), alpha=0.1)
        model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    if stored:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        _write_json(folder / "config.json", {**config, **stored})
    return folder


def word_tokenizer() -> Any:
    """A WordPiece tokenizer as BERT has it, of at most TINY_VOCAB ids, with [CLS], [SEP], [MASK] and types of pairs."""
    from transformers import BertTokenizerFast

    special = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    words = sorted({word for text in _SENTENCES for word in _words(text)})
    letters = sorted({letter for word in words for letter in word})
    pieces = [*special, *words, *(one for one in letters if one not in words), *(f"##{one}" for one in letters)]
    vocabulary = {piece: index for index, piece in enumerate(pieces[:TINY_VOCAB])}
    return BertTokenizerFast(vocab=vocabulary, do_lower_case=True)


def _words(text: str) -> list[str]:
    import re

    return re.findall(r"[a-z]+|[.,;:()!?']|\d", text.lower())


def write_tiny_embedder(
    folder: Path,
    family: str = "Bert",
    *,
    pooling: Mapping[str, Any] | None = None,
    steps: Collection[tuple[str, Mapping[str, Any]]] = (("Normalize", {}),),
    settings: Mapping[str, Any] | None = None,
    longest: int | None = None,
    seed: int = 0,
    **changes: Any,
) -> Path:
    """Write an encoder with random weights as sentence-transformers lays it out; returns the folder.

    Args:
        pooling: settings of the pooling; the mean when None.
        steps: names and settings of the modules behind it; a Dense and a LayerNorm get random weights.
        settings: prompts and the like.
        longest: tokens of a text.
        changes: go into the encoder's configuration.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModel

    from jisu.exporter.sources.quiet import quiet_transformers

    config = classifier_config(family, **changes)
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModel.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(std=parameter.shape[-1] ** -0.5)
        model.save_pretrained(str(folder))
        tiny_tokenizer().save_pretrained(str(folder))
        modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
        _write_json(folder / "1_Pooling" / "config.json", pooling or {"pooling_mode_mean_tokens": True})
        for number, (kind, facts) in enumerate(steps, start=2):
            place = folder / f"{number}_{kind}"
            modules.append((kind, place.name))
            _write_json(place / "config.json", dict(facts))
            if kind == "Dense":
                sizes = {"linear.weight": (facts["out_features"], facts["in_features"])}
                sizes |= {"linear.bias": (facts["out_features"],)} if facts.get("bias", True) else {}
                save_file({name: torch.randn(size) / 8 for name, size in sizes.items()}, place / "model.safetensors")
            if kind == "WeightedLayerPooling":
                count = facts["num_hidden_layers"] + 1 - facts["layer_start"]
                save_file({"layer_weights": torch.rand(count)}, place / "model.safetensors")
                modules.insert(1, modules.pop())  # before the pooling
            if kind == "LayerNorm":
                ones = {f"norm.{name}": torch.rand(facts["dimension"]) for name in ("weight", "bias")}
                save_file(ones, place / "model.safetensors")
    lines = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, path) in enumerate(modules)
    ]
    _write_json(folder / "modules.json", lines)
    _write_json(folder / "config_sentence_transformers.json", dict(settings or {}))
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": longest, "do_lower_case": False})
    return folder


def _write_json(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")


def write_tiny_llama(
    folder: Path,
    *,
    layers: int = 2,
    hidden: int = 64,
    heads: int = 4,
    kv_heads: int = 2,
    vocab: int = TINY_VOCAB,
    tied: bool = True,
    seed: int = 0,
    **config: Any,
) -> Path:
    """Write a small Llama with `write_tiny`; further keyword arguments go into its LlamaConfig."""
    return write_tiny(
        folder,
        llama_config(layers=layers, hidden=hidden, heads=heads, kv_heads=kv_heads, vocab=vocab, tied=tied, **config),
        seed=seed,
    )


def llama_config(
    *,
    layers: int = 2,
    hidden: int = 64,
    heads: int = 4,
    kv_heads: int = 2,
    vocab: int = TINY_VOCAB,
    tied: bool = True,
    **config: Any,
) -> Any:
    from transformers import LlamaConfig

    settings: dict[str, Any] = {
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": tied,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
    }
    return LlamaConfig(**{**settings, **config})


def text_to_text_config(**changes: Any) -> Any:
    """An encoder and a decoder of two layers each, with positions that are added to embeddings."""
    from transformers import MarianConfig

    settings: dict[str, Any] = {
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "max_position_embeddings": 340,
    }
    return MarianConfig(**{**settings, **_TEXT_TO_TEXT_IDS, **changes})


def biased_text_to_text_config(**changes: Any) -> Any:
    """The same with biases of relative positions, which a model hands to attention."""
    from transformers import T5Config

    settings = {"d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2}
    return T5Config(**{**settings, **_TEXT_TO_TEXT_IDS, **changes})


_TEXT_TO_TEXT_IDS: dict[str, Any] = {
    "vocab_size": TINY_VOCAB,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "pad_token_id": PAD,
    "decoder_start_token_id": PAD,
    "forced_eos_token_id": EOS,
}


def write_tiny_gguf(
    path: Path,
    *,
    seed: int = 0,
    quantization: str = "F32",
    architecture: str = "llama",
    tokenizer: bool = True,
    without: Collection[str] = (),
    extra: Mapping[str, Any] | None = None,
    settings: Mapping[str, int | float | str] | None = None,
    **config: Any,
) -> Path:
    """Write the small Llama of `write_tiny_llama` (same seed, same weights) as a GGUF file; returns the path.

    Args:
        path: of the file.
        seed: of the weights.
        quantization: ggml type of the matrices whose rows its blocks divide; one that the gguf package can write.
        architecture: what the file says it is.
        tokenizer: whether to include the tokenizer and its chat template.
        without: names of tensors to leave out.
        extra: further float32 tensors (numpy arrays) by name.
        settings: further metadata, or other values for what is there; a key without a dot is the architecture's.
        config: arguments of `llama_config`.
    """
    import gguf
    import numpy as np

    model_config = llama_config(**config)
    model = random_model(model_config, seed=seed)
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_context_length(model_config.max_position_embeddings)
    writer.add_embedding_length(model_config.hidden_size)
    writer.add_block_count(model_config.num_hidden_layers)
    writer.add_feed_forward_length(model_config.intermediate_size)
    writer.add_head_count(model_config.num_attention_heads)
    writer.add_head_count_kv(model_config.num_key_value_heads)
    writer.add_rope_dimension_count(model_config.head_dim)
    writer.add_layer_norm_rms_eps(model_config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    if tokenizer:
        _add_tokenizer(writer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, model_config.num_hidden_layers)
    kind = gguf.GGMLQuantizationType[quantization]
    for name, weight in model.state_dict().items():
        if model_config.tie_word_embeddings and name == "lm_head.weight":
            continue
        stem, suffix = name.rsplit(".", 1)
        stored = f"{names.get_name(stem)}.{suffix}"
        if stored in without:
            continue
        values = weight.numpy()
        if stem.endswith("q_proj"):
            values = _interleave(values, model_config.num_attention_heads)
        elif stem.endswith("k_proj"):
            values = _interleave(values, model_config.num_key_value_heads)
        if values.ndim == 2 and values.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0:
            writer.add_tensor(stored, gguf.quants.quantize(np.ascontiguousarray(values), kind), raw_dtype=kind)
        else:
            writer.add_tensor(stored, np.ascontiguousarray(values))
    for name, values in (extra or {}).items():
        writer.add_tensor(name, np.asarray(values, np.float32))
    for key, value in (settings or {}).items():
        key = key if "." in key else f"{architecture}.{key}"
        writer.kv_data[-1].pop(key, None)
        {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32}[type(value)](key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _interleave(weight: Any, heads: int) -> Any:
    """Order a query or key matrix's rows as GGUF's Llama has them: the two halves of each head interleaved."""
    rows = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, rows, -1).swapaxes(1, 2).reshape(weight.shape)


def _add_tokenizer(writer: Any) -> None:
    import json

    import gguf

    model = json.loads(_train_backend().to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    tokens += [f"[PAD{number}]" for number in range(len(tokens), TINY_VOCAB)]
    special = {"<s>", "</s>", "<pad>"}
    kinds = [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_pad_token_id(PAD)
    writer.add_chat_template(CHAT_TEMPLATE)


@functools.cache
def _train_backend() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TINY_VOCAB - 4,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_SENTENCES, trainer)
    return backend


# Of a reranker: messages of the roles query and document, an instruction in the system's place, and an answer begun.
RERANK_TEMPLATE = (
    "<s>system\nJudge.</s>\n<s>user\n"
    "I: {{ messages | selectattr('role', 'eq', 'system') | map(attribute='content') | first | default('find it') }}\n"
    "Q: {{ messages | selectattr('role', 'eq', 'query') | map(attribute='content') | first }}\n"
    "D: {{ messages | selectattr('role', 'eq', 'document') | map(attribute='content') | first }}</s>\n"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def write_tiny_asker(folder: Path, family: str = "Qwen3", *, template: str = RERANK_TEMPLATE, **changes: Any) -> Path:
    """Write a decoder that scores pairs, laid out as sentence-transformers does it; returns the folder.

    The score is the logit of "y" less that of "n". ``changes`` go into its configuration.
    """
    tokenizer = tiny_tokenizer()
    write_tiny(folder, classifier_config(family, **{"head_dim": 16, "max_position_embeddings": 128, **changes}))
    tokenizer.chat_template = template
    tokenizer.save_pretrained(str(folder))
    yes, no = (tokenizer.convert_tokens_to_ids(text) for text in "yn")
    kinds = ("base.modules.transformer.Transformer", "cross_encoder.modules.logit_score.LogitScore")
    files = {
        "modules.json": [
            {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.{kind}"}
            for index, (path, kind) in enumerate(zip(("", "1_LogitScore"), kinds, strict=True))
        ],
        "1_LogitScore/config.json": {"true_token_id": yes, "false_token_id": no},
        "sentence_bert_config.json": {
            "transformer_task": "text-generation",
            "modality_config": {
                "text": {"method": "forward", "method_output_name": "logits"},
                "message": {"method": "forward", "method_output_name": "logits", "format": "flat"},
            },
            "module_output_name": "causal_logits",
            "processing_kwargs": {"chat_template": {"add_generation_prompt": True}},
        },
        "config_sentence_transformers.json": {
            "model_type": "CrossEncoder",
            "prompts": {},
            "default_prompt_name": None,
            "activation_fn": "torch.nn.modules.activation.Sigmoid",
        },
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    return folder
