from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from jisu.calibration import sequential
from jisu.calibration.errors import ActivationError
from jisu.calibration.sequential import GroupStatistics, quantize_sequentially, split_rows
from jisu.calibration.weights.formats import BlockFormat, BlockQuantized
from jisu.calibration.weights.gptq import GptqOptions, gptq
from jisu.calibration.weights.round_to_nearest import round_to_nearest
from tests.calibration.tiny_models import TinyDecoder, tiny_decoder

FORMAT = BlockFormat(bits=4, block_size=16, symmetric=False)
WINDOWS = [np.random.default_rng(seed).integers(0, 32, 24) for seed in range(40)]
FRESH = [np.random.default_rng(seed).integers(0, 32, 24) for seed in range(100, 110)]
NAMES = [f"layers.{i}.{name}" for i in (0, 1) for name in ("query", "key", "value", "gate", "up", "down")]


def with_gptq(group: GroupStatistics) -> Sequence[BlockQuantized]:
    options = GptqOptions(damping=0.03)  # so few channels are known well by these windows
    stacked = gptq(np.concatenate(group.weights), group.hessian, FORMAT, layer=group.names[0], options=options)
    return split_rows(stacked, [len(weight) for weight in group.weights])


def by_rounding(group: GroupStatistics) -> Sequence[BlockQuantized]:
    return [round_to_nearest(weight, FORMAT, layer="w") for weight in group.weights]


def logits(model: TinyDecoder) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([model(torch.from_numpy(window)[None]).logits for window in FRESH])


def test_it_beats_rounding_on_fresh_windows() -> None:
    truth, errors = logits(tiny_decoder()), []
    for algorithm in (with_gptq, by_rounding):
        model = tiny_decoder()
        results = dict(quantize_sequentially(model, list(model.layers), WINDOWS, algorithm))
        errors.append(float((logits(model) - truth).square().mean()))
        assert list(results) == NAMES
        assert np.array_equal(model.layers[1].down.weight.detach().numpy(), results["layers.1.down"].dequantize())
    assert errors[0] < 0.8 * errors[1]


def test_later_groups_see_the_outputs_of_quantized_ones() -> None:
    model, seen = tiny_decoder(), {}

    def crush(group: GroupStatistics) -> Sequence[BlockQuantized]:
        seen[group.names[0]] = group.hessian
        return [round_to_nearest(weight * 0, FORMAT, layer="w") for weight in group.weights]

    list(quantize_sequentially(model, list(model.layers), WINDOWS, crush))
    # The gate is gone when the input of down is collected, so nothing enters it.
    assert not seen["layers.0.down"].any()
    # Nothing was added to the embedding, so that both layers see the same input.
    assert np.allclose(seen["layers.0.query"], seen["layers.1.query"], atol=1e-5)


def test_the_hessian_is_the_mean_over_all_tokens() -> None:
    model, seen = tiny_decoder(), {}

    def note(group: GroupStatistics) -> Sequence[BlockQuantized]:
        seen[group.names] = (group.hessian, group.mean_abs, group.tokens)
        return by_rounding(group)

    list(quantize_sequentially(model, list(model.layers), WINDOWS, note))
    tokens = torch.from_numpy(np.concatenate(WINDOWS))
    inputs = torch.nn.functional.rms_norm(model.embedding(tokens), (32,)).detach().numpy()
    hessian, mean_abs, count = seen["layers.0.query", "layers.0.key", "layers.0.value"]
    assert count == 960
    assert np.allclose(mean_abs, np.abs(inputs).mean(axis=0), atol=1e-5)
    assert np.allclose(hessian, inputs.T @ inputs / 960, atol=1e-5)


def test_windows_count_as_much_as_their_weights_say() -> None:
    def first_hessian(windows: list[np.ndarray], weights: list[float] | None) -> np.ndarray:
        model, seen = tiny_decoder(), {}

        def note(group: GroupStatistics) -> Sequence[BlockQuantized]:
            seen.setdefault("first", group.hessian)
            return by_rounding(group)

        list(quantize_sequentially(model, list(model.layers), windows, note, weights=weights))
        return seen["first"]

    weighted = first_hessian(WINDOWS[:2], [3.0, 1.0])
    repeated = first_hessian([WINDOWS[0]] * 3 + [WINDOWS[1]], None)
    assert np.allclose(weighted, repeated, atol=1e-5)
    assert not np.allclose(weighted, first_hessian(WINDOWS[:2], None), atol=1e-4)


def test_the_same_input_gives_the_same_bits() -> None:
    def run() -> dict[str, BlockQuantized]:
        model = tiny_decoder()
        return dict(quantize_sequentially(model, list(model.layers), WINDOWS, with_gptq))

    one, other = run(), run()
    assert all(
        (one[name].codes == other[name].codes).all() and (one[name].scales == other[name].scales).all()
        for name in NAMES
    )


def test_kept_layers_stay_as_they_are() -> None:
    model, original = tiny_decoder(), tiny_decoder()
    results = dict(
        quantize_sequentially(
            model, list(model.layers), WINDOWS, by_rounding, keep=lambda name: name.startswith("layers.1")
        )
    )
    assert set(results) == set(NAMES[:6])
    assert torch.equal(model.layers[1].up.weight, original.layers[1].up.weight)


def test_values_that_are_not_finite_name_the_layer() -> None:
    model = tiny_decoder()
    model.embedding.weight.data[3] = float("nan")
    with pytest.raises(ActivationError, match="the input of layers.0.query"):
        list(quantize_sequentially(model, list(model.layers), WINDOWS, by_rounding))


def test_sums_of_products_are_whole_whatever_blocks_they_are_added_in(monkeypatch: pytest.MonkeyPatch) -> None:

    rows = torch.randn(2, 9, 70, generator=torch.Generator().manual_seed(0))
    sums = {}
    for block in (1, 32, 70, 1024):
        monkeypatch.setattr(sequential, "_BLOCK", block)
        sums[block] = sequential._Input(70)
        sums[block].add(rows, 2.0)
        sums[block].add(rows[:1], 1.0)
    expected = 2 * rows.reshape(-1, 70).T @ rows.reshape(-1, 70) + rows[0].T @ rows[0]
    for block, one in sums.items():
        monkeypatch.setattr(sequential, "_BLOCK", block)
        torch.testing.assert_close(one.products(), expected)
