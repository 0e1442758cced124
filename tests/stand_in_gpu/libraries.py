"""Builds the stand-in's libraries with the system's C compiler: what onnxruntime-gpu is linked with, and a driver.

What the C files here do not define and the package asks for becomes a function that succeeds and does nothing.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

SOURCES = Path(__file__).parent
_DRIVER = "libcuda.so.1"
# library -> its file here; None where the package asks for no more than that it is there.
LIBRARIES = {
    _DRIVER: "cuda.c",
    "libcudart.so.13": "cudart.c",
    "libcublas.so.13": "cublas.c",
    "libcublasLt.so.13": "cublaslt.c",
    "libcurand.so.10": None,
}
# Optional, and so in a folder of its own, which the loader may be told of or not.
CUDNN = "cudnn"

_DEFINED = re.compile(r"^(?!static)[\w *]*?\b(\w+)\(", re.MULTILINE)
# A function whose symbol has a version: "U cudaFree@libcudart.so.13"; those of the driver have none.
_UNDEFINED = re.compile(r"\bU (cu\w+|__cuda\w+)(?:@(\S+))?$", re.MULTILINE)


def build_libraries(folder: Path, provider: Path) -> None:
    """Write the libraries into ``folder``.

    Args:
        provider: the package's own library for CUDA, whose undefined symbols say which functions there have to be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    listing = subprocess.run(["nm", "-D", provider], capture_output=True, text=True, check=True).stdout
    symbols: dict[str, list[str]] = {}
    for name, library in _UNDEFINED.findall(listing):
        symbols.setdefault(library or _DRIVER, []).append(name)
    for library, source in LIBRARIES.items():
        _build(folder, library, source, symbols.get(library, []))
    (folder / CUDNN).mkdir(exist_ok=True)
    _build(folder / CUDNN, "libcudnn.so.9", "cudnn.c", [])


def _build(folder: Path, library: str, source: str | None, symbols: list[str]) -> None:
    own = set(_DEFINED.findall((SOURCES / source).read_text(encoding="utf-8"))) if source else set()
    rest = folder / f"{library}.rest.c"
    rest.write_text(
        "".join(f"int {name}(void) {{ return 0; }}\n" for name in symbols if name not in own) or "int none;\n"
    )
    versions = folder / f"{library}.versions"
    versions.write_text(f"{library} {{ global: *; }};\n")
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wno-unused-parameter", f"-Wl,-soname,{library}"]
    if symbols and library != _DRIVER:
        flags.append(f"-Wl,--version-script={versions}")
    sources = [str(rest), *([str(SOURCES / source)] if source else [])]
    subprocess.run(["cc", *flags, "-o", str(folder / library), *sources], check=True)
    for written in (rest, versions):
        written.unlink()


def provider_of_package() -> Path:
    """The library for CUDA of the onnxruntime-gpu that is installed beside this Python."""
    name = "libonnxruntime_providers_cuda.so"
    return next(Path(str(file.locate())) for file in files("onnxruntime-gpu") or [] if file.name == name)


if __name__ == "__main__":
    build_libraries(Path(sys.argv[1]), provider_of_package())
