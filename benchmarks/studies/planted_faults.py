"""Plants every fault of the collection in an artifact of a tiny model and asks the gate about it: none may be accepted.

    python -m benchmarks.studies.planted_faults                # all of them, and a table of counts
    python -m benchmarks.studies.planted_faults llama window   # those of these artifacts only

Exit code 1 when a fault was accepted, or an artifact without a fault rejected.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.benchmarks.studies.fault_list import FAULTS
from jisu.benchmarks.studies.faults import Fault
from jisu.exporter.contract.artifact import MANIFEST, Artifact, read_artifact, record_files
from jisu.exporter.contract.errors import InputError

if TYPE_CHECKING:
    from jisu.exporter.gate import Check, GateResult
    from jisu.exporter.sources.source import Source

# What every tiny model has; its family, what differs in it, target and precision.
_SIZES: dict[str, Any] = {
    "vocab_size": 384,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "tie_word_embeddings": False,
}
_MARIAN: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 340,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": 1,
    "tie_word_embeddings": True,
}
_BERT: dict[str, Any] = {
    "id2label": {0: "sad", 1: "neutral", 2: "glad"},
    "label2id": {"sad": 0, "neutral": 1, "glad": 2},
}
_BLOOM: dict[str, Any] = {"n_layer": 3, "n_head": 4}
_EXPERTS: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
_YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0, "original_max_position_embeddings": 128}
_LONGROPE: dict[str, Any] = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0 + 0.1 * number for number in range(8)],
    "long_factor": [1.0 + 0.3 * number for number in range(8)],
    "original_max_position_embeddings": 512,
}
SUBJECTS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "llama": ("LlamaForCausalLM", {}, "ort-cpu", "fp32"),
    "llama-portable": ("LlamaForCausalLM", {}, "portable", "fp32"),
    "llama-fp16": ("LlamaForCausalLM", {}, "portable", "fp16"),
    "llama-int8": ("LlamaForCausalLM", {}, "ort-cpu", "int8"),
    "llama-int4": ("LlamaForCausalLM", {}, "ort-cpu", "int4"),
    "llama-w8a8": ("LlamaForCausalLM", {}, "ort-cpu", "w8a8"),
    "llama-w8a8-dynamic": ("LlamaForCausalLM", {}, "ort-cpu", "w8a8-dynamic"),
    "portable-int8": ("LlamaForCausalLM", {}, "portable", "int8"),
    "portable-int4": ("LlamaForCausalLM", {}, "portable", "int4"),
    "portable-w8a8": ("LlamaForCausalLM", {}, "portable", "w8a8"),
    "yarn": ("LlamaForCausalLM", {"rope_parameters": _YARN}, "ort-cpu", "fp32"),
    "longrope": (
        "Phi3ForCausalLM",
        {"rope_parameters": _LONGROPE, "original_max_position_embeddings": 512},
        "ort-cpu",
        "fp32",
    ),
    "bloom": ("BloomForCausalLM", _BLOOM, "ort-cpu", "fp32"),
    "experts": ("MixtralForCausalLM", _EXPERTS, "ort-cpu", "fp32"),
    "experts-int8": ("MixtralForCausalLM", _EXPERTS, "ort-cpu", "int8"),
    "experts-int4": ("MixtralForCausalLM", _EXPERTS, "ort-cpu", "int4"),
    "window-portable": ("MistralForCausalLM", {"sliding_window": 64}, "portable", "fp32"),
    "window-int4": ("MistralForCausalLM", {"sliding_window": 64}, "portable", "int4"),
    "window-w8a8": ("MistralForCausalLM", {"sliding_window": 64}, "portable", "w8a8"),
    "window": ("MistralForCausalLM", {"sliding_window": 64}, "ort-cpu", "fp32"),
    "window-int8": ("MistralForCausalLM", {"sliding_window": 64}, "ort-cpu", "int8"),
    "gpt2": ("GPT2LMHeadModel", {"tie_word_embeddings": True}, "ort-cpu", "fp32"),
    "marian": ("MarianMTModel", _MARIAN, "ort-cpu", "fp32"),
    "bert": ("BertForSequenceClassification", _BERT, "ort-cpu", "fp32"),
}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An artifact without a fault, its source, and the integers that its files were to hold."""

    artifact: Artifact
    source: Source
    intended: Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="*", metavar="subject", help=f"of {', '.join(SUBJECTS)}; all by default")
    names = parser.parse_args().subjects or list(SUBJECTS)
    if unknown := set(names) - set(SUBJECTS):
        parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(SUBJECTS)}")
    with tempfile.TemporaryDirectory() as folder:
        verdicts = list(planted(names, Path(folder)))
    counts = Counter(verdict for _, verdict in verdicts)
    print("\n| verdict | faults |\n|---|---|")
    for verdict, count in sorted(counts.items(), key=lambda item: -item[1]):
        print(f"| {verdict} | {count} |")
    sys.exit(1 if counts["ACCEPTED"] or counts["REJECTED WITHOUT A FAULT"] else 0)


