"""Compares ways of rounding to 4 bits that read no text: size, divergence of the worst domain and of all, seconds.

    python -m benchmarks.studies.data_free_int4 CHECKPOINT --out FILE.json \\
        [--texts gate] [--grid dithered] [--only "nearest, b32"]

The checkpoint runs in torch with weights that were rounded and put back, against itself. Formats are chosen on
``--texts development``: prompts in many languages, prose and code of the calibration mixture, which nothing here is
calibrated on; ``gate`` are the gate's domains. A file that was quantized to 4 bits lies on a grid; ``--grid dithered``
adds to each weight a random part of its step, as it may have been before, and compares with that model instead.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from jisu.benchmarks.studies.weight_formats import Domains, Subject, table
from jisu.calibration.text.mixture import CODE, PROMPTS, PROSE
from jisu.calibration.text.windows import Windows
from jisu.calibration.weights.block_columns import PIECE, BlockColumns
from jisu.calibration.weights.formats import BlockFormat, BlockQuantized, Floats
from jisu.calibration.weights.grid import find_grid
from jisu.calibration.weights.hqq import hqq
from jisu.calibration.weights.round_to_nearest import round_to_nearest
from jisu.exporter.gate.domain_tokens import DomainTokens, domain_tokens
from jisu.exporter.quantization.calibration_data import read_calibration_data
from jisu.exporter.quantization.matrices import Matrix, matrices_of
from jisu.exporter.sources import load_source

How = Literal["nearest", "least squares", "by magnitude", "by square", "half-quadratic", "by expected input"]
SCALE_BYTES = 2  # of a block's scale, as stored


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Four bits for the layers, but those whose name ends with one of ``eight``; 8 bits in blocks of 64 otherwise.

    ``ends``: of the layers in ``eight``, those of the first and last eighth and every third in between alone.
    """

    how: How = "least squares"
    block_size: int = 32
    symmetric: bool = False
    eight: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()

    def form(self, matrix: Matrix, layers: int) -> BlockFormat:
        short = matrix.name.rpartition(".")[2]
        number = next((int(part) for part in matrix.name.split(".") if part.isdigit()), 0)
        outer = number < layers // 8 or number >= 7 * layers // 8 or (number - layers // 8) % 3 == 2
        if matrix.embedding or short in self.eight or (short in self.ends and outer):
            return BlockFormat(bits=8, block_size=64, symmetric=True, short_last_block=True)
        return BlockFormat(bits=4, block_size=self.block_size, symmetric=self.symmetric, short_last_block=True)


KV, DOWN = ("k_proj", "v_proj"), ("down_proj",)
RECIPES: dict[str, Recipe] = {
    "nearest, b32": Recipe(how="nearest"),
    "least squares, b32": Recipe(),
    "least squares, symmetric, b32": Recipe(symmetric=True),
    "least squares, b64": Recipe(block_size=64),
    "least squares, b16": Recipe(block_size=16),
    "half-quadratic, b32": Recipe(how="half-quadratic"),
    "weighted by magnitude, b32": Recipe(how="by magnitude"),
    "weighted by square, b32": Recipe(how="by square"),
    "weighted by expected input, b32": Recipe(how="by expected input"),
    "least squares, b32, 8 bits for v": Recipe(eight=("v_proj",)),
    "least squares, b32, 8 bits for k and v": Recipe(eight=KV),
    "least squares, b32, 8 bits for down": Recipe(eight=DOWN),
    "least squares, b32, 8 bits for k, v, down": Recipe(eight=(*KV, *DOWN)),
    "least squares, b32, 8 bits for k, v, half of down": Recipe(eight=KV, ends=DOWN),
    "least squares, b16, 8 bits for k and v": Recipe(block_size=16, eight=KV),
    "least squares, b16, 8 bits for half of down": Recipe(block_size=16, ends=DOWN),
    "least squares, b16, 8 bits for v": Recipe(block_size=16, eight=("v_proj",)),
    "least squares, b32, 8 bits for k, v, o": Recipe(eight=(*KV, "o_proj")),
    "least squares, b32, 8 bits for k, v, o, half of down": Recipe(eight=(*KV, "o_proj"), ends=DOWN),
    "least squares, b64, 8 bits for k, v, down": Recipe(block_size=64, eight=(*KV, *DOWN)),
    "weighted by magnitude, b32, 8 bits for k, v, down": Recipe(how="by magnitude", eight=(*KV, *DOWN)),
    "weighted by magnitude, b32, 8 bits for k, v, half of down": Recipe(how="by magnitude", eight=KV, ends=DOWN),
    "half-quadratic, b32, 8 bits for k, v, down": Recipe(how="half-quadratic", eight=(*KV, *DOWN)),
}


