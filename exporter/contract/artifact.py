"""An artifact on disk: the folder's manifest, its files and their hashes.

Standard library only. A folder is an artifact exactly when it holds a readable ``manifest.json`` whose files are all
present in the recorded sizes; how it comes to be there is the business of `exporter.packaging.staging`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.hub_links import lies_in, names_a_place_inside
from jisu.exporter.contract.manifest_rules import manifest_problems
from jisu.exporter.contract.placeholders import placeholder_at, refuse_placeholder
from jisu.exporter.contract.rerank_prompt import RerankPrompt
from jisu.exporter.contract.signature import LOGITS, SENTENCE_EMBEDDING, Signature

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
GRAPH = "model.onnx"
# The first file of weights; more of them, where one would be too large, are numbered, see `weight_files`.
WEIGHTS = "model.onnx.data"
# A CPU that runs a graph for GPUs of more bytes makes float32 of its half weights in each call; of fewer, once.
WIDENED_WHEN_OPENED = 512 << 20
# Most bytes of a file of weights: what FAT and many ways of sending files can carry is a little more.
MAX_SHARD_BYTES = 4_000_000_000
# Beside a graph that computes in half precision: the same for CPUs, see `exporter.graph.cpu_graph`.
CPU_GRAPH = "model.cpu.onnx"
# Of a model with an encoder: reads its source once, for the decoder that is then in `GRAPH`.
ENCODER = "encoder.onnx"
CPU_ENCODER = "encoder.cpu.onnx"
ENCODER_WEIGHTS = "encoder.onnx.data"
# Of a model that reads images: pixels to rows of image features for the decoder in `GRAPH`, and how images and prompts
# become its inputs.
VISION = "vision.onnx"
VISION_WEIGHTS = "vision.onnx.data"
IMAGES = "images.json"
# Of a model that hears: from samples to what its graph reads, and what a runtime has to know of that.
AUDIO_GRAPH = "audio.onnx"
AUDIO_SETTINGS = "audio.json"
# Of a model that reads recordings in prompts: from those features to rows for the decoder in `GRAPH`, and how
# recordings are cut and prompts become its inputs.
HEARING = "hearing.onnx"
HEARING_WEIGHTS = "hearing.onnx.data"
RECORDINGS = "recordings.json"
# Keys of a manifest's quantization: how the weights of these graphs are stored.
VISION_GRAPH = "vision_graph"
HEARING_GRAPH = "hearing_graph"
TOKENIZER = "tokenizer.json"
# How long each step took and how much memory it needed: true of one run, hence beside the manifest and not hashed.
TIMINGS = "timings.json"
# Stands in the manifest's place in a folder that the gate rejected, so that nothing takes it for an artifact.
REJECTED = "rejected.json"
# What people put beside the files of a repository for others to read; nothing that runs an artifact reads it.
_FOR_READERS = ("README.md", "LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE", "NOTICE.md", "NOTICE.txt")

# How logits become scores: probabilities that sum to 1, one probability each, or the logits themselves.
Activation = Literal["softmax", "sigmoid", "none"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
KERNELS = ("any", "vnni")
Target = Literal["portable", "ort-cpu", "ort-cuda", "tensorrt"]
TARGETS: tuple[Target, ...] = ("portable", "ort-cpu", "ort-cuda", "tensorrt")


# What a model is for, in the words of Hugging Face: continue a text, give a text a label, turn a text into another, and
# give a text a vector, each of its tokens a label, its masked tokens words, or a question its answer in it; continue a
# text with images in it, or with recordings; write down what is said.
ModelKind = Literal[
    "text-generation",
    "text-classification",
    "text2text-generation",
    "feature-extraction",
    "token-classification",
    "fill-mask",
    "question-answering",
    "image-text-to-text",
    "audio-text-to-text",
    "automatic-speech-recognition",
]
MODEL_KINDS: tuple[ModelKind, ...] = get_args(ModelKind)
TEXT_TO_TEXT: ModelKind = "text2text-generation"
IMAGE_TEXT: ModelKind = "image-text-to-text"
AUDIO_TEXT: ModelKind = "audio-text-to-text"
SPEECH: ModelKind = "automatic-speech-recognition"
CLASSIFICATION: ModelKind = "text-classification"
EMBEDDING: ModelKind = "feature-extraction"
# They read a whole text at once and carry nothing; those with a row of numbers for each token of the text.
TAGGING: ModelKind = "token-classification"
FILLING: ModelKind = "fill-mask"
ANSWERING: ModelKind = "question-answering"
PER_TOKEN_KINDS: frozenset[ModelKind] = frozenset({TAGGING, FILLING, ANSWERING})
# Those that may be asked about two texts in one.
PAIR_KINDS: frozenset[ModelKind] = frozenset({CLASSIFICATION, ANSWERING})
ONE_PASS_KINDS: frozenset[ModelKind] = PER_TOKEN_KINDS | {CLASSIFICATION, EMBEDDING}
# What artifacts of a kind have besides the graph.
_FILES_OF_KIND: dict[str, tuple[str, ...]] = {
    IMAGE_TEXT: (VISION, IMAGES),
    AUDIO_TEXT: (AUDIO_GRAPH, AUDIO_SETTINGS, HEARING, RECORDINGS),
}
# The manifest's key for the kind of the model, the word of Hugging Face.
KIND_KEY = "task"


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """Size in bytes and SHA-256 of one file of the artifact."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class EmbeddingFacts:
    """What belongs to the vectors of an embedding model.

    ``dimensions`` counts the numbers of a vector; ``normalized`` vectors have length 1. ``prompts`` are texts to put
    before what is embedded, by name; ``default_prompt`` names the one that is put there when none is asked for.
    ``similarity`` is how two vectors are to be compared: cosine, dot, euclidean or manhattan. ``pools_prompt`` tells
    whether the tokens of a prompt count in the pooling; otherwise the model is told which they are, by type 1.
    """

    dimensions: int
    normalized: bool
    pooling: tuple[str, ...]
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: str = "cosine"
    pools_prompt: bool = True


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a runtime has to know of the model besides its graph.

    ``vocab_size`` counts the token ids that the model takes. ``max_positions`` is None for a model without a limit (a
    recurrent one). ``bos``, ``pad`` and ``mask`` are token ids or None; ``eos`` lists every id that ends an answer.
    ``labels`` names the columns of the logits of a model that reads whole texts, and ``activation`` says how these
    become scores.

    Of a model that turns one text into another, ``decoder_start`` is the token that its decoder begins with,
    ``forced_bos`` the one that has to follow it, ``forced_eos`` the one that an answer cut off at its limit ends with,
    and ``suppressed`` are those that no answer may have; ``max_positions`` counts the decoder's and
    ``max_source_positions`` the encoder's.

    ``embedding`` describes the vectors of a model that gives a text one, and ``rerank_prompt`` what a model is asked
    that scores how a document answers a query; None where it reads both as they are.
    """

    architecture: str
    vocab_size: int
    max_positions: int | None
    layers: int
    parameters: int
    bos: int | None
    eos: tuple[int, ...]
    pad: int | None
    labels: tuple[str, ...] = ()
    decoder_start: int | None = None
    forced_bos: int | None = None
    forced_eos: int | None = None
    suppressed: tuple[int, ...] = ()
    max_source_positions: int | None = None
    embedding: EmbeddingFacts | None = None
    activation: Activation = "softmax"
    mask: int | None = None
    rerank_prompt: RerankPrompt | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of ``manifest.json``. The dictionaries are records for people.

    ``kernels`` says which of a CPU's kernels it was verified for, one of `KERNELS`: those of ``any`` CPU, or those that
    add int8 products in 32 bits, ``vnni``. None where nobody asked yet.
    """

    target: str
    precision: str
    model: ModelFacts
    signature: Signature
    recipe: list[dict[str, Any]]
    gate: dict[str, Any]
    quantization: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any]
    versions: dict[str, str]
    files: dict[str, FileRecord] = field(default_factory=dict)
    model_kind: ModelKind = MODEL_KINDS[0]
    kernels: str | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def reads_whole_texts(self) -> bool:
        """Whether it gives numbers of a whole text in one call, and generates nothing."""
        return self.model_kind in ONE_PASS_KINDS

    @property
    def needs_vnni(self) -> bool:
        """Whether CPUs that add int8 products in 16 bits compute something else than what was verified."""
        if self.kernels is not None:
            return self.kernels == "vnni"
        # Before there were `kernels`, the CPU that exported decided on the range of the weights.
        products = self.quantization.get("products")
        return isinstance(products, dict) and products.get("reduced_range") is False

    def to_dict(self) -> dict[str, Any]:
        """Under the keys of the file."""
        return {KIND_KEY if name == "model_kind" else name: value for name, value in asdict(self).items()}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A folder that was found to be a complete artifact."""

    folder: Path
    manifest: Manifest

    def __repr__(self) -> str:
        made = self.manifest
        return f"Artifact({str(self.folder)!r}, {made.target}, {made.precision}, {self.size:,} bytes)"

    @property
    def graph(self) -> Path:
        return self.folder / GRAPH

    @property
    def cpu_graph(self) -> Path:
        """The graph that CPUs run: a file of its own where they could not run `graph`, or not as it is meant."""
        return self.folder / (CPU_GRAPH if CPU_GRAPH in self.manifest.files else GRAPH)

    @property
    def encoder(self) -> Path:
        return self.folder / ENCODER

    @property
    def cpu_encoder(self) -> Path:
        """The same of `encoder`."""
        return self.folder / (CPU_ENCODER if CPU_ENCODER in self.manifest.files else ENCODER)

    @property
    def size(self) -> int:
        """Bytes of all recorded files."""
        return sum(record.size for record in self.manifest.files.values())


def read_artifact(folder: str | Path, *, check_hashes: bool = False, or_rejected: bool = False) -> Artifact:
    """Open an artifact: read its manifest, check every file's size and, on request, its SHA-256.

    Args:
        or_rejected: also open what the gate rejected, for whoever looks for the reason.

    Raises:
        InputError: the folder is no artifact, is of a newer schema, or a file is missing, truncated or altered;
            all damaged files are named at once.
    """
    folder = Path(folder)
    rejected = or_rejected and not (folder / MANIFEST).exists() and (folder / REJECTED).is_file()
    manifest = _read_manifest(folder / (REJECTED if rejected else MANIFEST))
    damage = [
        line
        for name, record in manifest.files.items()
        if (line := _damage(folder, name, record, check_hash=check_hashes))
    ]
    known = {*manifest.files, *([REJECTED] if rejected else [])}
    damage += [f"{name} is not recorded" for name in _names(folder) if name not in known]
    if damage:
        raise InputError(
            f"The artifact {folder} is damaged",
            received="; ".join(damage),
            allowed="the files as the export wrote them",
            fix="Export the model again or restore the files.",
        )
    return Artifact(folder=folder, manifest=manifest)


def unrecorded_files(folder: Path) -> list[str]:
    """Every file in an artifact's folder, whole or damaged, that its manifest says nothing of; sorted.

    Raises:
        InputError: the folder has no manifest of ours.
    """
    known = {MANIFEST, TIMINGS, *_read_manifest(folder / MANIFEST).files}
    files = (path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    names = (path.relative_to(folder).as_posix() for path in files)
    return sorted(name for name in names if name not in known)


def check_outside_artifacts(path: Path, *, option: str) -> None:
    """Raise InputError for a place to write to that is an artifact's folder, or in one.

    Args:
        option: that named the place, for the message.
    """
    place = path.resolve()
    for folder in (place, *place.parents):
        if (folder / MANIFEST).is_file() and _is_manifest(folder / MANIFEST):
            raise InputError(
                "Output cannot be written into an artifact, whose files must not change",
                received=f"{option} {path} within {folder}",
                allowed="a place beside the artifact",
                fix=f"Name another one with {option}.",
            )


def weight_file(first: str, number: int) -> str:
    """Name of a file of weights, from 1, of a graph whose first one has that name."""
    return first if number == 1 else f"{first}-{number}"


def weight_files(names: Collection[str], first: str = WEIGHTS) -> tuple[str, ...]:
    """Those of the names that are a graph's files of weights, in their order."""
    numbered = (weight_file(first, number) for number in itertools.count(1))
    return tuple(itertools.takewhile(lambda name: name in names, numbered))


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Hash every file below ``folder`` except the manifest and the timings; names use forward slashes, sorted."""
    return {
        name: FileRecord(size=(folder / name).stat().st_size, sha256=hash_file(folder / name))
        for name in _names(folder)
    }


def _names(folder: Path) -> list[str]:
    """Every file below a folder that a manifest records; a name with a dot first is nobody's to read (.DS_Store)."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [name for name in names if name not in (MANIFEST, TIMINGS, *_FOR_READERS) and name[0] != "."]


