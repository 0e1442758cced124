"""Tries every type of transformers' table of images and texts with random weights, and records what becomes of it.

    python -m benchmarks.studies.image_families --out FILE.json [--types llava aya_vision ...] [--seconds 240] [--page]

A small checkpoint is made of each type's default configuration by making its numbers small, and of its processor around
a tokenizer of bytes. Each is exported to `ort-cpu` in fp32, in a process of its own: it passes where the gate accepts
it as a model that reads images. Rows that the file already has are kept, unless their types are asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jisu.benchmarks.studies.random_weights import randomize

# Numbers by the names that configurations have for them. What is not named keeps its default.
_SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "embed_dim": 64,
    "d_model": 64,
    "out_hidden_size": 64,
    "projection_dim": 64,
    "text_hidden_size": 64,
    "projector_hidden_size": 64,
    "intermediate_size": 96,
    "projector_intermediate_size": 64,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_layers": 2,
    "depth": 2,
    "num_attention_heads": 4,
    "num_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_experts": 4,
    "n_routed_experts": 4,
    "num_local_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "vocab_size": 1024,
    "max_position_embeddings": 4096,
    "mrope_section": [2, 3, 3],
    "deepstack_visual_indexes": [0, 1],
    "fullatt_block_indexes": [1],
    "encoder_hidden_size": 64,
    "mm_tokens_per_image": 4,
}
_ALONE = "exported for texts alone"
_RESULTS = {
    "passes": "pass",
    "not made": "could not be made small in this general way, or prepare images with torchvision alone",
    "not ended": "did not end in time",
    "crashed": "ended with an error of this program",
}
_REASONS = {
    "pixels that no way": "pixels of a way of preparing images that is not known",
    "a text of its own for an image": "marks of a rule that is not known",
    "does not say what it writes in the place of one image": "marks that a class writes for a whole prompt alone",
    "does not say which token stands for an image": "no token stands for an image, features enter other layers",
    "is not a language model that can be exported": "an encoder and a decoder",
}
_PATCHES = 8  # of an edge
_MARKS = (
    "<image>",
    "<|image|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|IMG_PATCH|>",
    "<|START_OF_IMG|>",
    "<|END_OF_IMG|>",
    "<|video|>",
)


def tried(model_type: str, folder: Path) -> tuple[str, str]:
    """Make one small checkpoint and export it; returns what became of it, and why."""
    import os

    os.environ["TQDM_DISABLE"] = "1"
    try:
        _write(model_type, folder / "source")
    except Exception as error:  # noqa: BLE001 - configurations that are made small raise anything
        return "not made", f"{type(error).__name__}: {error}".splitlines()[0][:300]
    from jisu.exporter.contract.errors import JisuError
    from jisu.exporter.pipeline import export

    try:
        made = export(str(folder / "source"), out=folder / "artifact")
    except JisuError as error:
        return "refused", " ".join(str(error).replace(str(folder / "source"), "the checkpoint").split())[:600]
    if made.manifest.model_kind != "image-text-to-text":
        return "texts alone", _ALONE
    return "passes", ""


def _write(model_type: str, folder: Path) -> None:
    """Save a small model of random weights with its processor."""
    import torch
    import transformers
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    config_class: Any = CONFIG_MAPPING[model_type]
    config = config_class()
    for part in _parts(config):
        _make_small(part)
    tokenizer = _tokenizer()
    processor = _processor(model_type, config, tokenizer)
    tokenizer = processor.tokenizer
    token = _image_token(processor, tokenizer)
    for name in ("image_token_id", "image_token_index"):
        if hasattr(config, name):
            setattr(config, name, token)
    for part in _parts(config):
        if isinstance(getattr(part, "vocab_size", None), int):
            part.vocab_size = max(part.vocab_size, len(tokenizer))
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            if hasattr(part, name):
                setattr(part, name, getattr(tokenizer, name))
    kind = getattr(transformers, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[model_type])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(config).eval()
        randomize(model)
    folder.mkdir(parents=True)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    processor.image_processor.save_pretrained(str(folder))
    record: dict[str, Any] = {"processor_class": type(processor).__name__}
    for name, value in vars(processor).items():
        if isinstance(value, (int, str)) and name not in ("chat_template",):
            record[name] = value
    (folder / "processor_config.json").write_text(json.dumps(record), encoding="utf-8")


def _parts(config: Any) -> list[Any]:
    parts = [config]
    for value in list(vars(config).values()):
        if hasattr(value, "model_type") and hasattr(value, "to_dict"):
            parts += _parts(value)
    return parts


def _make_small(part: Any) -> None:
    for name, value in _SMALL.items():
        # What differs from layer to layer is no plain attribute: that of the first layers is kept.
        with contextlib.suppress(AttributeError):
            if isinstance(getattr(part, name, None), type(value)) and not isinstance(getattr(part, name), bool):
                setattr(part, name, value)
    if isinstance(getattr(part, "image_size", None), int) and isinstance(getattr(part, "patch_size", None), int):
        part.image_size = _PATCHES * part.patch_size
    for name in list(vars(part)):
        value = vars(part)[name]
        if name in ("layer_types", "mlp_layer_types") and isinstance(value, list):
            setattr(part, name, value[-2:])
        if name in ("rope_parameters", "rope_scaling") and isinstance(value, dict) and "mrope_section" in value:
            setattr(part, name, {**value, "mrope_section": _SMALL["mrope_section"]})


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "</s>", "<pad>", *_MARKS]
    vocabulary = {token: number for number, token in enumerate(special)}
    for letter in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[letter] = len(vocabulary)
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    fast: Any = PreTrainedTokenizerFast
    tokenizer = fast(
        tokenizer_object=inner,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={
            "image_token": "<image>",
            "boi_token": "<|begin_of_image|>",
            "eoi_token": "<|end_of_image|>",
            "start_image_token": "<|vision_start|>",
            "end_image_token": "<|vision_end|>",
            "context_image_token": "<image>",
            "video_token": "<|video_pad|>",
            "image_start_token": "<|vision_start|>",
            "image_end_token": "<|vision_end|>",
            "image_wrapper_token": "<|image|>",
            "image_boundary_token": "<|image|>",
            "image_break_token": "<|image|>",
            "video_start_token": "<|vision_start|>",
            "video_end_token": "<|vision_end|>",
            "audio_token": "<|video|>",
            "boa_token": "<|START_OF_IMG|>",
            "eoa_token": "<|END_OF_IMG|>",
        },
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(_MARKS)})
    return tokenizer


def _processor(model_type: str, config: Any, tokenizer: Any) -> Any:
    import inspect

    import transformers
    from transformers.models.auto import image_processing_auto, processing_auto

    from jisu.exporter.sources.image_processor import _itself, without_videos

    named = vars(processing_auto)["PROCESSOR_MAPPING_NAMES"].get(model_type)
    images = vars(image_processing_auto)["IMAGE_PROCESSOR_MAPPING_NAMES"].get(model_type)
    if not named or not images:
        raise LookupError("transformers names no processor of its images")
    if "pil" not in images:
        raise LookupError(f"its images are prepared with torchvision alone, by {images['torchvision']}")
    kind = _itself(getattr(transformers, named))
    image_kind: Any = getattr(transformers, images["pil"], None)
    if image_kind is None or getattr(image_kind, "is_dummy", False):
        from importlib import import_module

        stem = images["pil"].removesuffix("ImageProcessorPil").removesuffix("ImageProcessor")
        for module in (model_type.replace("-", "_"), stem.lower()):
            try:
                place = import_module(f"transformers.models.{module}.image_processing_pil_{module}")
                image_kind = getattr(place, images["pil"])
                break
            except (ImportError, AttributeError):
                continue
    vision = getattr(config, "vision_config", None)
    settings: dict[str, Any] = {}
    size = getattr(vision, "image_size", None)
    known = getattr(image_kind, "size", None) or {}
    if isinstance(size, int) and set(known) == {"height", "width"}:
        settings["size"] = {"height": size, "width": size}
    processor_settings: dict[str, Any] = {}
    accepted = inspect.signature(kind.__init__).parameters
    patch = getattr(vision, "patch_size", None)
    if "patch_size" in accepted and isinstance(patch, int):
        processor_settings["patch_size"] = patch
    if isinstance(getattr(image_kind, "patch_size", None), int) and isinstance(patch, int):
        settings["patch_size"] = patch
    if "img_size" in accepted and isinstance(size, int):
        processor_settings["img_size"] = size
    if "downsample_factor" in accepted:
        processor_settings["downsample_factor"] = getattr(config, "downsample_factor", 1)
    if "image_seq_length" in accepted and isinstance(getattr(config, "mm_tokens_per_image", None), int):
        processor_settings["image_seq_length"] = config.mm_tokens_per_image
    with without_videos():
        images_part = image_kind(**settings)
        if isinstance(size, int) and isinstance(patch, int):
            images_part.image_seq_length = (size // patch) ** 2  # some processors ask for it
        parts = {"image_processor": images_part, "tokenizer": tokenizer}
        return kind(*[parts.get(name) for name in kind.get_attributes()], **processor_settings)


def _image_token(processor: Any, tokenizer: Any) -> int:
    for name in ("image_token_id", "image_ids"):
        token = getattr(processor, name, None)
        if isinstance(token, int):
            return token
    return int(tokenizer.convert_tokens_to_ids(str(getattr(processor, "image_token", "<image>"))))


def _run(model_type: str, seconds: int) -> dict[str, Any]:
    """One type in a process of its own, a copy of this one, which has the libraries loaded."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        child = context.Process(target=_answer, args=(model_type, Path(folder), theirs))
        child.start()
        theirs.close()
        row = {"type": model_type, "result": "not ended", "why": f"not within {seconds} s"}
        if ours.poll(seconds):
            try:
                result, why = ours.recv()
            except EOFError:
                result, why = "crashed", "it ended without a word"
            row = {"type": model_type, "result": result, "why": why}
        child.kill()
        child.join()
    return {**row, "seconds": round(time.perf_counter() - begin, 1)}


