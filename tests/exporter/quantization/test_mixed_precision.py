from __future__ import annotations

from dataclasses import replace

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.precision.precision import WeightFormat
from jisu.exporter.quantization.mixed_precision import Goal, Measured, find_mixed_precision
from jisu.exporter.quantization.quantize_source import QuantizedWeights
from jisu.exporter.quantization.sensitivity import EMBEDDING_FORMATS, LAYER_FORMATS, Sensitivity, Unit

OVERHEAD = 500


def unit(name, *, int8, int4, kind="layers", names=None):
    return Unit(
        names=names or (name,),
        kind=kind,
        features=128,
        elements=1000,
        kl={"fp32": 0.0, "int8": int8, "int4": int4},
        bytes={"fp32": 4000, "int8": 1000, "int4": 500},
    )


# The first half is easy, the second hard.
UNITS = (
    *(unit(f"layers.{i}.easy", int8=1e-5, int4=1e-3) for i in range(4)),
    *(unit(f"layers.{i}.hard", int8=1e-5, int4=1e-1) for i in range(4)),
    unit("embed", int8=1e-5, int4=2e-3, kind="tables", names=("embed", "lm_head")),
)
SENSITIVITY = Sensitivity(
    units=UNITS, candidates={"layers": LAYER_FORMATS, "tables": EMBEDDING_FORMATS}, calibration={}
)


def label_of(form):
    return "fp32" if form is None else {8: "int8", 4: "int4"}[form.bits]


class Workshop:
    """Builds nothing: divergence and size follow from the formats. ``factor`` is how wrong the sum is, ``nodes`` are
    bytes of operators that only few bits need."""

    def __init__(self, *, factor=1.0, rounding=0.0, nodes=0):
        self.choices = []
        self.factor, self.rounding, self.nodes = factor, rounding, nodes

    def quantize(self, choice):
        self.choices.append(choice)
        return QuantizedWeights(by_name={"choice": len(self.choices) - 1}, record={"algorithm": "gptq"})

    def measure(self, quantized):
        forms = self.choices[quantized.by_name["choice"]].formats
        labels = {one.names[0]: label_of(forms[one.names[0]]) for one in UNITS}
        kl = sum(one.kl[labels[one.names[0]]] for one in UNITS)
        size = sum(one.bytes[labels[one.names[0]]] for one in UNITS)
        size += self.nodes if "int4" in labels.values() else 0
        return Measured(kl=self.factor * kl + self.rounding, bytes=size + OVERHEAD)

    def find(self, goal, **options):
        return find_mixed_precision(SENSITIVITY, goal, quantize=self.quantize, measure=self.measure, **options)


def chosen(mixed):
    return {entry["names"][0]: entry["format"] for entry in mixed.record["units"]}


def test_the_smallest_mix_within_a_divergence_takes_what_costs_least():
    mixed = Workshop().find(Goal(max_kl=0.017))
    assert chosen(mixed) == {
        **{f"layers.{i}.easy": "int4" for i in range(4)},
        **{f"layers.{i}.hard": "int8" for i in range(4)},
        "embed": "int4",
    }
    assert mixed.record["measured_kl"] <= 0.017
    assert mixed.record["goal"] == {"max_kl": 0.017}


def test_the_closest_mix_within_a_size_fills_it():
    whole = sum(one.bytes["int8"] for one in UNITS) + OVERHEAD
    mixed = Workshop().find(Goal(max_bytes=whole - 490))
    assert sorted(chosen(mixed).values()).count("int4") == 1
    assert all(chosen(mixed)[f"layers.{i}.hard"] == "int8" for i in range(4))
    assert Workshop().find(Goal(max_bytes=whole + 10)).record["measured_kl"] == pytest.approx(9e-5)


def test_a_size_that_is_missed_by_a_few_bytes_takes_another_choice():
    whole = sum(one.bytes["int8"] for one in UNITS) + OVERHEAD
    mixed = Workshop(nodes=12).find(Goal(max_bytes=whole - 490))
    assert sorted(chosen(mixed).values()).count("int4") == 2
    assert mixed.record["tries"][-1]["bytes"] <= whole - 490
    assert len(mixed.record["tries"]) == 3


def test_errors_that_add_up_to_more_than_their_sum_are_corrected_by_measuring():
    workshop = Workshop(factor=3.0)
    mixed = workshop.find(Goal(max_kl=0.017))
    assert mixed.record["measured_kl"] <= 0.017
    assert len(mixed.record["tries"]) > 2
    limits = [entry["limit"] for entry in mixed.record["tries"][1:]]
    assert limits[1] < limits[0]


