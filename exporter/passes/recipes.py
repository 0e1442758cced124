"""Which passes make a graph for a target and precision, in which order, and how often each of them has to fire.

A recipe is made of named segments. Their order is what matters, and is said where they are joined.
"""

from __future__ import annotations

from dataclasses import replace

from jisu.exporter.contract.artifact import AUDIO_TEXT, IMAGE_TEXT, MODEL_KINDS, ONE_PASS_KINDS, ModelKind
from jisu.exporter.contract.errors import InputError
from jisu.exporter.passes.steps import Step

# What the tracer writes, tidied. Sums such as the one plus weight of some norms have to be constants before the norm is
# recognized.
CLEAN = (
    Step(name="split_gemm"),
    Step(name="transpose_weights"),
    Step(name="fold_constants"),
    Step(name="static_reshapes"),
    Step(name="remove_noops"),
)
# Standard operators of opset 24 in place of what models spell out.
FUSE = (
    Step(name="fuse_rms_norm", expect="reported"),
    Step(name="fuse_rope", expect="reported", reads=("max_positions",)),
    Step(name="select_logits", expect="all", changes_signature=True),
)
PORTABLE = (*CLEAN, *FUSE)

ATTENTION = (
    Step(name="lower_gqa", expect="all", reads=("max_positions",), counting_reads=("max_positions",)),
    # The lowering merges heads around each attention; most of that cancels against the model's own splitting.
    Step(name="remove_noops"),
    Step(name="pack_qkv", reads=("quantized",)),
)
# What is left of attention on the CPU: of models that read whole texts, and of encoders.
MERGE_HEADS = (Step(name="merge_attention_heads", expect="all"),)
MERGE_GATE_UP = (Step(name="fuse_gate_up", reads=("quantized",)),)
NORMS_AND_TABLES = (
    Step(name="lower_skip_norm", expect="all"),
    Step(name="compute_rope_tables"),
)
# The matmuls are merged first: a merged weight is quantized as the parts it is made of.
INTEGER_WEIGHTS = (
    Step(name="fold_channel_scales", expect="all", reads=("quantized",), counting_reads=("quantized",)),
    Step(name="quantize_recurrent", expect="all", reads=("quantized", "target"), counting_reads=("quantized",)),
    Step(name="quantize_weights", expect="all", reads=("quantized", "target"), counting_reads=("quantized",)),
)
# Of a checkpoint whose groups of input features are no neighbours, before its weights become integers.
ORDER_INPUTS = (Step(name="order_inputs", expect="all", reads=("quantized",), counting_reads=("quantized",)),)
# TensorRT and GPUs run no recurrent weights of integers.
INTEGER_WEIGHTS_ON_GPU = (
    Step(name="fold_channel_scales", expect="all", reads=("quantized",), counting_reads=("quantized",)),
    Step(name="quantize_weights", expect="all", reads=("quantized", "target"), counting_reads=("quantized",)),
)
INTEGER_ACTIVATIONS = (
    Step(name="quantize_matmuls", expect="all", reads=("quantized",), counting_reads=("quantized",)),
)
LOWER_BLOCKS = (
    Step(name="lower_matmul_nbits", expect="all"),
    Step(name="lower_quantized_embedding", expect="all"),
)
SMALLER_WEIGHTS = (
    Step(name="pack_narrow_codes", expect="all", reads=("quantized",), counting_reads=("quantized",)),
    Step(name="store_half_scales", expect="all"),
)
# Last on ONNX Runtime: the mask becomes lengths, which nothing but the lowered attention reads.
LENGTHS = (Step(name="lower_attention_mask", expect="all", changes_signature=True),)
COMPUTE_HALF = (
    Step(name="keep_float", reads=("half", "target", "kept", "windows")),
    Step(name="compute_half", expect="all", changes_signature=True, reads=("half",)),
)
# Calls can be recorded when nothing is copied to the GPU on the way.
CUDA_INPUTS = (*LENGTHS, Step(name="count_in_gpu_memory", expect="all"))

ORT_ATTENTION = (*PORTABLE, *ATTENTION, *MERGE_HEADS)
ORT = (*ORT_ATTENTION, *MERGE_GATE_UP, *NORMS_AND_TABLES)
ORT_FP32 = (*ORT, *LENGTHS)
ORT_WEIGHT_ONLY = (*ORT, *INTEGER_WEIGHTS, *LOWER_BLOCKS, *SMALLER_WEIGHTS, *LENGTHS)
PORTABLE_WEIGHT_ONLY = (*PORTABLE, *INTEGER_WEIGHTS)
ORT_KEPT = (*ORT, *ORDER_INPUTS, *INTEGER_WEIGHTS, *LOWER_BLOCKS, *SMALLER_WEIGHTS, *LENGTHS)
PORTABLE_KEPT = (*PORTABLE, *ORDER_INPUTS, *INTEGER_WEIGHTS)
# Decoder layers whose inputs have 8 bits too; the embedding, and layers that would suffer, have blocks as above. Gate
# and up stay apart: for long inputs, which this is for, cutting their common output costs more than a second matmul.
ORT_W8A8 = (
    *ORT_ATTENTION,
    *NORMS_AND_TABLES,
    *INTEGER_WEIGHTS,
    *INTEGER_ACTIVATIONS,
    Step(name="lower_integer_matmul", expect="all"),
    *LOWER_BLOCKS,
    *SMALLER_WEIGHTS,
    *LENGTHS,
)
PORTABLE_W8A8 = (*PORTABLE_WEIGHT_ONLY, *INTEGER_ACTIVATIONS)
# The weights last, when every matmul that can be merged has been.
ORT_HALF = (*ORT_FP32, Step(name="store_half", expect="all", reads=("half", "kept"), counting_reads=("half", "kept")))
PORTABLE_HALF = (*PORTABLE, *COMPUTE_HALF)