def hash_file(path: Path) -> str:
    """SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_manifest(path: Path) -> Manifest:
    refuse_placeholder(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path.parent} is not an artifact: {path.name} cannot be read",
            received=error.strerror,
            allowed="a folder written by `jisu export`",
            fix="Check the path, or export the model first.",
        ) from error
    try:
        data = json.loads(content.decode("utf-8"))
        version = data["schema_version"]
        if version == SCHEMA_VERSION:
            return _manifest_from_dict(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is not a manifest",
            received=f"{type(error).__name__}: {error}",
            allowed="a manifest that `jisu export` wrote",
            fix="Export the model again.",
        ) from error
    raise InputError(
        f"{path} has a schema that this version cannot read",
        received=version,
        allowed=SCHEMA_VERSION,
        fix="Update jisu, or export the model again with this version.",
    )


def _is_manifest(path: Path) -> bool:
    """Whether a file of that name is ours; others have some, too."""
    try:
        _read_manifest(path)
    except InputError:
        return False
    return True


def _manifest_from_dict(data: dict[str, Any]) -> Manifest:
    problems = manifest_problems(data)
    if isinstance(data.get("files"), dict) and GRAPH not in data["files"]:
        problems.append(f"files has no {GRAPH}")
    if data.get("kernels") not in (None, *KERNELS):
        problems.append(f"kernels is {data['kernels']!r} instead of one of {', '.join(KERNELS)}")
    if data.get(KIND_KEY, MODEL_KINDS[0]) not in MODEL_KINDS:
        problems.append(f"{KIND_KEY} is {data[KIND_KEY]!r} instead of one of {', '.join(MODEL_KINDS)}")
    needed = _FILES_OF_KIND.get(data.get(KIND_KEY, MODEL_KINDS[0]), ())
    if isinstance(data.get("files"), dict):
        problems += [f"files has no {name}" for name in needed if name not in data["files"]]
    if data["model"].get("activation", ACTIVATIONS[0]) not in ACTIVATIONS:
        problems.append(f"model.activation is {data['model']['activation']!r} instead of {', '.join(ACTIVATIONS)}")
    if problems:
        raise ValueError("; ".join(problems))
    lists = {name: tuple(data["model"].get(name, ())) for name in ("labels", "suppressed")}
    model = {**data["model"], "eos": tuple(data["model"]["eos"]), **lists}
    if model.get("embedding") is not None:
        vector = model["embedding"]
        model["embedding"] = EmbeddingFacts(**{**vector, "pooling": tuple(vector["pooling"])})
    if model.get("rerank_prompt") is not None:
        model["rerank_prompt"] = RerankPrompt.from_dict(model["rerank_prompt"])
    signature = Signature.from_dict(data["signature"])
    _check_encoder(data, signature)
    named, counted = ("labels", len(model["labels"])) if model["labels"] else ("vocab_size", model["vocab_size"])
    for spec in signature.outputs:
        columns = spec.dims[-1] if spec.name == LOGITS and spec.dims else None
        if isinstance(columns, int) and columns != counted:
            raise ValueError(f"model.{named} is {model[named]!r} where the logits have {columns} columns")
    _check_one_pass(data.get(KIND_KEY), model.get("embedding"), signature)
    return Manifest(
        **{
            **{name: value for name, value in data.items() if name != KIND_KEY},
            "model_kind": data.get(KIND_KEY, MODEL_KINDS[0]),
            "model": ModelFacts(**model),
            "signature": signature,
            "files": {name: FileRecord(**record) for name, record in data["files"].items()},
        }
    )


def _check_one_pass(kind: Any, embedding: EmbeddingFacts | None, signature: Signature) -> None:
    """Raise ValueError unless a model that reads whole texts has the output of its kind, of a known width."""
    if (kind == EMBEDDING) != (embedding is not None):
        raise ValueError(f"{KIND_KEY} is {kind!r} where model.embedding is {'not ' * (embedding is None)}there")
    if kind not in ONE_PASS_KINDS:
        return
    name, dims = (SENTENCE_EMBEDDING, 2) if kind == EMBEDDING else (LOGITS, 3 if kind in PER_TOKEN_KINDS else 2)
    output = next((spec for spec in signature.outputs if spec.name == name), None)
    if output is None or len(output.dims) != dims or not isinstance(output.dims[-1], int) or signature.state:
        raise ValueError(f"{KIND_KEY} is {kind!r} where the signature has no {name} of {dims} dims, or a state")
    if embedding is not None and output.dims[-1] != embedding.dimensions:
        raise ValueError(f"model.embedding has {embedding.dimensions} dimensions where {name} has {output.dims[-1]}")


def _check_encoder(data: dict[str, Any], signature: Signature) -> None:
    """Raise ValueError unless model kind, signature, facts and files agree on whether there is an encoder."""
    kind = data.get(KIND_KEY, MODEL_KINDS[0])
    said = {
        # Of the models that hear, some have an encoder and others label each frame.
        **({} if kind == SPEECH else {KIND_KEY: kind == TEXT_TO_TEXT}),
        "signature": bool(signature.encoded),
        "model.decoder_start": data["model"].get("decoder_start") is not None,
        "files": ENCODER in data["files"],
    }
    if len(set(said.values())) > 1:
        raise ValueError(
            f"{', '.join(name for name, has in said.items() if has)} tell of an encoder, "
            f"{', '.join(name for name, has in said.items() if not has)} of none"
        )


def _damage(folder: Path, name: str, record: FileRecord, *, check_hash: bool) -> str | None:
    path = folder / name
    try:
        if not names_a_place_inside(name) or not lies_in(path, folder):
            return f"{name} points outside the folder"
        if (placeholder := placeholder_at(path)) is not None:
            return f"{name} is {placeholder}"
        if not path.is_file():
            return f"{name} is missing"
        size = path.stat().st_size
        if size != record.size:
            return f"{name} has {size} bytes instead of {record.size}"
        if check_hash and hash_file(path) != record.sha256:
            return f"{name} has another SHA-256 than recorded"
    except (OSError, ValueError, RuntimeError) as error:  # unreadable, a NUL in the name, links that run in a circle
        return f"{name!r} cannot be read ({error})"
    return None