def planted(subjects: Sequence[str], folder: Path) -> Iterator[tuple[str, str]]:
    """(name of a fault, what became of it), each printed as it is known."""
    for name in subjects:
        subject = exported(name, folder / name)
        result = judged(subject, subject.artifact)
        if not result.accepted:
            yield _printed(f"{name} without a fault: {result.summary}", "REJECTED WITHOUT A FAULT")
        for number, fault in enumerate(fault for fault in FAULTS if fault.subject == name):
            verdict, detail = examined(subject, fault, folder / f"{name}-{number}")
            yield _printed(f"{name}: {fault.name}. {detail}", verdict)


def _printed(text: str, verdict: str) -> tuple[str, str]:
    print(f"{verdict:24} {text[:170]}", flush=True)
    return text, verdict


def exported(name: str, folder: Path) -> Subject:
    """Write a tiny model and export it; the integers that were chosen are kept on the way."""
    from jisu.exporter import export
    from jisu.exporter.sources import load_source

    pipeline: Any = import_module("jisu.exporter.pipeline")

    family, changes, target, precision = SUBJECTS[name]
    write_model(folder / "source", family, changes)
    kept: dict[str, Any] = {}
    run = pipeline.run_quantization

    def keep(*arguments: Any, **options: Any) -> Any:
        quantized = run(*arguments, **options)
        kept.update(quantized.by_name)
        return quantized

    pipeline.run_quantization = keep
    try:
        # Random weights have no redundancy that four bits could take.
        lenient: dict[str, Any] = (
            {"max_kl": 1.0, "min_top1": 0.3, "max_perplexity_ratio": 3.0} if precision == "int4" else {}
        )
        artifact = export(folder / "source", folder / "artifact", target=target, precision=precision, **lenient)
    finally:
        pipeline.run_quantization = run
    return Subject(artifact=artifact, source=load_source(folder / "source"), intended=kept)


def write_model(folder: Path, family: str, changes: Mapping[str, Any]) -> None:
    """A model with random weights, large enough to show a change, and a tokenizer of bytes and a few merges."""
    import torch
    import transformers

    model_class = getattr(transformers, family)
    model = model_class(model_class.config_class(**{**_SIZES, **changes}))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            size = parameter.shape[-1] ** -0.5 if parameter.dim() > 1 else 0.1
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * size + (parameter.dim() < 2))
    model.save_pretrained(str(folder))
    byte_tokenizer().save_pretrained(str(folder))


def byte_tokenizer() -> Any:
    """Of bytes and a few merges, with tokens that begin, end and pad."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from jisu.exporter.gate.domains import held_out_prose

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([held_out_prose()[:20000]], trainer)
    fast: Any = PreTrainedTokenizerFast
    return fast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def examined(subject: Subject, fault: Fault, folder: Path, *, stored_only: bool = False) -> tuple[str, str]:
    """The first check that finds a fault, or ``ACCEPTED``; and what it says.

    Args:
        stored_only: ask only the checks that compare data.
    """
    shutil.copytree(subject.artifact.folder, folder)
    try:
        fault.damage(folder)
        artifact = _recorded(folder)
        result = stored(subject, artifact) if stored_only else judged(subject, artifact).checks
    except InputError as error:
        return "refused", str(error)
    finally:
        shutil.rmtree(folder)
    failed = [check for check in result if not check.passed]
    return (failed[0].name, failed[0].detail) if failed else ("ACCEPTED", "")


def _recorded(folder: Path) -> Artifact:
    """The folder as an artifact whose hashes are those of the damaged files."""
    import json
    from dataclasses import asdict

    path = folder / MANIFEST
    data = json.loads(path.read_text(encoding="utf-8"))
    data["files"] = {name: asdict(record) for name, record in record_files(folder).items()}
    path.write_text(json.dumps(data), encoding="utf-8")
    return read_artifact(folder, check_hashes=True)


def judged(subject: Subject, artifact: Artifact) -> GateResult:
    """The whole gate."""
    from jisu.exporter.gate import Budget
    from jisu.exporter.gate.prove import prove
    from jisu.exporter.precision.precision import precision_named

    recorded = artifact.manifest.quantization.get("budget")
    budget = Budget(**recorded) if recorded else precision_named(artifact.manifest.precision).budget
    write = _write_files(subject, artifact)
    return prove(artifact, subject.source, budget=budget, intended=subject.intended, write_files=write)


def stored(subject: Subject, artifact: Artifact) -> tuple[Check, ...]:
    """The comparisons of data alone."""
    from jisu.exporter.gate.stored import check_integers, check_stored

    integers = check_integers(artifact, subject.source, subject.intended)
    return (*integers, *check_stored(artifact, subject.source, _write_files(subject, artifact)))


def _write_files(subject: Subject, artifact: Artifact) -> Callable[[Path], None]:
    from jisu.exporter.packaging.folder_files import write_folder_files

    made = artifact.manifest
    return partial(write_folder_files, source=subject.source, signature=made.signature, target=made.target)


if __name__ == "__main__":
    main()
