from __future__ import annotations

from dataclasses import replace

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.precision.precision import ROW, WeightFormat, for_target, precision_named, without_text
from jisu.exporter.quantization import weight_formats as module
from jisu.exporter.quantization.matrices import Matrix
from jisu.exporter.quantization.weight_formats import choose_formats, finer_without_text, fit_block_size


def matrix(name, features=64, *, embedding=False, storage=None):
    return Matrix(name=name, rows=8, features=features, embedding=embedding, storage=storage or hash(name))


LAYERS = [matrix(f"layers.{i}.{part}") for i in range(2) for part in ("q", "up")]
TIED = [matrix("embed", embedding=True, storage=1), matrix("lm_head", embedding=True, storage=1)]


def test_layers_and_tables_get_the_formats_of_the_precision():
    choice = choose_formats([*LAYERS, *TIED], precision_named("int4"))
    assert {form.bits for name, form in choice.formats.items() if name.startswith("layers")} == {4}
    assert {choice.formats["embed"].bits, choice.formats["lm_head"].bits} == {8}
    assert choice.calibrated


def test_kept_layers_stay_float_and_a_tied_embedding_is_kept_under_both_names():
    choice = choose_formats([*LAYERS, *TIED], precision_named("int8"), keep=["*.up", "lm_head"])
    assert [name for name, form in choice.formats.items() if form is None] == [
        "layers.0.up",
        "layers.1.up",
        "embed",
        "lm_head",
    ]


def test_a_graph_of_features_that_is_misspelled_is_suggested():
    with pytest.raises(InputError, match=r"--keep vison\.onnx.*Did you mean vision\.onnx"):
        choose_formats(LAYERS, precision_named("int8"), keep=["vison.onnx"])


def test_a_pattern_that_matches_nothing_is_named():
    with pytest.raises(InputError, match=r"matches nothing.*--keep \*\.gate"):
        choose_formats(LAYERS, precision_named("int8"), keep=["*.gate"])


def test_keeping_everything_is_refused():
    with pytest.raises(InputError, match="nothing to quantize"):
        choose_formats(LAYERS, precision_named("int8"), keep=["*"])


def test_a_default_block_size_gives_way_to_the_layer_and_says_so():
    choice = choose_formats([matrix("layers.0.q", 48)], precision_named("int4"))
    form = choice.formats["layers.0.q"]
    assert form is not None
    assert form.block_size == 16
    assert "block size 16, 32 does not divide" in choice.notes[0]


def test_int4_spends_bytes_on_the_longest_and_the_smallest_layers():
    shapes = {"q": (256, 256), "k": (64, 256), "up": (512, 256), "down": (256, 512)}
    layers = [
        Matrix(name=f"layers.0.{name}", rows=rows, features=features, embedding=False, storage=rows * features + rows)
        for name, (rows, features) in shapes.items()
    ]
    formats = choose_formats(layers, precision_named("int4")).formats
    four = WeightFormat(bits=4, block_size=32, symmetric=False)
    assert formats["layers.0.q"] == formats["layers.0.up"] == four
    assert formats["layers.0.down"] == WeightFormat(bits=8, block_size=64, symmetric=True)
    assert formats["layers.0.k"] == WeightFormat(bits=8, block_size=32, symmetric=True), "an eighth of up"


def test_without_text_the_outer_layers_and_every_third_between_have_the_longest_in_8_bits():
    shapes = {"up": (512, 256), "down": (256, 512)}
    layers = [
        Matrix(name=f"layers.{i}.{name}", rows=rows, features=features, embedding=False, storage=i * 10 + rows)
        for i in range(16)
        for name, (rows, features) in shapes.items()
    ]
    formats = choose_formats(layers, without_text(precision_named("int4"))).formats
    assert [i for i in range(16) if formats[f"layers.{i}.down"].bits == 8] == [0, 1, 4, 7, 10, 13, 14, 15]
    assert {formats[f"layers.{i}.up"].bits for i in range(16)} == {4}


