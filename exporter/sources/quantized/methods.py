"""The methods of quantization by name: which are read from their tensors, and why others are not."""

from __future__ import annotations

from pathlib import Path

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.quantized.declaration import Declaration
from jisu.exporter.sources.quantized.table import WAY_OUT

# Whose weights, stored plainly, are the model: the method rounds weights and changes nothing else.
READ = (
    "auto-round",
    "awq",
    "bitsandbytes",
    "compressed-tensors",
    "fbgemm_fp8",
    "fp8",
    "gptq",
    "hqq",
    "intel/auto-round",
    "metal",
    "mlx",
    "modelopt",
    "mxfp4",
    "quanto",
    "torchao",
)
_UNREAD = {
    "aqlm": "its codes are indices into learned codebooks",
    "bitnet": "rounding activations to 8 bits and weights to three values is part of the model itself",
    "eetq": "its codes are laid out for one kind of GPU kernel",
    "fp_quant": "its weights are rotated, and its activations with them",
    "fouroversix": "it rounds weights when they are loaded",
    "gemma": "its codes and tables are of a format of their own",
    "higgs": "its codes are points of a lattice in a rotated space",
    "nvfp4": "it rounds weights when they are loaded",
    "quark": "its packed integers are reordered for GPU kernels",
    "quip": "its codes are points of a lattice in a rotated space",
    "sinq": "its weights have scales along both axes, of a format of their own",
    "spqr": "it keeps outliers apart, in a format of its own",
    "vptq": "its codes are indices into learned codebooks",
}
# Of llm-compressor, formats with codes that lie elsewhere than the weight's values do.
_UNREAD_FORMATS = ("marlin-24", "sparse-24-bitmask", "sparse-bitmask", "mxfp6-pack-quantized")


def check_method(declared: Declaration, folder: Path) -> None:
    """Raise InputError when a checkpoint's quantization is one that is not read here, with the reason."""
    method = declared.method
    # A declaration without a name leaves it to the tensors.
    if method and method not in READ:
        reason = _UNREAD.get(method, "it is not known here")
        raise _refusal(folder, f"the method {method} of {declared.origin}: {reason}")
    if method == "compressed-tensors":
        formats = {str(declared.setting("format") or "")}
        groups = declared.setting("config_groups")
        if isinstance(groups, dict):
            formats |= {str(one.get("format") or "") for one in groups.values() if isinstance(one, dict)}
        sparsity = declared.setting("sparsity_config")
        if isinstance(sparsity, dict):
            formats.add(str(sparsity.get("format") or ""))
        unread = sorted(formats & set(_UNREAD_FORMATS))
        if unread:
            raise _refusal(folder, f"the format {', '.join(unread)} of compressed-tensors")
        if declared.setting("transform_config"):
            raise _refusal(folder, "weights that were rotated, and activations that have to be (transform_config)")


def describe_plain(declared: Declaration, folder: Path, dtypes: list[str]) -> str:
    """The note on a checkpoint that says it is quantized and is not, as merging an adapter leaves it."""
    return (
        f"{declared.origin} of {folder} says that the weights are quantized ({declared.method}), but they are plain "
        f"{', '.join(dtypes)}: they are taken as they are."
    )


def _refusal(folder: Path, received: str) -> InputError:
    return InputError(
        f"The weights of {folder} are quantized in a way that cannot be read here",
        received=received,
        allowed=", ".join(READ),
        fix=WAY_OUT,
    )
