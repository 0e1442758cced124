from __future__ import annotations

import json

from jisu.runtimes.generation.result import Result, Timings
from jisu.runtimes.generation.sampling import TokenLogprobs

RESULT = Result(
    text="Ja 你",
    token_ids=(5, 6, 2),
    prompt_tokens=4,
    finish_reason="eos",
    seed=None,
    logprobs=(TokenLogprobs(token=5, logprob=-0.5, top=((5, -0.5), (9, -2.0)), text="Ja", top_texts=("Ja", "No")),),
    timings=Timings(time_to_first_token=0.25, decode_seconds=0.5, decode_steps=2),
)


def test_a_result_is_json_with_the_texts_of_its_tokens() -> None:
    assert json.loads(RESULT.to_json()) == RESULT.to_dict()
    assert RESULT.to_dict() == {
        "text": "Ja 你",
        "token_ids": [5, 6, 2],
        "prompt_tokens": 4,
        "new_tokens": 3,
        "finish_reason": "eos",
        "seed": None,
        "logprobs": [
            {
                "token": 5,
                "text": "Ja",
                "logprob": -0.5,
                "top": [{"token": 5, "text": "Ja", "logprob": -0.5}, {"token": 9, "text": "No", "logprob": -2.0}],
            }
        ],
        "timings": {
            "time_to_first_token": 0.25,
            "decode_seconds": 0.5,
            "decode_steps": 2,
            "decode_tokens_per_second": 4.0,
        },
    }


def test_json_keeps_other_scripts_readable() -> None:
    assert "你" in RESULT.to_json()
    assert "\n" not in RESULT.to_json()