def test_without_text_a_file_that_can_hold_6_bits_has_them_but_for_the_smallest_layers(monkeypatch):
    layers = [
        Matrix(name=f"layers.{i}.{name}", rows=rows, features=features, embedding=False, storage=(i, name))
        for i in range(16)
        for name, rows, features in (("up", 512, 256), ("down", 256, 512), ("k", 32, 256))
    ]
    tied = [Matrix(name=name, rows=999, features=256, embedding=True, storage="tied") for name in ("embed", "head")]
    matrices = [*layers, *tied]

    def bits(choice):
        return {name.rpartition(".")[2]: form.bits for name, form in choice.formats.items()}

    precision = without_text(precision_named("int4"))
    choice = replace(choose_formats(matrices, precision, stored_bits=True), algorithm="rtn")
    finer = finer_without_text(choice, matrices)
    assert bits(finer) == {"up": 6, "down": 6, "k": 8, "embed": 6, "head": 6}
    assert finer_without_text(finer, matrices) == finer
    # No file for another target holds them, and all layers may have a grid of their own.
    other = choose_formats(matrices, precision)
    assert finer_without_text(other, matrices) == other
    grid = replace(choice, algorithm="grid")
    assert finer_without_text(grid, matrices) == grid
    kept = choose_formats(matrices, precision, keep=["head"], stored_bits=True)
    assert finer_without_text(kept, matrices).formats["embed"] is None
    monkeypatch.setattr(module, "MOST_WITHOUT_TEXT", sum(one.elements for one in layers) + tied[0].elements - 1)
    assert finer_without_text(choice, matrices) == choice


def test_with_text_the_longest_have_them_until_the_text_has_said_which():
    layers = [
        Matrix(name=f"layers.{i}.{name}", rows=8, features=features, embedding=False, storage=i * 999 + features)
        for i in range(16)
        for name, features in (("up", 256), ("down", 512))
    ]
    choice = choose_formats(layers, precision_named("int4"))
    assert all(choice.formats[f"layers.{i}.down"].bits == 8 for i in range(16))
    few, many = choice.spread
    assert (few.bits, few.block_size, many.bits, many.block_size) == (4, 32, 8, 64)
    narrow = choose_formats(layers, precision_named("int4"), stored_bits=True)
    assert [(form.bits, form.block_size) for form in narrow.spread] == [(4, 32), (5, 64), (6, 64), (8, 64)]
    assert (narrow.narrow_embedding.bits, narrow.narrow_embedding.symmetric) == (6, False)
    assert choice.narrow_embedding is None, "files that hold no such codes"
    assert [i for i in range(16) if narrow.formats[f"layers.{i}.down"].bits == 4] == [2, 5, 8, 11]
    few, many = choose_formats(layers, precision_named("int4"), block_size=16, symmetric=True).spread
    assert few.block_size == many.block_size == 16
    assert few.symmetric


def test_a_precision_of_one_width_spreads_nothing():
    assert choose_formats(LAYERS, precision_named("int8")).spread is None


def test_a_wanted_block_size_that_does_not_divide_names_the_layers_and_what_fits():
    with pytest.raises(InputError, match=r"does not divide K=96 of layers\.0\.q.*--block-size 32"):
        choose_formats([matrix("layers.0.q", 96), matrix("layers.0.up", 64)], precision_named("int8"), block_size=64)


def test_a_layer_that_no_block_size_divides_gets_the_short_last_block_that_stores_least():
    layers = [matrix("layers.9.q", 72), matrix("layers.9.down", 128), *LAYERS]
    choice = choose_formats(layers, precision_named("int4"))
    assert choice.formats["layers.9.q"] == WeightFormat(bits=4, block_size=16, symmetric=False)  # 80 codes, not 96
    assert any("layers.9.q: block size 16" in note for note in choice.notes)


def test_where_no_block_may_be_short_such_a_layer_stays_float32_and_that_is_said():
    choice = choose_formats([matrix("layers.9.q", 40), *LAYERS], precision_named("int8"), short_blocks=False)
    assert choice.formats["layers.9.q"] is None
    assert "layers.9.q: float32, no block size divides its 40 input features" in choice.notes
    with pytest.raises(InputError, match=r"K=40 of layers\.9\.q.*--keep"):
        choose_formats([matrix("layers.9.q", 40)], precision_named("int8"), short_blocks=False)


def test_rows_of_4_bits_that_end_within_a_byte_are_never_cut():
    assert fit_block_size(WeightFormat(bits=4, block_size=32, symmetric=False), 67) is None
    assert fit_block_size(WeightFormat(bits=8, block_size=32, symmetric=True), 67) is not None


def test_experts_are_never_taken_for_the_small_layers_that_get_more_bits():
    experts = [
        Matrix(name=f"mlp.experts.{n}.down_proj", rows=64, features=32, embedding=False, storage=n, routed="mlp.down")
        for n in range(4)
    ]
    large = [matrix("layers.0.q", 2048), matrix("layers.0.k", 1024)]
    formats = choose_formats([*experts, *large], precision_named("int4")).formats
    assert {formats[expert.name].bits for expert in experts} == {4}


