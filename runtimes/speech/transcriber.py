"""Writes recordings down: window by window with a model that says tokens, or by the labels of frames.

A recording longer than a model's window is heard in consecutive windows, each of which begins where the last finished
segment of the one before ended (Radford et al. 2022, section 4.5, as transformers' ``generate`` does it).
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.audio_settings import AudioSettings, read_audio_settings
from jisu.exporter.contract.generation_settings import read_generation_settings
from jisu.exporter.contract.speech_backend import Features, FrameBackend, Heard, SpeechBackend, TranscribingBackend
from jisu.runtimes.generation.beam_run import BeamRun
from jisu.runtimes.generation.model_defaults import checked_settings, complete_options
from jisu.runtimes.generation.options import SamplingOptions
from jisu.runtimes.generation.text import TextCodec
from jisu.runtimes.generation.text_run import TextRun
from jisu.runtimes.generation.token_loop import Turn
from jisu.runtimes.speech.letters import runs_of, words_of
from jisu.runtimes.speech.prompting import check_wishes, opening
from jisu.runtimes.speech.recordings import Samples
from jisu.runtimes.speech.times import Cut, TimeRules, cut_window
from jisu.runtimes.speech.transcript import Segment, Transcript

Window = tuple[Features, float, float, float]
# Features of a long recording are made of so many seconds at a time: their loudest frame is that of the recording up to
# this length, as transformers has it, and memory stays small for any.
_BLOCK_SECONDS = 600
# Beyond so many seconds frames are labelled in pieces, each with some of its neighbours around it.
_PIECE_SECONDS, _AROUND_SECONDS = 30, 5


class Transcriber:
    """A model that hears: its backend, its settings and its tokenizer.

    Args:
        codec: of the tokenizer; without one, a model that says tokens gives their ids alone.
    """

    def __init__(
        self, artifact: Artifact, backend: SpeechBackend, codec: TextCodec | None, *, turns: Turn | None = None
    ) -> None:
        self.settings: AudioSettings = read_audio_settings(artifact.folder)
        self._backend, self._codec, self._turns = backend, codec, turns
        self._facts = artifact.manifest.model
        self._own: dict[str, Any] = {}
        if self.settings.writes == "tokens":
            self._own = checked_settings(read_generation_settings(artifact.folder), self._facts, artifact.folder)

    @property
    def backend(self) -> SpeechBackend:
        """What runs the model."""
        return self._backend

    def transcribe(
        self,
        samples: Samples,
        *,
        language: str | None = None,
        translate: bool = False,
        timestamps: bool = False,
        num_beams: int | None = None,
    ) -> Transcript:
        """Write one recording down; see `Engine.transcribe`.

        Args:
            samples: float32 [samples] at the settings' sampling rate.
        """
        check_wishes(self.settings, language=language, translate=translate, timestamps=timestamps, num_beams=num_beams)
        options = complete_options(SamplingOptions(num_beams=num_beams), self._own)
        started = time.perf_counter()
        seconds = len(samples) / self.settings.sampling_rate
        samples = self.filled(samples)
        if self.settings.writes == "frames":
            segments, text = self._labelled(samples, seconds, by_word=timestamps)
        else:
            segments, language = self._said(
                samples, options, language=language, translate=translate, timestamps=timestamps
            )
            # Words of windows have the spaces between them that their tokens write; other pieces have none.
            text = ("" if self.settings.window else " ").join(segment.text for segment in segments)
            segments = [replace(segment, text=segment.text.strip()) for segment in segments]
            if not self._timed(samples, timestamps=timestamps):  # these end with the recording, not with its window
                segments = [replace(segment, end=max(segment.start, min(segment.end, seconds))) for segment in segments]
        return Transcript(
            text=text.strip(),
            segments=tuple(segments),
            language=language,
            seconds=seconds,
            compute_seconds=time.perf_counter() - started,
        )

    def filled(self, samples: Samples) -> Samples:
        """With silence behind it up to the shortest that the model reads, or to its window."""
        missing = max(self.settings.window or 0, self.settings.shortest) - len(samples)
        return samples if missing <= 0 else np.pad(samples, (0, missing))

    def _timed(self, samples: Samples, *, timestamps: bool) -> bool:
        """Whether the model says times: where they are asked for, and to go from window to window."""
        settings = self.settings
        long = settings.window is not None and len(samples) > settings.window
        return settings.seconds_per_time is not None and (timestamps or long)

    def _said(
        self,
        samples: Samples,
        options: SamplingOptions,
        *,
        language: str | None,
        translate: bool,
        timestamps: bool,
    ) -> tuple[list[Segment], str | None]:
        """The segments of a model that says tokens, and the language."""
        settings, backend = self.settings, cast("TranscribingBackend", self._backend)
        assert self._facts.decoder_start is not None, "a decoder says what its answers begin with"
        start = self._facts.decoder_start
        timed = self._timed(samples, timestamps=timestamps)
        prompt: list[int] | None = None
        segments: list[Segment] = []
        windows = self._windows(samples)
        offset: float | None = None
        while True:
            try:
                piece, at, steps, whole = windows.send(offset)
            except StopIteration:
                return segments, language
            with self._turn():
                heard = backend.listen(piece)
            if prompt is None:
                prompt, language = opening(
                    settings,
                    start,
                    language=language,
                    translate=translate,
                    timestamps=timed,
                    find_language=partial(self._language, backend, heard, start),
                )
            tokens = self._answer(backend, heard, prompt, options, timed=timed)
            seconds = settings.seconds_per_time or 1.0
            first = settings.first_time if settings.first_time is not None else self._facts.vocab_size
            cuts, moved = cut_window(tokens, first=first, steps=steps, whole=whole)
            segments += [self._segment(cut, at, seconds, first) for cut in cuts if cut.tokens]
            # A window that gets no further would be heard for ever.
            offset = moved if moved > 0 else whole

    def _windows(self, samples: Samples) -> Generator[Window, float | None, None]:
        """(features, seconds from the beginning, whole steps of time, steps to the next); is sent how many to go."""
        settings = self.settings
        if settings.window is None:
            longest = _PIECE_SECONDS * settings.sampling_rate
            for begin in range(0, len(samples), longest):
                part = self.filled(samples[begin : begin + longest])
                yield self._features(part), begin / settings.sampling_rate, len(part) / settings.sampling_rate, 1
            return
        features = self._features(samples)
        axis = 1 + _growing(settings, features)
        frames, window = features.shape[axis], settings.window // settings.hop
        # Frames to a step of time; a model without times goes on by windows.
        per_second = settings.sampling_rate / settings.hop
        stride = per_second * settings.seconds_per_time if settings.seconds_per_time else 1.0
        seek = 0
        while seek < frames:
            here = min(window, frames - seek)
            piece = features[(slice(None),) * axis + (slice(seek, seek + here),)]
            if here < window:
                piece = np.pad(piece, [(0, window - here if one == axis else 0) for one in range(piece.ndim)])
            whole = here / stride
            moved = yield np.ascontiguousarray(piece), seek / per_second, int(whole), whole
            seek += max(1, min(here, round((moved or whole) * stride)))

    def _features(self, samples: Samples) -> Features:
        """Features of a recording of any length, made block by block; the seams are heard from both sides."""
        settings = self.settings
        block = _BLOCK_SECONDS * settings.sampling_rate // settings.hop * settings.hop
        with self._turn():
            if len(samples) <= block or settings.window is None:
                return self._backend.features(samples)
            margin = 8 * settings.hop
            pieces = []
            for begin in range(0, len(samples), block):
                low, high = max(0, begin - margin), min(len(samples), begin + block + margin)
                part = self._backend.features(samples[low:high])
                axis = 1 + _growing(settings, part)
                first = (begin - low) // settings.hop
                last = first + (min(len(samples), begin + block) - begin) // settings.hop
                pieces.append(part[(slice(None),) * axis + (slice(first, last),)])
            return np.concatenate(pieces, axis=axis)

    def _language(self, backend: TranscribingBackend, heard: Heard, start: int) -> str:
        """The likeliest of the languages that the model knows, by its first token about the first window."""
        names = list(self.settings.languages)
        with self._turn():
            state = backend.encode([heard], capacity=1)
            logits = backend.forward(np.array([[start]], np.int64), state)[0, 0]
        return names[int(np.argmax(logits[[self.settings.languages[name] for name in names]]))]

    def _answer(
        self, backend: TranscribingBackend, heard: Heard, prompt: list[int], options: SamplingOptions, *, timed: bool
    ) -> tuple[int, ...]:
        """The tokens said about one window, without what ends them."""
        facts, settings = self._facts, self.settings
        if timed and settings.no_timestamps is not None and facts.eos:
            rules = TimeRules(
                no_timestamps=settings.no_timestamps,
                begin=len(prompt),
                end=facts.eos[0],
                first_times=settings.first_times,
            )
            options = replace(options, logits_processors=(*options.logits_processors, rules))
        run: Any = (BeamRun if options.searches else TextRun)(
            backend,
            [prompt],
            options=options,
            codec=None,
            eos=facts.eos,
            sources=[heard],
            read=[prompt],
            cut=True,
            turns=self._turns,
        )
        for _ in run:
            pass
        tokens: tuple[int, ...] = run.results()[0].token_ids
        return tokens[:-1] if tokens and tokens[-1] in facts.eos else tokens

    def _segment(self, cut: Cut, at: float, seconds: float, first: int) -> Segment:
        words = [token for token in cut.tokens if token < first]
        text = "" if self._codec is None else self._codec.decode(words, special_tokens=False)
        return Segment(
            start=round(at + cut.start * seconds, 3),
            end=round(at + cut.end * seconds, 3),
            text=text,
            token_ids=cut.tokens,
        )

    def _labelled(self, samples: Samples, seconds: float, *, by_word: bool) -> tuple[list[Segment], str]:
        """The segments of a model that labels frames, and the text."""
        settings = self.settings
        logits, per_frame = self._frame_logits(samples)

        def decode(labels: Any) -> str:
            return "" if self._codec is None else self._codec.decode(labels, special_tokens=False)

        words = words_of(runs_of(logits, settings.blank), settings, decode)
        timed = [
            Segment(start=round(start * per_frame, 3), end=round(min(end * per_frame, seconds), 3), text=word)
            for word, start, end in words
        ]
        text = " ".join(segment.text for segment in timed)
        if by_word or not timed:
            return timed, text
        return [Segment(start=timed[0].start, end=timed[-1].end, text=text)], text

    def _frame_logits(self, samples: Samples) -> tuple[Any, float]:
        """float32 [frames, labels] of a whole recording, and the seconds of a frame."""
        backend, rate = cast("FrameBackend", self._backend), self.settings.sampling_rate
        piece, around = _PIECE_SECONDS * rate, _AROUND_SECONDS * rate
        if len(samples) <= piece + 2 * around:
            with self._turn():
                logits = backend.frame_logits([backend.features(samples)])[0]
            return logits, len(samples) / rate / max(1, len(logits))
        kept, per_frame = [], 0.0
        for begin in range(0, len(samples), piece):
            low, high = max(0, begin - around), min(len(samples), begin + piece + around)
            end = min(len(samples), begin + piece)
            with self._turn():
                logits = backend.frame_logits([backend.features(self.filled(samples[low:high]))])[0]
            share = len(logits) / max(self.settings.shortest, high - low)
            kept.append(logits[round((begin - low) * share) : round((end - low) * share)])
            per_frame = 1 / share / rate
        return np.concatenate(kept), per_frame

    def _turn(self) -> Any:
        return self._turns or nullcontext()


def _growing(settings: AudioSettings, features: Features) -> int:
    """The axis behind the batch along which time goes: the one that is open, or that a longer recording has longer."""
    if None in settings.dims:
        return settings.dims.index(None)
    window = (settings.window or 1) // settings.hop
    sizes = features.shape[1:]
    grown = [axis for axis, (size, dim) in enumerate(zip(sizes, settings.dims, strict=True)) if size != dim]
    return grown[0] if grown else settings.dims.index(window)
