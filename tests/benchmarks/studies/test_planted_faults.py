from __future__ import annotations

import pytest

from jisu.benchmarks.studies.fault_list import FAULTS
from jisu.benchmarks.studies.planted_faults import SUBJECTS, examined, exported, judged


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    folder = tmp_path_factory.mktemp("subjects")
    return {name: exported(name, folder / name) for name in ("llama", "llama-int8", "llama-w8a8-dynamic")}


def test_the_collection_is_large_and_names_each_fault_once():
    assert len(FAULTS) >= 60
    assert len({(fault.subject, fault.name) for fault in FAULTS}) == len(FAULTS)
    assert {fault.subject for fault in FAULTS} == set(SUBJECTS)


def test_without_a_fault_it_is_accepted(subjects):
    result = judged(subjects["llama"], subjects["llama"].artifact)
    assert result.accepted, result.summary


@pytest.mark.parametrize(
    "fault",
    [fault for fault in FAULTS if fault.stored and fault.subject in ("llama", "llama-int8")],
    ids=lambda fault: f"{fault.subject}: {fault.name}",
)
def test_comparing_data_finds_it(fault, subjects, tmp_path):
    verdict, detail = examined(subjects[fault.subject], fault, tmp_path / "copy", stored_only=True)
    assert verdict != "ACCEPTED"
    assert detail


@pytest.mark.parametrize(
    ("name", "verdict", "words"),
    [
        ("batches of more than three", "batch-17", "Row 3 of 17"),
        ("stop token", "folder", "generation_config.json: eos_token_id[0] is 5"),
        ("weights beside the folder", "refused", "outside its folder"),
        ("logits halved in calls of more than 300 tokens, w8a8-dynamic", "long-call", "Positions 0 to 503"),
        ("logits 2 % larger behind position 300, w8a8-dynamic", "whole-range", "by 0.0"),
    ],
)
def test_the_whole_gate_names_it(name, verdict, words, subjects, tmp_path):
    fault = next(fault for fault in FAULTS if fault.name == name and fault.subject in subjects)
    actual, detail = examined(subjects[fault.subject], fault, tmp_path / "copy")
    assert (actual, words in detail) == (verdict, True)


def test_a_doubled_scale_is_named_first_with_its_matrix(subjects, tmp_path):
    fault = next(fault for fault in FAULTS if fault.name == "a scale doubled")
    verdict, detail = examined(subjects["llama-int8"], fault, tmp_path / "copy")
    assert verdict == "stored-weights"
    assert detail.startswith("model.layers.1.self_attn.o_proj.weight, row ")
    assert "the scale is 2 times the intended" in detail
