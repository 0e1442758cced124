"""Makes the models of the engines that artifacts are compared with, all of one checkpoint.

    python -m venv build/peers && build/peers/bin/pip install -r benchmarks/peers/requirements.txt
    python -m benchmarks.peers.prepare MODEL.gguf --python build/peers/bin/python --out build/peer-models

Into the folder: the checkpoint for transformers in float32, onnxruntime-genai's fp32 and int4 as its builder makes
them, llama.cpp's Q8_0 and Q4_K_M, OpenVINO's int8. What is there already stays; what cannot be made is said, and the
rest goes on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_LLAMA_CPP = """
import sys, llama_cpp
source, target, kind = sys.argv[1:]
options = llama_cpp.llama_model_quantize_default_params()
options.ftype, options.allow_requantize, options.nthread = getattr(llama_cpp, kind), True, 2
sys.exit(llama_cpp.llama_model_quantize(source.encode(), target.encode(), options))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a GGUF file, which llama.cpp can start from")
    parser.add_argument("--python", type=Path, required=True, help="of the environment with the other engines")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    out, python = arguments.out, arguments.python
    out.mkdir(parents=True, exist_ok=True)
    folder, whole = out / "transformers", out / "f32.gguf"
    steps: dict[Path, Callable[[], None]] = {
        folder: lambda: save_for_transformers(arguments.checkpoint, folder),
        out / "genai-fp32": lambda: build_for_genai(folder, out / "genai-fp32", "fp32"),
        out / "genai-int4": lambda: build_for_genai(folder, out / "genai-int4", "int4"),
        whole: lambda: quantize(python, arguments.checkpoint, whole, "LLAMA_FTYPE_ALL_F32"),
        out / "q8_0.gguf": lambda: quantize(python, whole, out / "q8_0.gguf", "LLAMA_FTYPE_MOSTLY_Q8_0"),
        out / "q4_k_m.gguf": lambda: quantize(python, whole, out / "q4_k_m.gguf", "LLAMA_FTYPE_MOSTLY_Q4_K_M"),
        out / "openvino-int8": lambda: convert_for_openvino(python, folder, out / "openvino-int8"),
    }
    failed = []
    for path, make in steps.items():
        if path.exists():
            print(f"{path}: there already")
            continue
        try:
            make()
            print(f"{path}: made")
        except OSError as error:
            failed.append(path.name)
            print(f"{path}: could not be made: {error}")
    sys.exit(f"not made: {', '.join(failed)}" if failed else 0)


def save_for_transformers(checkpoint: Path, folder: Path) -> None:
    """The same weights in float32 as safetensors, with the tokenizer."""
    from exporter import load_source

    source = load_source(checkpoint)
    module, tokenizer = source.module, source.tokenizer
    # transformers refuses to save what it takes for quantized, which the loaded weights are not any more.
    if hasattr(module.config, "quantization_config"):
        del module.config.quantization_config
    module.save_pretrained(str(folder))  # type: ignore[operator]
    if tokenizer is not None:
        tokenizer.save_pretrained(str(folder))


def build_for_genai(folder: Path, target: Path, precision: str) -> None:
    options: list[str | Path] = ["-i", folder, "-o", target, "-p", precision, "-e", "cpu", "-c", target / "cache"]
    call([sys.executable, "-m", "onnxruntime_genai.models.builder", *options])


def convert_for_openvino(python: Path, folder: Path, target: Path) -> None:
    options: list[str | Path] = ["-m", folder, "--weight-format", "int8", "--task", "text-generation-with-past"]
    call([python.parent / "optimum-cli", "export", "openvino", *options, target])


def quantize(python: Path, source: Path, target: Path, kind: str) -> None:
    call([python, "-c", _LLAMA_CPP, source, target, kind])


def call(command: list[str | Path]) -> None:
    """Run a program; what it prints, which is thousands of lines, is shown only when it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")


if __name__ == "__main__":
    main()
