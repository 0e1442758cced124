"""The source as a worker that hears, and an artifact of it: in fp32 they write down the same."""

from __future__ import annotations

import numpy as np
import pytest

import jisu
from jisu.benchmarks.peers.hearing import hearing
from jisu.benchmarks.peers.source_speech import SourceFrames, SourceTranscriber
from jisu.exporter.gate.recordings import voice
from jisu.exporter.sources import load_source
from jisu.runtimes.generation.text import open_codec
from jisu.runtimes.speech.transcriber import Transcriber

RATE = 16000


@pytest.mark.parametrize("kind", ["speech", "frames"])
def test_source_and_artifact_say_the_same_with_the_same_logits(kind, request, tmp_path):
    folder = request.getfixturevalue(f"{kind}_artifact").folder
    source = load_source(request.getfixturevalue(f"{kind}_source"))
    with jisu.load(folder) as engine:
        facts = engine.artifact.manifest.model
        backend = SourceTranscriber(source) if kind == "speech" else SourceFrames(source)
        theirs = hearing(Transcriber(engine.artifact, backend, open_codec(folder)), facts)
        ours = hearing(engine.transcriber, facts)
        for seconds in (1.1, 3.7):
            np.save(tmp_path / "sound.npy", voice(RATE, seconds, seed=7, pitch=130.0))
            truth, said = (one["transcript"](str(tmp_path / "sound.npy")) for one in (theirs, ours))
            assert said == truth
            assert (truth["whole"], bool(truth["prompt"])) == (seconds < 2 or kind == "frames", kind == "speech")
            if truth["whole"]:
                logits = []
                for number, one in enumerate((theirs, ours)):
                    fed = [*truth["prompt"], *truth["tokens"]]
                    one["write_logits"](fed, str(tmp_path / f"{number}.npy"), str(tmp_path / "sound.npy"))
                    logits.append(np.load(tmp_path / f"{number}.npy"))
                assert logits[0].shape == logits[1].shape
                assert np.abs(logits[0] - logits[1]).max() < 1e-3 * logits[0].std()
        heard = ours["hear"]([str(tmp_path / "sound.npy")])
        assert heard.sound_seconds == [pytest.approx(3.7)]
        assert heard.step_seconds[0] > 0
