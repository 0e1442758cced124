"""Makes the models of the engines that artifacts are compared with, all of one checkpoint.

    python -m venv build/peers && build/peers/bin/pip install -r benchmarks/peers/requirements.txt
    python -m benchmarks.peers.prepare MODEL.gguf --python build/peers/bin/python --out build/peer-models

Into the folder: the checkpoint for transformers in float32, onnxruntime-genai's fp32 and int4 as its builder makes
them, llama.cpp's F16, Q8_0, Q4_K_M and Q4_0, OpenVINO's int8 and int4 as its converter makes them. What is there
already stays; what cannot be made is said, and the rest goes on.
"""

from __future__ import annotations

import argparse
import shutil
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
# optimum-cli without torchvision, which optimum-intel brings, texts do not need, and another build of torch than the
# one it was made for cannot load.
_OPTIMUM = """
import sys
sys.modules["torchvision"] = None
from optimum.commands.optimum_cli import main
main()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a GGUF file; of another checkpoint llama.cpp's are left out")
    parser.add_argument("--python", type=Path, required=True, help="of the environment with the other engines")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    out, python = arguments.out, arguments.python
    out.mkdir(parents=True, exist_ok=True)
    folder, whole = out / "transformers", out / "f32.gguf"
    steps: dict[Path, Callable[[Path], None]] = {
        folder: lambda path: save_for_transformers(arguments.checkpoint, path),
        out / "genai-fp32": lambda path: build_for_genai(folder, path, "fp32"),
        out / "genai-int4": lambda path: build_for_genai(folder, path, "int4"),
        whole: lambda path: quantize(python, arguments.checkpoint, path, "LLAMA_FTYPE_ALL_F32"),
        out / "f16.gguf": lambda path: quantize(python, whole, path, "LLAMA_FTYPE_MOSTLY_F16"),
        out / "q8_0.gguf": lambda path: quantize(python, whole, path, "LLAMA_FTYPE_MOSTLY_Q8_0"),
        out / "q4_k_m.gguf": lambda path: quantize(python, whole, path, "LLAMA_FTYPE_MOSTLY_Q4_K_M"),
        out / "q4_0.gguf": lambda path: quantize(python, whole, path, "LLAMA_FTYPE_MOSTLY_Q4_0"),
        out / "openvino-int8": lambda path: convert_for_openvino(python, folder, path, "int8"),
        out / "openvino-int4": lambda path: convert_for_openvino(python, folder, path, "int4"),
    }
    failed = []
    for path, make in steps.items():
        if path.exists():
            print(f"{path}: there already")
            continue
        partial = path.with_name(f"partial-{path.name}")
        try:
            _remove(partial)  # of a run that was interrupted
            make(partial)
            partial.rename(path)
            print(f"{path}: made")
        except OSError as error:
            failed.append(path.name)
            print(f"{path}: could not be made: {error}")
    sys.exit(f"not made: {', '.join(failed)}" if failed else 0)


def save_for_transformers(checkpoint: Path, folder: Path) -> None:
    """The same weights in float32 as safetensors, with the tokenizer."""
    from jisu.exporter import load_source

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


def convert_for_openvino(python: Path, folder: Path, target: Path, weights: str) -> None:
    options: list[str | Path] = ["-m", folder, "--weight-format", weights, "--task", "text-generation-with-past"]
    if weights == "int4":  # its groups of 128 do not divide every model: smaller ones where they do not
        options += ["--group-size-fallback", "adjust"]
    call([python, "-c", _OPTIMUM, "export", "openvino", *options, target])


def quantize(python: Path, source: Path, target: Path, kind: str) -> None:
    if source.suffix != ".gguf" or not source.is_file():
        raise OSError(f"llama.cpp starts from a GGUF file, not from {source}; make one with its convert_hf_to_gguf.py")
    call([python, "-c", _LLAMA_CPP, source, target, kind])


def call(command: list[str | Path]) -> None:
    """Run a program; what it prints, which is thousands of lines, is shown only when it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
