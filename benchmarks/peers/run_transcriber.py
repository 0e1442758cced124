"""Writes recordings down with one engine in a process of its own, for `benchmarks.studies.speech_recognition`.

Run by the Python that has the engine: ``python run_transcriber.py ENGINE FOLDER BEAMS THREADS``. A request is the path
of a file of samples, float32 at 16,000 Hz; the answer is a line of JSON with ``text`` and ``seconds``.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np

RATE = 16_000


def work(kind: str, folder: str, *, beams: int, threads: int) -> None:
    """Answer paths on standard input."""
    if kind == "jisu":
        from jisu.runtimes import load

        engine = load(folder, threads=threads)

        def run(samples: Any) -> str:
            return engine.transcribe(samples, language="en", num_beams=beams).text
    elif kind == "faster-whisper":
        import faster_whisper

        model = faster_whisper.WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=threads)

        def run(samples: Any) -> str:
            segments, _ = model.transcribe(
                samples,
                language="en",
                beam_size=beams,
                temperature=0.0,
                condition_on_previous_text=False,
                without_timestamps=len(samples) <= 30 * RATE,
            )
            return "".join(segment.text for segment in segments)
    else:
        run = _transformers(folder, beams)
    for line in sys.stdin:
        samples = np.load(line.strip())
        started = time.perf_counter()
        text = run(samples)
        record = {"text": text, "seconds": time.perf_counter() - started}
        sys.stdout.write(json.dumps(record) + "\n")
        sys.stdout.flush()


def _transformers(folder: str, beams: int) -> Any:
    import torch
    import transformers

    known: Any = transformers  # its classes have no types
    extractor = known.AutoFeatureExtractor.from_pretrained(folder)
    tokenizer = known.AutoTokenizer.from_pretrained(folder)
    model = known.AutoModelForSpeechSeq2Seq.from_pretrained(folder, dtype=torch.float32).eval()

    def run(samples: Any) -> str:
        long = len(samples) > 30 * RATE
        whole = {"truncation": False, "padding": "longest"} if long else {}
        features = extractor(samples, sampling_rate=RATE, return_tensors="pt", **whole).input_features
        with torch.inference_mode():
            ids = model.generate(
                features, language="en", task="transcribe", num_beams=beams, return_timestamps=bool(long)
            )
        limit = model.generation_config.no_timestamps_token_id
        return str(tokenizer.decode([token for token in ids[0].tolist() if token < limit], skip_special_tokens=True))

    return run


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], beams=int(sys.argv[3]), threads=int(sys.argv[4]))
