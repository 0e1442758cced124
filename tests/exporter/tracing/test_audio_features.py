from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.gate.recordings import voice
from jisu.exporter.sources.audio import AudioSource, observed_settings
from jisu.exporter.sources.feature_ways import CLOSE
from jisu.exporter.tracing.audio_features import trace_features


def whisper_like(**changes: Any) -> tuple[Any, str]:
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(**{"feature_size": 16, "chunk_length": 2, **changes}), "input_features"


def kaldi_like(**changes: Any) -> tuple[Any, str]:
    from transformers import Speech2TextFeatureExtractor

    return Speech2TextFeatureExtractor(**changes), "input_features"


def samples_like(*, do_normalize: bool) -> tuple[Any, str]:
    from transformers import Wav2Vec2FeatureExtractor

    return Wav2Vec2FeatureExtractor(do_normalize=do_normalize), "input_values"


@pytest.mark.parametrize(
    "made",
    [
        lambda: whisper_like(),
        lambda: whisper_like(n_fft=512, hop_length=128, sampling_rate=8000, feature_size=20),
        lambda: kaldi_like(),
        lambda: kaldi_like(normalize_vars=False, num_mel_bins=40),
        lambda: kaldi_like(do_ceptral_normalize=False),
        lambda: samples_like(do_normalize=True),
        lambda: samples_like(do_normalize=False),
    ],
)
def test_the_graph_does_what_the_extractor_does(made: Any) -> None:
    extractor, name = made()
    audio = AudioSource(extractor=extractor, settings=observed_settings(extractor, name, writes="tokens"))
    session = onnxruntime.InferenceSession(ir.to_proto(trace_features(audio)).SerializeToString())
    rate = audio.settings.sampling_rate
    for seconds in (0.13, 1.0, 3.7):
        samples = voice(rate, seconds, seed=7, pitch=130.0)
        truth = audio.features(samples)
        actual = session.run(None, {"audio": audio.filled(samples)[None]})[0]
        assert actual.shape == truth.shape
        assert np.abs(actual - truth).max() <= CLOSE * truth.std()


def test_features_of_no_known_kind_are_refused() -> None:
    from transformers import WhisperFeatureExtractor

    class Other(WhisperFeatureExtractor):  # type: ignore[misc]
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            output = super().__call__(*arguments, **options)
            output["input_features"] = np.square(output["input_features"])
            return output

    extractor = Other(feature_size=16, chunk_length=2)
    audio = AudioSource(extractor=extractor, settings=observed_settings(extractor, "input_features", writes="tokens"))
    with pytest.raises(InputError, match=r"cannot be exported.*differ from those of every known way"):
        trace_features(audio)
