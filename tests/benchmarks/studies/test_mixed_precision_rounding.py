from __future__ import annotations

import pytest

from jisu.benchmarks.studies.mixed_precision_rounding import WAYS, Way, choose, rounding
from jisu.calibration.weights.gptq import GptqOptions
from jisu.exporter.quantization.sensitivity import EMBEDDING_FORMATS, LAYER_FORMATS, Sensitivity, Unit


def unit(name, kind, scale):
    labels = {"int8": (1e-6, 1000), "int6": (0.01, 750), "int5": (0.04, 630), "int4": (0.2, 510)}
    return Unit(
        names=(name,),
        kind=kind,
        features=128,
        elements=1000,
        kl={"fp32": 0.0, **{label: scale * kl for label, (kl, _) in labels.items()}},
        bytes={"fp32": 4000, **{label: size for label, (_, size) in labels.items()}},
    )


SENSITIVITY = Sensitivity(
    units=(unit("hard", "layers", 10), unit("easy", "layers", 1), unit("embed", "tables", 1)),
    candidates={"layers": LAYER_FORMATS, "tables": EMBEDDING_FORMATS},
    calibration={},
)


def bits(choice):
    return {name: form.bits for name, form in choice.formats.items()}


def test_bytes_go_where_they_are_worth_most_and_the_record_says_where():
    choice, record = choose(SENSITIVITY, most=2270)
    assert bits(choice) == {"hard": 8, "easy": 5, "embed": 5}
    assert record["formats"] == {"int8": 1000, "int5": 630, "embedding int5": 630}
    assert record["bytes"] == 2260
    assert record["expected_kl"] == pytest.approx(1e-5 + 0.08)


def test_a_format_that_is_left_out_is_not_chosen():
    assert 5 not in bits(choose(SENSITIVITY, most=2270, without=("int5",))[0]).values()


def test_bytes_that_nothing_fits_into_are_no_choice():
    with pytest.raises(AssertionError, match="no choice is within 1000 bytes"):
        choose(SENSITIVITY, most=1000)


def test_a_way_changes_rounding_while_it_is_measured(monkeypatch):
    import jisu.calibration.sequential
    import jisu.calibration.weights.gptq

    seen = []
    monkeypatch.setattr(
        "jisu.benchmarks.studies.mixed_precision_rounding.quantize_sequentially",
        lambda *values, weights: seen.append(weights),
    )
    with rounding(Way(damping=0.07, alike=True), ["prose", "prose", "code"]):
        assert jisu.calibration.weights.gptq.GptqOptions().damping == 0.07
        assert jisu.calibration.weights.gptq.GptqOptions(damping=0.3).damping == 0.3, "an output projection's own"
        jisu.calibration.sequential.quantize_sequentially()
    assert seen == [[0.5, 0.5, 1.0]]
    assert jisu.calibration.weights.gptq.GptqOptions is GptqOptions
    with rounding(WAYS["rounded again"], ["prose"]):
        assert GptqOptions() == jisu.calibration.weights.gptq.GptqOptions()
