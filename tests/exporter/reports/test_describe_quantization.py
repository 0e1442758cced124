from __future__ import annotations

from jisu.exporter.reports.describe_quantization import describe_quantization

FORM = {"bits": 4, "block_size": 64, "symmetric": False}
NAMES = [f"model.layers.{i}.mlp.{part}" for i in range(3) for part in ("up_proj", "down_proj")]


def test_formats_are_said_once_with_the_layers_that_have_them():
    record = {
        "algorithm": "gptq",
        "formats": [
            {"format": FORM, "weights": 6, "names": NAMES},
            {"format": None, "weights": 1, "names": ["lm_head"]},
            {"format": {"static": True}, "weights": 1, "names": ["model.layers.0.q_proj"]},
        ],
        "notes": ["up_proj: block size 32, 64 does not divide its input"],
        "calibration": {"text": "corpus.txt", "windows": 32, "window_tokens": 256, "seed": 0},
        "budget": {"max_mean_kl": 0.15, "min_top1": None, "same_greedy_tokens": False},
    }
    text = "\n".join(describe_quantization(record))
    assert "GPTQ" in text
    assert "4 bits in blocks of 64, with zero points: 6 weights, model.layers.*.mlp.up_proj, model.layers.*." in text
    assert "float32: 1 weights, lm_head" in text
    assert "one scale a row, inputs of a calibrated range" in text
    assert "block size 32, 64 does not divide" in text
    assert "32 windows of 256 tokens, seed 0, of corpus.txt" in text
    assert "budget        max_mean_kl 0.15" in text


def test_a_mix_shows_every_unit_with_its_price_and_that_of_the_next_smaller_format():
    record = {
        "mix": {
            "goal": {"max_bytes": 90_000_000},
            "predicted_kl": 0.01,
            "measured_kl": 0.012,
            "tries": [{"kl": 0.012, "bytes": 89_500_000, "units": {"int8": 1, "int4": 1}}],
            "units": [
                {
                    "names": ["layers.0.q", "layers.0.k"],
                    "format": "int8",
                    "kl": {"fp32": 0.0, "int8": 1e-5, "int4": 2e-3},
                    "bytes": {"fp32": 4_000_000, "int8": 1_100_000, "int4": 600_000},
                },
                {
                    "names": ["layers.0.o"],
                    "format": "int4",
                    "kl": {"fp32": 0.0, "int8": -1e-9, "int4": 3e-4},
                    "bytes": {"fp32": 4_000_000, "int8": 1_100_000, "int4": 600_000},
                },
            ],
        }
    }
    lines = describe_quantization(record)
    assert "goal          max_bytes 90,000,000" in lines
    assert any(line.split()[:4] == ["layers.0.q/k", "int8", "1.0e-05", "1.10"] for line in lines)
    assert any("int4: 2.0e-03 nats, 0.60 MB" in line for line in lines)
    assert lines[-1].split() == ["layers.0.o", "int4", "3.0e-04", "0.60"]


def test_kept_blocks_state_their_error():
    kept = {
        "stored": "8 bits, symmetric, blocks of 32",
        "exact": True,
        "weights": 3,
        "largest_error": 0,
        "rms_error": 0,
    }
    near = {**kept, "exact": False, "rms_error": 0.0123}
    text = "\n".join(describe_quantization({"algorithm": "kept", "types": {"Q8_0": kept, "Q4_K": near}}))
    assert "3 weights of type Q8_0 as 8 bits, symmetric, blocks of 32, bit for bit" in text
    assert "Q4_K" in text
    assert "off by 1.23% (rms)" in text


def test_what_is_not_known_is_shown_as_it_stands():
    assert describe_quantization({"format": "float16", "kept": ["lm_head"]}) == [
        "format        float16",
        "kept          ['lm_head']",
    ]