# What TensorRT's attention layer cannot express is spelled out before float types are chosen, so that softmax and
# bounds get theirs like any other operator; what it misreads is looked for at the very end.
TENSORRT = (
    *PORTABLE,
    Step(name="explicit_causal_mask", expect="all"),
    Step(name="decompose_attention", expect="all"),
)
TENSORRT_END = (
    Step(name="require_logits_positions", expect="all", changes_signature=True),
    Step(name="drop_softmax_precision", expect="all"),
    Step(name="lint_tensorrt"),
)
TENSORRT_FP32 = (*TENSORRT, *TENSORRT_END)
TENSORRT_HALF = (*TENSORRT, *COMPUTE_HALF, *TENSORRT_END)
# Matmuls with integer weights are computed in float16, what is not quantized is stored in it.
TENSORRT_WEIGHT_ONLY = (*TENSORRT, *INTEGER_WEIGHTS_ON_GPU, *COMPUTE_HALF, *TENSORRT_END)
# Scales of single rows have more digits than float16: what lies between the int8 matmuls stays float32. Layers whose
# inputs have outliers keep float32 inputs, and blocks of integers for weights.
TENSORRT_W8A8 = (*TENSORRT, *INTEGER_WEIGHTS_ON_GPU, *INTEGER_ACTIVATIONS, *TENSORRT_END)

# ONNX Runtime's fused attention has no float32 kernel for GPUs; the standard operators have.
ORT_CUDA_FP32 = (*PORTABLE, *CUDA_INPUTS)
# The fused operators of ONNX Runtime with their floats in half precision, which is what its fast kernels are for.
ORT_GPU = (*PORTABLE, *ATTENTION, *MERGE_GATE_UP, *NORMS_AND_TABLES)
ORT_CUDA_HALF = (*ORT_GPU, *COMPUTE_HALF, *CUDA_INPUTS)
ORT_CUDA_WEIGHT_ONLY = (*ORT_GPU, *INTEGER_WEIGHTS_ON_GPU, *LOWER_BLOCKS, *COMPUTE_HALF, *CUDA_INPUTS)
ORT_CUDA_KEPT = (*ORT_GPU, *ORDER_INPUTS, *INTEGER_WEIGHTS_ON_GPU, *LOWER_BLOCKS, *COMPUTE_HALF, *CUDA_INPUTS)

