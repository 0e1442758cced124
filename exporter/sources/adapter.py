"""Merges LoRA adapters of PEFT into a loaded model, exactly: in float32, and every stored tensor or none.

W' = W + s * B A for a matrix [out, in], s the scale of `exporter.sources.adapter_config`; the columns of an embedding
likewise (Hu et al. 2021, LoRA, section 4.1). With DoRA (Liu et al. 2024, section 4.1)
W' = m * (W + s * B A) / |W + s * B A| with the norm of each row. Tensors without a matrix of their own (modules to
save, biases) take the base's place.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.placeholders import refuse_placeholder
from jisu.exporter.sources.adapter_config import ADAPTER_CONFIG, LoraSettings, is_adapter, read_lora_settings
from jisu.exporter.sources.facts import vocab_size, weight_bytes
from jisu.exporter.sources.provenance import file_records
from jisu.exporter.sources.stored_names import match_names
from jisu.exporter.sources.stored_weights import open_weights
from jisu.exporter.sources.tokenizer import TOKENIZER_FILES, check_ids, check_template, load_folder_tokenizer

if TYPE_CHECKING:
    import torch

    from jisu.exporter.sources.source import Source

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_PREFIX = "base_model.model."
# What PEFT puts behind a module's name, and what kind of matrix it is then. An adapter's name may follow (older files).
_PARTS = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)"
    r"(?:\.default)?(?:\.(?P<kind>weight|bias))?"
)


@dataclass(frozen=True, kw_only=True)
class _Adapter:
    folder: Path
    settings: LoraSettings

    def refuse(self, problems: Iterable[str]) -> None:
        listed = list(problems)
        if listed:
            more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
            raise InputError(
                f"The adapter {self.folder} does not belong to this model",
                received="; ".join(listed[:5]) + more,
                allowed=f"the model that it was trained on, {self.settings.base or 'which it does not name'}",
                fix="Give the base model that belongs to it.",
            )


def with_base(checkpoint: str | Path, adapters: Sequence[str | Path]) -> tuple[str | Path, list[str | Path]]:
    """A checkpoint and its adapters, where a folder that holds nothing but an adapter may stand for both.

    Raises:
        InputError: such a folder does not name a base model that lies on this machine.
    """
    folder = Path(checkpoint)
    if not is_adapter(folder):
        return checkpoint, list(adapters)
    base = read_lora_settings(folder).base
    base_path = next((path for place in _places(base, folder) if (path := _placed(place)) is not None), None)
    if base_path is None:
        raise InputError(
            f"{folder} holds an adapter, not a model",
            received=f"a base model named {base!r}, which is not on this machine",
            allowed="a complete model, or an adapter whose base_model_name_or_path is a local folder",
            fix=f"Give the base model and the adapter: jisu export {base or 'BASE'} --adapter {folder}.",
        )
    return base_path, [folder, *adapters]


def _places(base: str | None, folder: Path) -> list[Path]:
    return [] if base is None else [Path(base), folder / base, folder.parent / base]


def _placed(path: Path) -> Path | None:
    """The path where something lies there; None of what cannot be a path, too: the name is the file's."""
    try:
        path = path.expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError):  # longer than names can be; the home of nobody
        return None


def merge_adapters(source: Source, folders: Sequence[Path], *, allow_pickle: bool = False) -> Source:
    """A source with adapters merged into its weights, one after the other; its module is changed in place.

    Raises:
        InputError: something that is no LoRA adapter, that cannot be merged, or that belongs to another model.
    """
    for folder in folders:
        source = _merge(source, Path(folder), allow_pickle=allow_pickle)
    return source


