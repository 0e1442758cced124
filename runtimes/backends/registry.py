"""Which backends there are, and how one is opened: nothing is imported before its name is asked for."""

from __future__ import annotations

import contextlib
import difflib
import importlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jisu.exporter.contract.artifact import AUDIO_TEXT, CLASSIFICATION, IMAGE_TEXT, SPEECH, TARGETS, Artifact
from jisu.exporter.contract.backend import Backend
from jisu.exporter.contract.errors import InputError, MissingDependencyError
from jisu.exporter.contract.model_uses import does_not_generate, not_of_kind
from jisu.exporter.contract.one_pass_backend import OnePassBackend
from jisu.exporter.contract.speech_backend import SpeechBackend
from jisu.runtimes.backends.backend_options import BackendOptions, Source
from jisu.runtimes.backends.forks import forbid_to_children


class OpenOnePass(Protocol):
    """The same for an artifact whose model reads whole texts and generates nothing."""

    def __call__(self, artifact: Artifact, *, threads: int | None, source: Source) -> OnePassBackend: ...


class OpenBackend(Protocol):
    """Opens an artifact; raises InputError when it cannot, and lets the ImportError of a missing package through."""

    def __call__(self, artifact: Artifact, *, threads: int | None, source: Source) -> Backend: ...


@dataclass(frozen=True, kw_only=True)
class BackendEntry:
    """Where a backend is found and what it runs.

    ``opener`` is ``"module:function"``, the function an `OpenBackend`. ``extra`` is what to install for it.
    ``targets`` are the artifacts it can run. ``reads_source`` tells that it runs the checkpoint; to any other backend
    naming one is an error. ``uses_device`` tells that it holds a device, which no forked process has.
    ``one_pass_opener`` is an `OpenOnePass`, None where it runs only models that generate; ``speech_opener`` the same
    for models that hear.
    ``reads_images`` tells that it runs models that read images or recordings, and these need it to.
    ``options`` names what its openers take besides: ``allow_cpu_nodes``, ``plan``, ``capacity``.
    """

    opener: str
    extra: str
    targets: tuple[str, ...]
    reads_source: bool = False
    uses_device: bool = False
    one_pass_opener: str | None = None
    speech_opener: str | None = None
    options: tuple[str, ...] = ()
    reads_images: bool = False


BACKENDS: dict[str, BackendEntry] = {
    "ort-cpu": BackendEntry(
        opener="jisu.runtimes.backends.ort_cpu.backend:open_ort_cpu",
        extra="cpu",
        # The last two slowly: so that what a GPU is given can be looked at without one.
        targets=("ort-cpu", "portable", "tensorrt", "ort-cuda"),
        one_pass_opener="jisu.runtimes.backends.ort_cpu.one_pass:open_ort_one_pass",
        reads_images=True,
        speech_opener="jisu.runtimes.backends.ort_cpu.speech:open_ort_speech",
    ),
    "ort-cuda": BackendEntry(
        opener="jisu.runtimes.backends.ort_cuda.open:open_ort_cuda",
        extra="cuda",
        targets=("ort-cuda", "ort-cpu"),
        one_pass_opener="jisu.runtimes.backends.ort_cuda.one_pass:open_ort_cuda_one_pass",
        options=("allow_cpu_nodes",),
        uses_device=True,
    ),
    "tensorrt": BackendEntry(
        opener="jisu.runtimes.backends.tensorrt.opening:open_tensorrt",
        extra="tensorrt",
        targets=("tensorrt",),
        one_pass_opener="jisu.runtimes.backends.tensorrt.opening:open_tensorrt_one_pass",
        options=("plan", "capacity"),
        uses_device=True,
    ),
    "tensorrt-rtx": BackendEntry(
        opener="jisu.runtimes.backends.tensorrt.opening:open_tensorrt_rtx",
        extra="tensorrt-rtx",
        targets=("tensorrt",),
        one_pass_opener="jisu.runtimes.backends.tensorrt.opening:open_tensorrt_rtx_one_pass",
        options=("plan", "capacity"),
        uses_device=True,
    ),
    # The source runs, not the graph: it does not matter what the graph was lowered for.
    "torch": BackendEntry(
        opener="jisu.runtimes.backends.torch.backend:open_torch",
        extra="export",
        targets=TARGETS,
        reads_source=True,
        one_pass_opener="jisu.runtimes.backends.torch.one_pass:open_torch_one_pass",
    ),
}