def test_what_the_runtime_adds_by_rounding_is_counted_before_anything_is_chosen():
    mixed = Workshop(rounding=0.004).find(Goal(max_kl=0.017))
    assert mixed.record["runtime_rounding_kl"] == pytest.approx(0.004)
    assert mixed.record["measured_kl"] <= 0.017
    assert mixed.record["predicted_kl"] == pytest.approx(mixed.record["measured_kl"], rel=0.05)


def test_a_choice_that_keeps_the_goal_without_a_margin_is_left_to_the_gate():
    mixed = Workshop(rounding=0.006).find(Goal(max_kl=0.0085))
    assert 0.5 * 0.0085 < mixed.record["measured_kl"] <= 0.0085


def test_kept_layers_stay_float_and_targets_that_gather_bytes_only_get_them():
    mixed = Workshop().find(Goal(max_kl=0.085), keep=["*.0.easy"], embedding_labels=("fp32", "int8"))
    assert chosen(mixed)["layers.0.easy"] == "fp32"
    assert chosen(mixed)["embed"] == "int8"


def test_all_names_of_a_unit_get_its_format_and_every_plan_is_whole():
    workshop = Workshop()
    workshop.find(Goal(max_kl=0.017))
    for choice in workshop.choices:
        assert set(choice.formats) == {name for one in UNITS for name in one.names}
        assert choice.formats["embed"] == choice.formats["lm_head"]
    assert workshop.choices[-1].formats["layers.0.easy"] == WeightFormat(bits=4, block_size=64, symmetric=False)


def test_a_divergence_nobody_can_meet_names_the_best_that_was_measured():
    with pytest.raises(InputError, match=r"No mixed precision.*0\.02 nats.*at most 0\.017 nats"):
        Workshop(rounding=0.02).find(Goal(max_kl=0.017), keep=["layers.0.easy"])


def test_a_size_nobody_can_meet_names_the_smallest():
    smallest = sum(one.bytes["int4"] for one in UNITS) + OVERHEAD
    with pytest.raises(InputError, match="No mixed precision is this small"):
        Workshop().find(Goal(max_bytes=smallest - 1))
    assert set(chosen(Workshop().find(Goal(max_bytes=smallest))).values()) == {"int4"}


@pytest.mark.parametrize(("share", "better"), [(0.8, True), (1.2, False)])
def test_what_is_rounded_again_is_taken_where_it_is_better(share, better):
    workshop = Workshop()

    def again(choice):
        quantized = workshop.quantize(choice)
        workshop.factor = share
        return quantized

    mixed = workshop.find(Goal(max_kl=0.017), again=again)
    plain = Workshop().find(Goal(max_kl=0.017)).record["measured_kl"]
    assert mixed.record["measured_kl"] == pytest.approx(plain * (share if better else 1))
    assert (mixed.quantized.by_name["choice"] == len(workshop.choices) - 1) == better
    assert workshop.choices[-1] == workshop.choices[-2]
    assert mixed.record["tries"][-1]["kl"] == pytest.approx(plain * share)


def test_the_parts_together_say_what_is_better_and_the_worst_what_is_within_the_goal():
    workshop = Workshop()
    parts = [{"code": 0.05, "prose": 0.01}, {"code": 0.055, "prose": 0.001}]
    measure = workshop.measure

    def by_part(quantized):
        measured = measure(quantized)
        figures = parts[workshop.again]
        return replace(measured, kl=max(figures.values()), by_part=figures)

    def again(choice):
        workshop.again = 1
        return workshop.quantize(choice)

    whole = sum(one.bytes["int8"] for one in UNITS) + OVERHEAD
    for goal, kl in ((Goal(max_bytes=whole), 0.055), (Goal(max_bytes=whole, max_kl=0.052), 0.05)):
        workshop.again = 0
        mixed = find_mixed_precision(SENSITIVITY, goal, quantize=workshop.quantize, measure=by_part, again=again)
        assert mixed.record["measured_kl"] == kl


def test_a_choice_of_8_bits_is_not_rounded_again():
    rounds = []
    whole = sum(one.bytes["int8"] for one in UNITS) + OVERHEAD
    Workshop().find(Goal(max_bytes=whole + 10), again=rounds.append)
    assert rounds == []


def test_nothing_left_to_choose_is_refused():
    with pytest.raises(InputError, match="nothing left to quantize"):
        Workshop().find(Goal(max_kl=0.1), keep=["*"])