RECIPES: dict[tuple[str, str], tuple[Step, ...]] = {
    ("portable", "fp32"): PORTABLE,
    ("ort-cpu", "fp32"): ORT_FP32,
    ("portable", "fp16"): PORTABLE_HALF,
    ("ort-cpu", "fp16"): ORT_HALF,
    ("portable", "bf16"): PORTABLE_HALF,
    ("ort-cpu", "bf16"): ORT_HALF,
    ("portable", "int8"): PORTABLE_WEIGHT_ONLY,
    ("ort-cpu", "int8"): ORT_WEIGHT_ONLY,
    ("portable", "int4"): PORTABLE_WEIGHT_ONLY,
    ("ort-cpu", "int4"): ORT_WEIGHT_ONLY,
    ("portable", "w8a8"): PORTABLE_W8A8,
    ("ort-cpu", "w8a8"): ORT_W8A8,
    ("portable", "w8a8-dynamic"): PORTABLE_W8A8,
    ("ort-cpu", "w8a8-dynamic"): ORT_W8A8,
    ("portable", "mixed"): PORTABLE_WEIGHT_ONLY,
    ("ort-cpu", "mixed"): ORT_WEIGHT_ONLY,
    ("portable", "gguf"): PORTABLE_WEIGHT_ONLY,
    ("ort-cpu", "gguf"): ORT_WEIGHT_ONLY,
    ("portable", "kept"): PORTABLE_KEPT,
    ("ort-cpu", "kept"): ORT_KEPT,
    ("ort-cuda", "fp32"): ORT_CUDA_FP32,
    ("ort-cuda", "fp16"): ORT_CUDA_HALF,
    ("ort-cuda", "bf16"): ORT_CUDA_HALF,
    ("ort-cuda", "int8"): ORT_CUDA_WEIGHT_ONLY,
    ("ort-cuda", "int4"): ORT_CUDA_WEIGHT_ONLY,
    ("ort-cuda", "mixed"): ORT_CUDA_WEIGHT_ONLY,
    ("ort-cuda", "gguf"): ORT_CUDA_WEIGHT_ONLY,
    ("ort-cuda", "kept"): ORT_CUDA_KEPT,
    ("tensorrt", "fp32"): TENSORRT_FP32,
    ("tensorrt", "fp16"): TENSORRT_HALF,
    ("tensorrt", "bf16"): TENSORRT_HALF,
    ("tensorrt", "int8"): TENSORRT_WEIGHT_ONLY,
    ("tensorrt", "int4"): TENSORRT_WEIGHT_ONLY,
    ("tensorrt", "w8a8"): TENSORRT_W8A8,
}
# (target, precision) -> why there is no recipe, and the precision to use instead.
_NO_ZERO_POINTS = ("files have embeddings of integers and zero points, which TensorRT does not take", "int8 or int4")
_NO_INT8_MATMUL = ("ONNX Runtime does not fuse products of 8-bit inputs on a GPU", "int8 or int4")
WHY_NOT: dict[tuple[str, str], tuple[str, str]] = {
    ("ort-cuda", "w8a8"): _NO_INT8_MATMUL,
    ("ort-cuda", "w8a8-dynamic"): _NO_INT8_MATMUL,
    ("tensorrt", "w8a8-dynamic"): ("TensorRT rounds the inputs of products by scales that are fixed", "w8a8"),
    ("tensorrt", "mixed"): ("its weights have zero points, which TensorRT does not take", "int8 or int4"),
    ("tensorrt", "gguf"): _NO_ZERO_POINTS,
    ("tensorrt", "kept"): _NO_ZERO_POINTS,
}


# Of a graph that reads images or hears, for every precision, and then by how its weights are stored.
FEATURE_STEPS: tuple[Step, ...] = (*CLEAN, Step(name="fuse_rms_norm"), *MERGE_HEADS)
FEATURE_HALF: tuple[Step, ...] = (ORT_HALF[-1],)
_FEATURE_INTEGERS: dict[str, tuple[Step, ...]] = {
    "ort-cpu": (INTEGER_WEIGHTS[-1], LOWER_BLOCKS[0], *SMALLER_WEIGHTS),
    "portable": (INTEGER_WEIGHTS[-1],),
}


def feature_integer_steps(target: str) -> tuple[Step, ...]:
    """The steps behind `FEATURE_STEPS` that store weights as integers."""
    return _FEATURE_INTEGERS[target]


# They concern what is carried from token to token, and the logits of it: what reads a whole text, and an encoder, has
# neither.
_OF_STATE = frozenset(
    {"select_logits", "lower_gqa", "lower_attention_mask", "compute_rope_tables", "require_logits_positions"}
    | {"count_in_gpu_memory"}
)
# A rotation becomes one operator where positions go on from a past; without one, its arithmetic stays as it is.
_OPTIONAL_IN_ONE_PASS = frozenset({"fuse_rope"})


def recipe_for(
    target: str, precision: str, model_kind: ModelKind = MODEL_KINDS[0], *, generates: bool = True
) -> tuple[Step, ...]:
    """The steps for a target, a precision and a model kind; raises InputError when there is no such recipe.

    Args:
        generates: whether a model that hears says one token after the other, instead of labelling frames.
    """
    if model_kind in ONE_PASS_KINDS or not generates:
        steps = [step for step in recipe_for(target, precision) if step.name not in _OF_STATE]
        steps = [replace(step, expect="any") if step.name in _OPTIONAL_IN_ONE_PASS else step for step in steps]
        # Every recipe begins with these.
        clean = len(CLEAN)
        return (*steps[:clean], Step(name="widen_masks"), *steps[clean:])
    if model_kind in (IMAGE_TEXT, AUDIO_TEXT):
        return (*recipe_for(target, precision), Step(name="image_defaults", expect="all"))
    try:
        return RECIPES[target, precision]
    except KeyError:
        known = [format_ for goal, format_ in RECIPES if goal == target]
        able = [goal for goal, format_ in RECIPES if format_ == precision]
        why, instead = WHY_NOT.get((target, precision), ("", "one of these"))
        others = f", or --target {' or '.join(able)}" if able else ""
        raise InputError(
            f"There is no recipe for target {target} in precision {precision}" + (f": {why}" if why else ""),
            received=f"--target {target} --precision {precision}",
            allowed=f"--target {target} with --precision {', '.join(known)}" if known else ", ".join(_targets()),
            fix=f"Choose {instead}{others}.",
        ) from None


def _targets() -> list[str]:
    return list(dict.fromkeys(target for target, _ in RECIPES))


def encoder_steps(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Those steps of a decoder's recipe that its encoder needs too."""
    return tuple(step for step in steps if step.name not in _OF_STATE)