def register_backend(
    name: str,
    opener: str,
    *,
    extra: str,
    targets: Iterable[str],
    reads_source: bool = False,
    one_pass_opener: str | None = None,
) -> None:
    """Make a backend of another package known under ``name``.

    Args:
        opener: ``"package.module:function"``, imported when the backend is first asked for.
        extra: what to install when it is missing.
        targets: the targets whose artifacts it can run.
        reads_source: whether it uses the checkpoint that ``load`` was given as ``source``.
        one_pass_opener: the same as ``opener`` for artifacts that classify; None when it does not run these.

    Raises:
        InputError: the name is taken or the opener is not of that form.
    """
    if name in BACKENDS:
        raise InputError(
            f"The backend name {name!r} is taken",
            received=opener,
            allowed="a name that is not in use",
            fix="Choose another name.",
        )
    for path in (opener, one_pass_opener):
        module, _, function = (path or "module:function").partition(":")
        if not module or not function:
            raise InputError(
                f"The opener of the backend {name!r} cannot be imported",
                received=path,
                allowed="package.module:function",
                fix="Name the function that opens an artifact.",
            )
    BACKENDS[name] = BackendEntry(
        opener=opener,
        extra=extra,
        targets=tuple(targets),
        reads_source=reads_source,
        one_pass_opener=one_pass_opener,
    )


def open_artifact(
    name: str, artifact: Artifact, options: BackendOptions | None = None
) -> Backend | OnePassBackend | SpeechBackend:
    """Open an artifact of any kind; arguments and errors as for `open_backend`."""
    if artifact.manifest.model_kind == SPEECH:
        return open_speech(name, artifact, options)
    opener = open_one_pass if artifact.manifest.reads_whole_texts else open_backend
    return opener(name, artifact, options)


def open_backend(name: str, artifact: Artifact, options: BackendOptions | None = None) -> Backend:
    """Open an artifact that generates on the named backend, on that one or not at all.

    Args:
        options: the defaults when None.

    Raises:
        InputError: unknown name, an artifact of a target it cannot run, or what its opener refuses.
        MissingDependencyError: a package that the backend needs is not installed.
    """
    options = options or BackendOptions()
    entry = _entry_for(name, artifact, options)
    if artifact.manifest.reads_whole_texts or artifact.manifest.model_kind == SPEECH:
        raise does_not_generate(artifact)
    kind = artifact.manifest.model_kind
    if kind in (IMAGE_TEXT, AUDIO_TEXT) and not entry.reads_images:
        able = [other for other, known in BACKENDS.items() if known.reads_images]
        received = f"{artifact.folder}, an artifact for {kind}"
        what = "images" if kind == IMAGE_TEXT else "recordings"
        raise _not_run(f"The backend {name} reads no {what}", received, able)
    opened: Backend = _open(name, entry, entry.opener, artifact, options)
    return opened


def open_one_pass(name: str, artifact: Artifact, options: BackendOptions | None = None) -> OnePassBackend:
    """Open an artifact whose model reads whole texts; arguments and errors as for `open_backend`."""
    options = options or BackendOptions()
    entry = _entry_for(name, artifact, options)
    if not artifact.manifest.reads_whole_texts:
        raise not_of_kind(artifact, CLASSIFICATION)
    if entry.one_pass_opener is None:
        able = [other for other, known in BACKENDS.items() if known.one_pass_opener is not None]
        raise _not_run(f"The backend {name} runs only models that generate text", str(artifact.folder), able)
    opened: OnePassBackend = _open(name, entry, entry.one_pass_opener, artifact, options)
    return opened


