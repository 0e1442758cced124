"""`jisu transcribe`: what is said in recordings, as text, as lines with times, or as JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jisu.runtimes.commands.engine_arguments import add_artifact_arguments, load_engine
from jisu.runtimes.commands.text_arguments import STDIN

if TYPE_CHECKING:
    from jisu.runtimes.speech.transcript import Transcript

_PIPE = Path("/dev/stdin")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb understands."""
    add_artifact_arguments(parser)
    parser.add_argument(
        "recordings",
        nargs="+",
        type=Path,
        metavar="RECORDING",
        help="WAV file; FLAC, OGG and MP3 as well with the extra audio; - reads standard input",
    )
    parser.add_argument("--language", metavar="CODE", help="language that is spoken, such as en (default: found out)")
    parser.add_argument("--translate", action="store_true", help="write it down in English")
    parser.add_argument("--timestamps", action="store_true", help="a line for each segment, with its times")
    parser.add_argument("--beams", type=int, metavar="N", help="beam search with N beams (default: the model's)")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object per recording: text, segments, tokens, language"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write down every recording; returns 0. Raises InputError."""
    with load_engine(arguments) as engine:
        for path in arguments.recordings:
            transcript = engine.transcribe(
                _PIPE if str(path) == STDIN else path,
                language=arguments.language,
                translate=arguments.translate,
                timestamps=arguments.timestamps,
                num_beams=arguments.beams,
            )
            if len(arguments.recordings) > 1 and not arguments.json:
                sys.stdout.write(f"{path}:\n")
            _show(path, transcript, timestamps=arguments.timestamps, as_json=arguments.json)
            sys.stdout.flush()
    return 0


def _show(path: Path, transcript: Transcript, *, timestamps: bool, as_json: bool) -> None:
    if as_json:
        from jisu.runtimes.commands.standard_streams import write_json

        write_json({"recording": str(path), **transcript.to_dict()})
    elif timestamps:
        for segment in transcript.segments:
            sys.stdout.write(f"[{_clock(segment.start)} -> {_clock(segment.end)}] {segment.text}\n")
    else:
        sys.stdout.write(transcript.text + "\n")


def _clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are some."""
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    clock = f"{minutes:02}:{rest // 100:02}.{rest % 100:02}"
    return f"{hours}:{clock}" if hours else clock
