"""What all verbs that run a model understand: which artifact, on what backend, and how tokens are chosen."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError

if TYPE_CHECKING:
    from jisu.runtimes.engine import Engine
    from jisu.runtimes.generation.options import EarlyStopping, SamplingOptions

_NUMBERS = {
    "max_new_tokens": (int, "N", "longest answer, in tokens (default: 256, or what fits)"),
    "min_new_tokens": (int, "N", "shortest answer, in tokens (default: 0)"),
    "temperature": (
        float,
        "T",
        "0 takes the most likely token; higher values draw less likely ones more often (default: 0)",
    ),
    "top_k": (int, "K", "draw from the K most likely tokens"),
    "top_p": (float, "P", "draw from the most likely tokens that together reach this probability"),
    "min_p": (float, "P", "exclude tokens less likely than P times the most likely one"),
    "typical_p": (float, "P", "locally typical sampling with this probability mass"),
    "repetition_penalty": (float, "R", "values above 1 make tokens of the prompt and the answer less likely"),
    "no_repeat_ngram_size": (
        int,
        "N",
        "never repeat a sequence of N tokens of the prompt or the answer (default: 0, off)",
    ),
    "frequency_penalty": (float, "R", "subtracted from a token's logit for each time it is in the answer"),
    "presence_penalty": (float, "R", "subtracted once from the logit of each token in the answer"),
    "seed": (int, "S", "makes drawn answers repeatable (default: a new seed each time)"),
    "num_beams": (int, "N", "beam search with N beams (default: 1, none)"),
    "length_penalty": (float, "P", "beam search: values above 0 favor longer answers (default: 1)"),
}


_EARLY_STOPPING: dict[str, EarlyStopping] = {"yes": True, "no": False, "never": "never"}


def add_artifact_arguments(parser: argparse.ArgumentParser) -> None:
    """ARTIFACT, --backend, --threads and --source."""
    parser.add_argument("artifact", metavar="ARTIFACT", help="folder that `jisu export` wrote")
    parser.add_argument("--backend", default="ort-cpu", metavar="NAME", help="backend to run on (default: ort-cpu)")
    parser.add_argument("--threads", type=int, metavar="N", help="compute threads (default: the usable cores)")
    parser.add_argument(
        "--source", metavar="CHECKPOINT", help="backend torch only: the checkpoint (default: the path in the manifest)"
    )
    parser.add_argument(
        "--allow-cpu-nodes", action="store_true", help="ort-cuda only: run operators without a GPU kernel on the CPU"
    )
    parser.add_argument(
        "--plan", type=Path, metavar="PATH", help="tensorrt backends only: plan, or folder of `jisu build --out`"
    )
    parser.add_argument(
        "--capacity",
        type=int,
        metavar="N",
        help="tensorrt backends only: tokens per row, prompt and answer (default: 2048)",
    )
    parser.add_argument(
        "--no-verify-hashes",
        dest="verify_hashes",
        action="store_false",
        help="check only file sizes; without it, the first load on a machine checks SHA-256 hashes",
    )


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """The same, and the sampling options."""
    add_artifact_arguments(parser)
    sampling = parser.add_argument_group(
        "sampling", "an option that is left out follows the model's generation_config.json, or else the default"
    )
    for name, (kind, letter, text) in _NUMBERS.items():
        sampling.add_argument("--" + name.replace("_", "-"), type=kind, metavar=letter, help=text)
    sampling.add_argument(
        "--early-stopping",
        choices=sorted(_EARLY_STOPPING),
        help="beam search ends when N answers have ended (yes), a better one is unlikely (no) or impossible (never) "
        "(default: no)",
    )
    ways = sampling.add_mutually_exclusive_group()
    ways.add_argument(
        "--sample",
        action="store_true",
        default=None,
        dest="do_sample",
        help="draw tokens even if the model's settings do not",
    )
    ways.add_argument("--greedy", action="store_false", dest="do_sample", help="always take the most likely token")
    sampling.add_argument(
        "--no-model-defaults",
        action="store_false",
        dest="model_defaults",
        help="ignore the model's generation_config.json",
    )
    sampling.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end the answer before this text; repeatable"
    )
    sampling.add_argument("--special-tokens", action="store_true", help="show special tokens in the answer")


def add_chat_arguments(parser: argparse.ArgumentParser) -> None:
    """What a chat template is given besides the messages."""
    chat = parser.add_argument_group("chat template")
    chat.add_argument("--tools", metavar="FILE", help="JSON file with the functions that the model may call")
    chat.add_argument(
        "--template-var",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="variable of the template, such as enable_thinking=false; repeatable",
    )
    chat.add_argument(
        "--drop-oldest", action="store_true", help="drop the oldest turns when the conversation is too long"
    )


def chat_fields(arguments: argparse.Namespace) -> dict[str, Any]:
    """The same as keyword arguments of a conversation; raises InputError for what is no such thing."""
    tools = None if arguments.tools is None else _json(read_text_file(arguments.tools), name=arguments.tools)
    return {"tools": tools, "template_variables": dict(map(_variable, arguments.template_var))}


def _variable(text: str) -> tuple[str, Any]:
    """A name and its value: JSON where it is such, else the text itself."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(
            "--template-var needs a name and a value",
            received=f"--template-var {text}",
            allowed="NAME=VALUE",
            fix="Write it like enable_thinking=false.",
        )
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value


def _json(text: str, *, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{name} is not JSON",
            received=error,
            allowed="a JSON file",
            fix="Correct the JSON.",
        ) from error


def option_names(names: Iterable[str]) -> str:
    """Arguments as they are typed, for an error."""
    return ", ".join("PROMPT" if name == "prompt" else "--" + name.replace("_", "-") for name in names)


def sampling_options(arguments: argparse.Namespace) -> SamplingOptions:
    """The options that were given; raises InputError when one is out of its range."""
    from jisu.runtimes.generation.options import SamplingOptions

    numbers = {name: getattr(arguments, name) for name in _NUMBERS}
    early = None if arguments.early_stopping is None else _EARLY_STOPPING[arguments.early_stopping]
    return SamplingOptions(
        **numbers,
        early_stopping=early,
        stop=tuple(arguments.stop),
        do_sample=arguments.do_sample,
        model_defaults=arguments.model_defaults,
        special_tokens=arguments.special_tokens,
    )


def load_engine(arguments: argparse.Namespace) -> Engine:
    """Open the artifact that was named."""
    from jisu.runtimes.backends.backend_options import BackendOptions
    from jisu.runtimes.opening import open_engine

    options = BackendOptions(**{field.name: getattr(arguments, field.name) for field in fields(BackendOptions)})
    return open_engine(arguments.artifact, arguments.backend, options, verify_hashes=arguments.verify_hashes)


def read_text_file(path: str) -> str:
    """The text of a UTF-8 file, or of standard input for ``-``; raises InputError when it cannot be read."""
    import sys

    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return data.decode("utf-8-sig")  # without the mark that some editors put before a text
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The file {path} cannot be read", received=error, allowed="a UTF-8 text file", fix="Check the path."
        ) from error