def experts(hidden, inner):
    """Two experts with a query layer and an embedding beside them."""
    parts = [("gate_proj", inner, hidden), ("up_proj", inner, hidden), ("down_proj", hidden, inner)]
    return [
        Matrix(name="embed", rows=999, features=hidden, embedding=True, storage="embed"),
        Matrix(name="layers.0.q", rows=hidden, features=hidden, embedding=False, storage="q"),
        *(
            Matrix(
                name=f"layers.0.experts.{n}.{part}",
                rows=rows,
                features=features,
                embedding=False,
                storage=(part, n),
                routed=f"layers.0.experts.{part}",
            )
            for n in range(2)
            for part, rows, features in parts
        ),
    ]


@pytest.mark.parametrize(("hidden", "inner"), [(256, 64), (256, 512)])
def test_of_experts_those_that_write_hidden_states_have_8_bits(hidden, inner):
    formats = choose_formats(experts(hidden, inner), without_text(precision_named("int4"))).formats
    eight = [name for name, form in formats.items() if form.bits == 8 and "experts" in name]
    assert eight == ["layers.0.experts.0.down_proj", "layers.0.experts.1.down_proj"]
    assert formats["layers.0.q"].bits == 4, "as many inputs as gate and up of the experts, and no reason for more"


def test_text_that_decides_of_no_expert_gives_them_8_bits_where_it_would_be_without_text():
    layers = [
        replace(one, name=one.name.replace("layers.0", f"layers.{i}"), storage=(i, one.storage))
        for i in range(16)
        for one in experts(256, 64)
    ]
    formats = choose_formats(layers, precision_named("int4")).formats
    eight = [i for i in range(16) if formats[f"layers.{i}.experts.1.down_proj"].bits == 8]
    assert eight == [0, 1, 4, 7, 10, 13, 14, 15]
    every = choose_formats(layers, precision_named("int8")).formats
    assert {every[f"layers.{i}.experts.1.down_proj"].block_size for i in range(16)} == {64}


def test_experts_of_a_model_without_an_embedding_are_told_by_their_inputs():
    formats = choose_formats(experts(256, 512)[1:], without_text(precision_named("int4"))).formats
    assert {name.rpartition(".")[2] for name, form in formats.items() if form.bits == 8} == {"down_proj"}
    square = choose_formats(experts(256, 256), without_text(precision_named("int4"))).formats
    assert {form.bits for name, form in square.items() if "experts" in name} == {4}


@pytest.mark.parametrize("symmetric", [True, False])
def test_symmetry_is_the_users_choice(symmetric):
    choice = choose_formats(LAYERS, precision_named("int4"), symmetric=symmetric, block_size=16)
    assert {(form.symmetric, form.block_size) for form in choice.formats.values() if form} == {(symmetric, 16)}


@pytest.mark.parametrize("options", [{"keep": ["*"]}, {"block_size": 32}, {"symmetric": False}])
def test_options_of_integers_are_refused_for_floats(options):
    with pytest.raises(InputError, match="has no blocks"):
        choose_formats(LAYERS, precision_named("fp32"), **options)


def test_the_record_names_the_weights_of_each_format():
    record = choose_formats(LAYERS, precision_named("int8"), keep=["layers.0.q"]).to_record()
    kept = [entry for entry in record["formats"] if entry["format"] is None]
    assert [(entry["weights"], entry["names"]) for entry in kept] == [(1, ["layers.0.q"])]


def test_the_layers_with_most_input_features_have_longer_blocks_in_int8():
    choice = choose_formats([*LAYERS, matrix("layers.0.down", 128), *TIED], precision_named("int8"))
    assert {name: form.block_size for name, form in choice.formats.items()} == {
        **dict.fromkeys(("layers.0.q", "layers.0.up", "layers.1.q", "layers.1.up", "embed", "lm_head"), 32),
        "layers.0.down": 64,
    }
    alike = choose_formats([*LAYERS, *TIED], precision_named("int8"))
    assert {form.block_size for form in alike.formats.values()} == {32}


def test_one_scale_a_row_fits_every_layer_and_a_block_size_replaces_it():
    precision = for_target(precision_named("int8"), "tensorrt")
    odd = matrix("layers.0.q", 37)
    choice = choose_formats([odd, *LAYERS], precision)
    assert choice.formats["layers.0.q"] == WeightFormat(bits=8, block_size=ROW, symmetric=True)
    assert not choice.notes
    with pytest.raises(InputError, match="block size 32 does not divide K=37 of layers.0.q"):
        choose_formats([odd], precision, block_size=32)