def _answer(model_type: str, folder: Path, pipe: Any) -> None:
    try:
        pipe.send(tried(model_type, folder))
    except Exception as error:  # noqa: BLE001 - a bug of ours is a row, too
        pipe.send(("crashed", f"{type(error).__name__}: {error}".splitlines()[0][:300]))


def rendered(rows: Sequence[Mapping[str, Any]]) -> str:
    """What a page says of the rows: names of those that pass, and why the others do not."""
    lines = []
    for result, words in _RESULTS.items():
        names = sorted(str(row["type"]) for row in rows if row["result"] == result)
        if names:
            lines += [f"{len(names)} {words}: {', '.join(names)}.", ""]
    lines += ["| refused | why |", "|---|---|"]
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["result"] in ("refused", "texts alone"):
            reasons.setdefault(reason(str(row["why"])), []).append(str(row["type"]))
    lines += [f"| {', '.join(sorted(names))} | {why} |" for why, names in sorted(reasons.items())]
    return "\n".join(lines) + "\n"


def reason(why: str) -> str:
    """A refusal in a few words: what was received, where that is said in one known way."""
    for part, words in _REASONS.items():
        if part in why:
            return words
    received = why.partition("Received: ")[2].partition(" Allowed: ")[0].rstrip(".")
    return (received or why)[:160].replace("|", "\\|")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file of the rows (default: print them)")
    parser.add_argument("--types", nargs="*", help="model types (default: all of transformers' table)")
    parser.add_argument("--seconds", type=int, default=240, help="most seconds of one type (default: 240)")
    parser.add_argument("--page", action="store_true", help="only print what a page says of the file's rows")
    options = parser.parse_args(arguments)
    if options.page:
        print(rendered(json.loads(options.out.read_text(encoding="utf-8"))), end="")
        return 0
    # Copies of this process have them.
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    import jisu.exporter.pipeline
    import jisu.exporter.tracing.trace_source  # noqa: F401

    rows: dict[str, Any] = {}
    if options.out is not None and options.out.exists():
        rows = {row["type"]: row for row in json.loads(options.out.read_text(encoding="utf-8"))}
    for model_type in options.types or MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        if options.types or model_type not in rows:
            rows[model_type] = _run(model_type, options.seconds)
            print(json.dumps(rows[model_type]), flush=True)
        if options.out is not None:
            listed = [rows[name] for name in sorted(rows)]
            options.out.write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