def round_matrix(weight: Floats, form: BlockFormat, how: How, *, expected: Floats | None, name: str) -> BlockQuantized:
    """A matrix [N, K] rounded as a recipe says; 8 bits always by least squares.

    Args:
        expected: mean square of each input feature as it is expected without text, [K]; None where nobody knows.
    """
    if form.bits == 8 or how == "least squares":
        return round_to_nearest(weight, form, layer=name)
    if how == "nearest":
        return round_to_nearest(weight, form, layer=name, search=False)
    if how == "half-quadratic":
        return hqq(weight, form, layer=name)
    if how == "by expected input":
        return round_to_nearest(weight, form, layer=name, importance=expected)
    return _weighted(weight, form, power=1 if how == "by magnitude" else 2)


def _weighted(weight: Floats, form: BlockFormat, *, power: int) -> BlockQuantized:
    """Least squares with large weights counting more: r + |w|, or r**2 + w**2, of a block's root mean square r."""
    rows, size = weight.shape[0], form.block_size
    scales = np.empty((rows, weight.shape[1] // size), np.float32)
    zeros, codes = np.empty(scales.shape, np.uint8), np.empty(weight.shape, np.uint8)
    columns, piece = BlockColumns(form), max(1, PIECE // weight.shape[1])
    for start in range(0, rows, piece):
        place = slice(start, start + piece)
        blocks = np.ascontiguousarray(weight[place]).reshape(-1, size)
        spread = np.sqrt(np.square(blocks).mean(axis=1, keepdims=True))
        columns.load(blocks, np.ascontiguousarray((spread**power + np.abs(blocks) ** power).T))
        scale, zero = columns.search(steps=12, refits=2)
        columns.encode(scale, zero, out=codes[place].reshape(-1, size))
        scales[place], zeros[place] = scale.reshape(-1, scales.shape[1]), zero.reshape(-1, scales.shape[1])
    return BlockQuantized(codes=codes, scales=scales, zero_points=zeros, format=form)


def expected_inputs(module: Any) -> dict[str, Floats]:
    """Mean square of every input feature of a Llama-like model's layers, from norms and weights alone.

    Behind a norm it is the norm's weight squared, if what was normalized has no direction; values of such inputs have
    sum(w**2 * x**2); of a gate and an up projection with normal outputs, E[silu(g)**2] * E[u**2].
    """
    inputs: dict[str, Floats] = {}
    points, weights = np.polynomial.hermite_e.hermegauss(41)
    for number, layer in enumerate(module.model.layers):
        attention, mlp, prefix = layer.self_attn, layer.mlp, f"model.layers.{number}"
        before = np.square(layer.input_layernorm.weight.detach().float().numpy())
        behind = np.square(layer.post_attention_layernorm.weight.detach().float().numpy())
        for name in "qkv":
            inputs[f"{prefix}.self_attn.{name}_proj"] = before
        values = np.square(attention.v_proj.weight.detach().float().numpy()) @ before
        heads = values.reshape(module.config.num_key_value_heads, 1, -1)
        groups = module.config.num_attention_heads // module.config.num_key_value_heads
        inputs[f"{prefix}.self_attn.o_proj"] = np.repeat(heads, groups, axis=1).reshape(-1)
        for name in ("gate", "up"):
            inputs[f"{prefix}.mlp.{name}_proj"] = behind
        gate, up = (np.square(one.weight.detach().float().numpy()) @ behind for one in (mlp.gate_proj, mlp.up_proj))
        drawn = np.sqrt(gate)[:, None] * points
        silu = np.square(drawn / (1 + np.exp(-drawn))) @ weights / weights.sum()
        inputs[f"{prefix}.mlp.down_proj"] = np.asarray(silu * up, np.float32)
    return inputs


def apply(recipe: Recipe, module: Any) -> int:
    """Put rounded weights into the module; their stored bytes, with whatever stays float32."""
    import torch

    matrices = matrices_of(module)
    layers = len(module.model.layers)
    expected = expected_inputs(module) if recipe.how == "by expected input" else {}
    stored, done = 0, set()
    for matrix in matrices:
        parameter = module.get_submodule(matrix.name).weight
        if id(parameter) in done:
            continue
        done.add(id(parameter))
        form = recipe.form(matrix, layers)
        stored += form.stored_bytes(matrix.rows, matrix.features, layer=matrix.name, scale_bytes=SCALE_BYTES)
        weight = parameter.detach().float().numpy()
        rounded = round_matrix(weight, form, recipe.how, expected=expected.get(matrix.name), name=matrix.name)
        parameter.data.copy_(torch.from_numpy(rounded.dequantize()))
    return int(stored + sum(4 * one.numel() for one in module.parameters() if id(one) not in done))


def dither(module: Any, *, seed: int = 0) -> int:
    """Move each weight that lies on a 4-bit grid by a random part of up to half its step; the matrices that do."""
    import torch

    generator, moved = np.random.default_rng(seed), 0
    for matrix in matrices_of(module):
        parameter = module.get_submodule(matrix.name).weight
        weight = parameter.detach().float().numpy()
        grid = None if matrix.embedding else find_grid(weight, bits=4, layer=matrix.name)
        if grid is None:
            continue
        steps = np.repeat(grid.scales, grid.format.block_size, axis=1)[:, : weight.shape[1]]
        noise = generator.uniform(-0.5, 0.5, weight.shape).astype(np.float32)
        parameter.data.copy_(torch.from_numpy(weight + steps * noise))
        moved += 1
    return moved


def development(source: Any, *, windows: int) -> list[DomainTokens]:
    """Parts of the calibration mixture as domains: prompts in many languages, prose and code."""
    data = read_calibration_data(source, windows=windows, shares={PROMPTS: 2.0, CODE: 1.0, PROSE: 1.0})
    parts: dict[str, list[npt.NDArray[np.int64]]] = {}
    for part, window in zip(data.parts, data.windows.as_list(), strict=True):
        parts.setdefault(part, []).append(window)
    return [DomainTokens(name=name, windows=tuple(ids)) for name, ids in parts.items()]


def chosen(requested: str) -> Iterator[tuple[str, Recipe]]:
    """Recipes whose name is one of those requested, separated by semicolons; all without any."""
    names = [name.strip() for name in requested.split(";") if name.strip()]
    for name, recipe in RECIPES.items():
        if not names or name in names:
            yield name, recipe


def measure(
    module: Any, domains: Domains, recipes: Iterable[tuple[str, Recipe]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and figures of each recipe; the module's own weights are back at the end."""
    own = {name: value.clone() for name, value in module.state_dict().items()}
    subject = Subject(module, Windows(ids=np.zeros((0, 0), np.int64), seed=0))
    for name, recipe in recipes:
        module.load_state_dict(own)
        started = time.process_time()
        stored = apply(recipe, module)
        seconds = time.process_time() - started
        yield name, {"bytes": stored, "seconds": seconds, "domains": domains.score(subject.logits)}
    module.load_state_dict(own)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the figures")
    parser.add_argument("--texts", choices=("development", "gate"), default="development")
    parser.add_argument("--grid", choices=("ignored", "dithered"), default="ignored")
    parser.add_argument("--only", default="", help="names of recipes, separated by semicolons (default: all)")
    parser.add_argument("--tokens", type=int, default=256, help="of each domain, about (default: %(default)s)")
    parser.add_argument("--windows", type=int, default=12, help="of development texts (default: %(default)s)")
    options = parser.parse_args(arguments)
    source = load_source(options.checkpoint)
    assert source.tokenizer is not None, "the texts have to be made into tokens"
    settings = {"texts": options.texts, "grid": options.grid, "tokens": options.tokens}
    report: dict[str, Any] = {"checkpoint": Path(options.checkpoint).name, **settings, "rows": {}}
    if options.out.exists():
        report = json.loads(options.out.read_text(encoding="utf-8"))
        assert {key: report[key] for key in settings} == settings, f"{options.out} was measured with other settings"
    if options.grid == "dithered":
        report["dithered_matrices"] = dither(source.module)
    texts = development(source, windows=options.windows)
    if options.texts == "gate":
        texts = list(domain_tokens(source.tokenizer, source.model.vocab_size).domains)
    truth = Subject(source.module, Windows(ids=np.zeros((0, 0), np.int64), seed=0))
    tokens = options.tokens if options.texts == "gate" else 1 << 30
    with TemporaryDirectory() as folder:
        domains = Domains(texts, truth.logits, tokens=tokens, folder=Path(folder))
        missing = [(name, recipe) for name, recipe in chosen(options.only) if name not in report["rows"]]
        for name, row in measure(source.module, domains, missing):
            report["rows"][name] = row
            options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            print(table({"rows": {name: row}}).splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