def open_speech(name: str, artifact: Artifact, options: BackendOptions | None = None) -> SpeechBackend:
    """Open an artifact that hears; arguments and errors as for `open_backend`."""
    options = options or BackendOptions()
    entry = _entry_for(name, artifact, options)
    if artifact.manifest.model_kind != SPEECH:
        raise not_of_kind(artifact, SPEECH)
    if entry.speech_opener is None:
        able = [other for other, known in BACKENDS.items() if known.speech_opener is not None]
        raise _not_run(f"The backend {name} runs no models that hear", str(artifact.folder), able)
    opened: SpeechBackend = _open(name, entry, entry.speech_opener, artifact, options)
    return opened


def _not_run(what: str, received: str, able: Sequence[str]) -> InputError:
    """The error for a kind of model that a backend does not run, and others do."""
    return InputError(what, received=received, allowed=", ".join(able), fix="Choose one of these as --backend.")


def _open(name: str, entry: BackendEntry, path: str, artifact: Artifact, options: BackendOptions) -> Any:
    """What the opener at ``path`` gives; raises InputError for options that this backend does not take."""
    for option in options.of_some_backends:
        if option not in entry.options:
            raise InputError(
                f"The backend {name} does not take --{option.replace('_', '-')}",
                received=str(artifact.folder),
                allowed="it for " + ", ".join(other for other, known in BACKENDS.items() if option in known.options),
                fix="Leave it out.",
            )
    with _told_missing(name, entry):
        opener = imported(path)
        opened = opener(artifact, threads=options.threads, source=options.source, **options.of_some_backends)
    if entry.uses_device:
        forbid_to_children(opened)
    return opened


@contextlib.contextmanager
def _told_missing(name: str, entry: BackendEntry) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingDependencyError(error.name or name, extra=entry.extra, needed_for=f"The backend {name}") from error


def _entry_for(name: str, artifact: Artifact, options: BackendOptions) -> BackendEntry:
    """The entry of a backend that can run the artifact with these options; raises InputError."""
    entry = BACKENDS.get(name)
    if entry is None:
        near = difflib.get_close_matches(name, BACKENDS, n=1)
        raise InputError(
            "There is no such backend",
            received=name,
            allowed=", ".join(sorted(BACKENDS)),
            fix=f"Did you mean {near[0]}?" if near else "Choose one of these.",
        )
    if artifact.manifest.target not in entry.targets:
        raise InputError(
            f"The backend {name} cannot run {artifact.folder}",
            received=f"an artifact for the target {artifact.manifest.target}",
            allowed=f"artifacts for {', '.join(entry.targets)}",
            fix=f"Export the model with --target {entry.targets[0]}, or choose another --backend.",
        )
    source = options.source
    if source is not None and not entry.reads_source:
        readers = [other for other, known in BACKENDS.items() if known.reads_source]
        raise InputError(
            f"The backend {name} does not use --source",
            received=f"the source {source if isinstance(source, (str, Path)) else type(source).__name__}",
            allowed=f"a source for {', '.join(readers)}",
            fix=f"Leave --source out, or choose --backend {readers[0]}.",
        )
    return entry


def imported(path: str) -> Any:
    """The function that ``"module:function"`` names; raises InputError when the module has none, or ImportError."""
    module_name, _, function = path.partition(":")
    opener: Any | None = getattr(importlib.import_module(module_name), function, None)
    if opener is None:
        raise InputError(
            f"The backend's opener {path} cannot be imported",
            received=f"a module without {function}",
            allowed="the path of a function",
            fix="Register the backend with the function that opens an artifact.",
        )
    return opener