def _merge(source: Source, folder: Path, *, allow_pickle: bool) -> Source:
    adapter = _Adapter(folder=folder, settings=read_lora_settings(folder))
    file = _weight_file(folder, allow_pickle=allow_pickle)
    with open_weights([file], pickled=file.suffix == ".bin") as stored:
        tensors = {name: stored.weights[name][...].float() for name in stored.shapes}
    matrices, others = _sorted(tensors, adapter)
    module: Any = source.module
    notes = [f"The adapter {folder} is merged into the weights: {len(tensors)} tensors."]
    rows = vocab_size(module)
    saved = [name.rpartition(".")[0] for name in others]
    notes += _untie(module, [*matrices, *(one for one in saved if adapter.settings.saves(one))], adapter)
    _replace(module, others, adapter)
    for name, parts in matrices.items():
        _add(module, name, parts, adapter)
    tokenizer = source.tokenizer
    if any((folder / name).is_file() for name in TOKENIZER_FILES):
        tokenizer = load_folder_tokenizer(folder, module.config)
        check_template(tokenizer, folder)
        notes.append(f"The tokenizer is the adapter's own, from {folder}.")
    if tokenizer is not None:
        check_ids(tokenizer, vocab_size(module), folder)
    if vocab_size(module) != rows:
        notes.append(f"The adapter brings {vocab_size(module)} rows of the vocabulary in place of {rows}.")
    records = file_records([folder / ADAPTER_CONFIG, file])
    files = {f"{folder.name}/{name}": record for name, record in records.items()}
    provenance = {
        **source.provenance,
        "files": {**source.provenance.get("files", {}), **files},
        "adapters": [*source.provenance.get("adapters", []), str(folder)],
    }
    return replace(
        source,
        tokenizer=tokenizer,
        model=replace(
            source.model,
            vocab_size=vocab_size(module),
            parameters=sum(parameter.numel() for parameter in module.parameters()),
        ),
        provenance=provenance,
        weight_bytes=weight_bytes(module),
        notes=(*source.notes, *notes),
        account=source.account.state("tensor", tensors, fate="used", why=f"merged from the adapter {folder.name}"),
        open_quantized=None,
    )


def _weight_file(folder: Path, *, allow_pickle: bool) -> Path:
    for name in WEIGHTS:
        refuse_placeholder(folder / name)
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise InputError(
            f"The adapter {folder} has no weights",
            received="a folder without a weight file",
            allowed=" or ".join(WEIGHTS),
            fix="Download or save it again.",
        )
    if file.suffix == ".bin" and not allow_pickle:
        raise InputError(
            f"The weights of the adapter {folder} are a pickle file, which can run code",
            received=file.name,
            allowed="safetensors files, or pickle files with --allow-pickle",
            fix="Convert the weights to safetensors, or pass --allow-pickle if you trust their origin.",
        )
    return file


def _sorted(
    tensors: Mapping[str, torch.Tensor], adapter: _Adapter
) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """The matrices of each module, and the tensors that take a weight's place, under the names of the base."""
    matrices: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    others: dict[str, torch.Tensor] = {}
    strays = []
    for name, tensor in tensors.items():
        if not name.startswith(_PREFIX):
            strays.append(f"{name}, which does not begin with {_PREFIX}")
            continue
        inner = name.removeprefix(_PREFIX)
        match = _PARTS.fullmatch(inner)
        if match is not None:
            part = match["part"] + (".bias" if match["kind"] == "bias" else "")
            matrices[match["module"]][part] = tensor
        elif "lora_" in inner or "trainable_tokens" in inner:
            strays.append(f"{name}, which is not understood")
        else:
            plain = re.sub(r"\.(?:base_layer|original_module|modules_to_save(?:\.default)?)(?=\.)", "", inner)
            others[plain] = tensor
    adapter.refuse(strays)
    return dict(matrices), others


def _replace(module: Any, others: Mapping[str, torch.Tensor], adapter: _Adapter) -> None:
    """Put whole tensors into the places of the base's own; tables of tokens may have more or fewer rows."""
    import torch

    targets = _targets(module, others)
    adapter.refuse(f"{name}, which the model has not" for name in others if targets[name] is None)
    tables = {
        table.weight: table
        for table in (module.get_input_embeddings(), module.get_output_embeddings())
        if table is not None
    }
    state = dict(module.named_parameters(remove_duplicate=False))
    grown = {
        tensor.shape[0]
        for name, tensor in others.items()
        if (own := state.get(str(targets[name]))) is not None and own in tables and tensor.shape[0] != own.shape[0]
    }
    if len(grown) == 1:
        rows = grown.pop()
        stated = {str(targets[name]) for name in others}
        kept = [name for name, own in state.items() if own in tables and name not in stated]
        lost = [name for name in kept if not any(state[name] is state[other] for other in stated if other in state)]
        adapter.refuse(f"{name} has no rows for the adapter's {rows} tokens" for name in lost)
        module.resize_token_embeddings(rows, mean_resizing=False)
        module.requires_grad_(False)  # noqa: FBT003
        state = dict(module.named_parameters(remove_duplicate=False))
    problems = []
    with torch.no_grad():
        for name, tensor in others.items():
            own = state.get(str(targets[name]))
            if own is None or own.shape != tensor.shape:
                needed = "nothing" if own is None else list(own.shape)
                problems.append(f"{name} is {list(tensor.shape)} instead of {needed}")
                continue
            own.data = tensor.to(own.device).clone()
    adapter.refuse(problems)


def _untie(module: Any, changed: Iterable[str], adapter: _Adapter) -> list[str]:
    """Give a table its own weights where the adapter changes one of its two uses only."""
    import torch

    head, table = module.get_output_embeddings(), module.get_input_embeddings()
    if head is None or table is None or head.weight is not table.weight or adapter.settings.ties:
        return []
    named = {id(module.get_submodule(name)) for name in changed if _has(module, name)}
    if not named & {id(head), id(table)}:
        return []
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    for config in (module.config, module.config.get_text_config()):
        config.tie_word_embeddings = False
    return ["The adapter changes one of two tied weights: embedding and output projection are two weights now."]


def _add(module: Any, name: str, parts: Mapping[str, torch.Tensor], adapter: _Adapter) -> None:
    """Merge one module's matrices."""
    import torch

    place = _module_name(module, name)
    adapter.refuse([f"{name}, which the model has not"] if place is None else [])
    layer = module.get_submodule(str(place))
    embedding = isinstance(layer, torch.nn.Embedding)
    first, second = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A", "lora_B")
    extra = set() if embedding else {"lora_magnitude_vector", "lora_B.bias"}
    strays = [part for part in parts if part not in (first, second, *extra)]
    weight = getattr(layer, "weight", None)
    if strays or first not in parts or second not in parts or weight is None or weight.ndim != 2:
        what = type(layer).__name__
        adapter.refuse([f"{name} has {', '.join(sorted(parts))}, which cannot be merged into {what}"])
    assert weight is not None
    down, up = parts[first].to(weight.device), parts[second].to(weight.device)
    rank = adapter.settings.rank_of(name)
    shape = list(weight.shape)
    needed = ([rank, shape[0]], [shape[1], rank]) if embedding else ([rank, shape[1]], [shape[0], rank])
    if (list(down.shape), list(up.shape)) != needed:
        adapter.refuse([f"{name} has {list(down.shape)} and {list(up.shape)} instead of {needed[0]} and {needed[1]}"])
    scale = adapter.settings.scale_of(name)
    with torch.no_grad():
        product = up @ down * scale
        merged = weight + (product.T if embedding else product)
        if ("lora_magnitude_vector" in parts) != adapter.settings.dora:
            adapter.refuse([f"{name} has {'no' if adapter.settings.dora else 'a'} magnitude vector"])
        if "lora_magnitude_vector" in parts:
            magnitude = parts["lora_magnitude_vector"].to(weight.device).reshape(-1, 1)
            if magnitude.shape[0] != shape[0]:
                adapter.refuse([f"the magnitudes of {name} are {magnitude.shape[0]} instead of {shape[0]}"])
            merged = magnitude / merged.norm(dim=1, keepdim=True) * merged
        weight.data = merged
        bias = parts.get("lora_B.bias")
        if bias is not None:
            own = torch.zeros(shape[0], device=weight.device) if layer.bias is None else layer.bias
            layer.bias = torch.nn.Parameter(own + bias.to(weight.device) * scale, requires_grad=False)


def _targets(module: Any, names: Iterable[str]) -> dict[str, str | None]:
    """The weight or buffer of a model that each name means, also in the spelling of older versions."""
    own = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    matches = match_names(module, [name for name in names if name not in own])
    targets: dict[str, str | None] = {name: name for name in names if name in own}
    for name, match in matches.items():
        targets[name] = match.targets[0] if len(match.targets) == 1 and not match.converted else None
    return targets


def _module_name(module: Any, name: str) -> str | None:
    if _has(module, name):
        return name
    target = _targets(module, [f"{name}.weight"])[f"{name}.weight"]
    return None if target is None else target.removesuffix(".weight")


def _has(module: Any, name: str) -> bool:
    try:
        module.get_submodule(name)
    except AttributeError:
        return False
    return True
