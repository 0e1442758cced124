"""The user's object: an artifact opened on a backend. It brings text, chat template, loop and scores together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from exporter.contract.artifact import Artifact, read_artifact
from exporter.contract.backend import Backend
from exporter.contract.classifier_backend import ClassifierBackend
from exporter.contract.errors import InputError
from exporter.contract.generation_settings import read_generation_settings
from exporter.contract.naming import shown
from runtimes.backends.registry import CLASSIFICATION, Source, not_a_classifier, open_backend, open_classifier
from runtimes.backends.token_ids import check_ids
from runtimes.chat.chat_arguments import ChatChanges, drop_oldest_turns, split_changes
from runtimes.chat.chat_encoder import open_chat_encoder
from runtimes.chat.messages import ChatRequest, Message
from runtimes.generation.beam_run import BeamRun
from runtimes.generation.classification import Classification, check_texts, classify_rows
from runtimes.generation.model_defaults import checked_settings, complete_options
from runtimes.generation.options import DEFAULT_NEW_TOKENS, OptionChanges, SamplingOptions, changed_options
from runtimes.generation.prompts import check_id_prompts, check_prompt, check_prompts, is_listed, token_ids
from runtimes.generation.result import Result
from runtimes.generation.scoring import TokenScores, score_tokens
from runtimes.generation.text import TextCodec, open_codec
from runtimes.generation.text_run import TextRun
from runtimes.generation.text_stream import TextStream
from runtimes.machine.freed_memory import return_freed_memory
from runtimes.machine.verified_files import verify_once

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack

DEFAULT_BACKEND = "ort-cpu"


def load(
    folder: str | Path,
    backend: str = DEFAULT_BACKEND,
    *,
    threads: int | None = None,
    verify_hashes: bool = True,
    check_hashes: bool = False,
    source: Source = None,
    allow_cpu_nodes: bool = False,
    plan: str | Path | None = None,
    capacity: int | None = None,
) -> Engine:
    """Open an artifact.

    Args:
        folder: what ``jisu export`` wrote.
        backend: a name in `runtimes.backends.registry.BACKENDS`; no other one is taken in its place.
        threads: how many compute; None for as many as this process may use cores: affinity and control group count.
        verify_hashes: compare the SHA-256 of every file with the recorded one, once on a machine: that it was done is
            remembered in the user's cache folder until a file changes. False compares their sizes alone.
        check_hashes: compare them now, whatever is remembered.
        source: the checkpoint or the module that the artifact was made from, for the backend ``torch``.
        allow_cpu_nodes: let ``ort-cuda`` run operators on the processor that it has no kernel for.
        plan: the folder that ``jisu build --out`` wrote plans into, or one of them, for the backends of TensorRT.
        capacity: tokens that the rows of a plan have room for, for the same.

    Raises:
        InputError: no artifact, a damaged one, an unknown backend, or one that cannot run this artifact.
        MissingDependencyError: the backend's package is not installed.
    """
    artifact = read_artifact(folder, check_hashes=check_hashes)
    if verify_hashes and not check_hashes:
        verify_once(artifact)
    place = None if plan is None else Path(plan)
    if artifact.manifest.task == CLASSIFICATION:
        opened: Backend | ClassifierBackend = open_classifier(
            backend,
            artifact,
            threads=threads,
            source=source,
            allow_cpu_nodes=allow_cpu_nodes,
            plan=place,
            capacity=capacity,
        )
    else:
        opened = open_backend(
            backend,
            artifact,
            threads=threads,
            source=source,
            allow_cpu_nodes=allow_cpu_nodes,
            plan=place,
            capacity=capacity,
        )
    options = {
        "threads": threads,
        "source": source,
        "allow_cpu_nodes": allow_cpu_nodes,
        "capacity": capacity,
        "verify_hashes": verify_hashes,
    }
    engine = Engine(artifact, opened)
    engine._loaded = (backend, {**options, "plan": None if place is None else place.absolute()})
    return engine


def _load_again(folder: Path, backend: str, options: Mapping[str, Any]) -> Engine:
    return load(folder, backend, **options)


class Engine:
    """Generates, chats and scores, or classifies, with one model; use it in a ``with`` block, or close it.

    A prompt given to a model with a chat template is rendered as one user message; ``chat=False`` gives it to the model
    as it is. Tokens are chosen as the model's own settings say, and without any the most likely one is taken (greedy).
    Options are the fields of `SamplingOptions`, given one by one or as ``options``; they go before the settings.

    A model that turns a text into another reads the prompt as it is, and answers with the other text.

    In a forked child it opens the model again when it is first used there, or says that its device cannot follow. A
    pickle or a copy is the artifact opened again, by its path and with the same arguments.
    """

    _loaded: tuple[str, Mapping[str, Any]] | None = None  # name and arguments of `load`

    def __init__(self, artifact: Artifact, backend: Backend | ClassifierBackend) -> None:
        self.artifact = artifact
        self._opened = backend
        self._codec = open_codec(artifact.folder)
        self._chat = (
            None if self._codec is None else open_chat_encoder(artifact.folder, self._codec, artifact.manifest.model)
        )
        facts = artifact.manifest.model
        classifies = artifact.manifest.task == CLASSIFICATION
        settings = {} if classifies else read_generation_settings(artifact.folder)
        self._settings = checked_settings(settings, facts, artifact.folder)

    def __reduce__(self) -> tuple[Any, ...]:
        name, options = self._loaded or (None, {})
        source = options.get("source")
        if name is None or not (source is None or isinstance(source, (str, Path))):
            raise InputError(
                "This engine can be neither pickled nor copied",
                received="one with a module or a backend that is only in this process",
                allowed="one that load opened from an artifact, and from a checkpoint by its path",
                fix="Load the artifact where it is needed.",
            )
        return _load_again, (self.artifact.folder.absolute(), name, options)

    def __repr__(self) -> str:
        return f"<Engine {self.artifact.folder} on {self._opened.name}>"

    @property
    def backend(self) -> Backend:
        """What generates; raises InputError when the artifact is a classifier."""
        if self.artifact.manifest.task == CLASSIFICATION:
            raise InputError(
                f"{self.artifact.folder} gives labels to texts and does not continue them",
                received="a wish for text or scores of tokens",
                allowed="Engine.classify and Engine.classify_ids",
                fix="Classify with it (`jisu classify` on the command line), or export a model that generates.",
            )
        return cast("Backend", self._opened)

    @property
    def classifier(self) -> ClassifierBackend:
        """What classifies; raises InputError when the artifact is no classifier."""
        if self.artifact.manifest.task != CLASSIFICATION:
            raise not_a_classifier(self.artifact)
        return cast("ClassifierBackend", self._opened)

    @property
    def labels(self) -> tuple[str, ...]:
        """A classifier's labels in the order of its logits; none for any other model."""
        return self.artifact.manifest.model.labels

    @overload
    def generate(  # type: ignore[overload-overlap]  # a str is a sequence of str, too; the first one is taken
        self,
        prompt: str,
        *,
        chat: bool | None = None,
        options: SamplingOptions | None = None,
        **changes: Unpack[OptionChanges],
    ) -> Result: ...

    @overload
    def generate(
        self,
        prompt: Sequence[str],
        *,
        chat: bool | None = None,
        options: SamplingOptions | None = None,
        **changes: Unpack[OptionChanges],
    ) -> list[Result]: ...

    def generate(
        self,
        prompt: str | Sequence[str],
        *,
        chat: bool | None = None,
        options: SamplingOptions | None = None,
        **changes: Unpack[OptionChanges],
    ) -> Result | list[Result]:
        """Answer one prompt, or several of any lengths at once (a list gives a list).

        Args:
            chat: render each prompt as a user message; None does so when the model has a chat template.

        Raises:
            InputError: an empty or too long prompt, an option out of range, or no chat template though one is wanted.
        """
        ids = [self.prompt_ids(text, chat=chat) for text in check_prompts(prompt)]
        results = self.generate_ids(ids, options=options, **changes)
        return results[0] if isinstance(prompt, str) else results

    def generate_ids(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        options: SamplingOptions | None = None,
        **changes: Unpack[OptionChanges],
    ) -> list[Result]:
        """Continue prompts given as token ids."""
        run = self._run(check_id_prompts(prompts), changed_options(options, changes))
        for _ in run:
            pass
        return run.results()

    def stream(
        self,
        prompt: str,
        *,
        chat: bool | None = None,
        options: SamplingOptions | None = None,
        **changes: Unpack[OptionChanges],
    ) -> TextStream:
        """Answer one prompt piece by piece; raises as `generate` does, before the first piece."""
        return TextStream(self._run([self.prompt_ids(prompt, chat=chat)], changed_options(options, changes)))

    def chat(
        self,
        messages: Sequence[Message],
        *,
        options: SamplingOptions | None = None,
        **changes: Unpack[ChatChanges],
    ) -> Result:
        """Answer a conversation: ``{"role": "system" | "user" | "assistant" | "tool", "content": text}`` in order.

        The answer has as many tokens as were asked for, or as the model has positions left. Besides the options there
        are the arguments of `ChatChanges`: ``tools``, ``template_variables``, ``continue_final_message`` (the answer is
        the rest of the last message, the assistant's) and ``drop_oldest``.
        """
        run = self._chat_run(messages, options, changes)
        for _ in run:
            pass
        return run.results()[0]

    def stream_chat(
        self,
        messages: Sequence[Message],
        *,
        options: SamplingOptions | None = None,
        **changes: Unpack[ChatChanges],
    ) -> TextStream:
        """Answer a conversation piece by piece; for the arguments see `chat`."""
        return TextStream(self._chat_run(messages, options, changes))

    def _chat_run(
        self, messages: Sequence[Message], options: SamplingOptions | None, changes: ChatChanges
    ) -> TextRun | BeamRun:
        request, drops, rest = split_changes(messages, changes)
        chosen = changed_options(options, rest)
        if drops:
            kept = drop_oldest_turns(messages, lambda some: self.has_room(replace(request, messages=some), chosen))
            request = replace(request, messages=kept)
        return self._run([self.message_ids(request)], chosen, cut=True)

    def has_room(self, messages: Sequence[Message] | ChatRequest, options: SamplingOptions) -> bool:
        """Whether a conversation leaves positions for the answer: half of them have to be enough for it."""
        positions = self.backend.max_positions
        if positions is None:
            return True
        options = self.completed_options(options)
        wanted = min(options.max_new_tokens or options.default_new_tokens or DEFAULT_NEW_TOKENS, positions // 2)
        return len(self.message_ids(messages)) + wanted <= positions

    @overload
    def score(  # type: ignore[overload-overlap]  # a str is a sequence of str, too; the first one is taken
        self, texts: str | Sequence[int]
    ) -> TokenScores: ...

    @overload
    def score(self, texts: Sequence[str] | Sequence[Sequence[int]]) -> list[TokenScores]: ...

    def score(
        self, texts: str | Sequence[int] | Sequence[str] | Sequence[Sequence[int]]
    ) -> TokenScores | list[TokenScores]:
        """Log-probability of every token but the first of a text or a list of token ids, given the tokens before it.

        One text or one list of ids gives its scores, a list of them gives a list. Texts are encoded with the special
        tokens that the tokenizer adds, and are not rendered as chat.

        Raises:
            InputError: nothing to score, something too long for the model, or neither texts nor ids.
        """
        if self._reads_sources:
            raise InputError(
                f"The artifact {self.artifact.folder} says something about a source, and cannot score a text alone",
                received="score",
                allowed="generate, stream and generate_ids",
                fix="Compare the texts that it generates.",
            )
        alone = isinstance(texts, str) or bool(token_ids(texts))
        sequences = [self._ids_to_score(text) for text in (texts if is_listed(texts) and not alone else [texts])]
        scores = score_tokens(self.backend, sequences)
        return scores[0] if alone else scores

    @overload
    def classify(  # type: ignore[overload-overlap]  # a str is a sequence of str, too; the first one is taken
        self, texts: str, *, truncate: bool = False
    ) -> Classification: ...

    @overload
    def classify(self, texts: Sequence[str], *, truncate: bool = False) -> list[Classification]: ...

    def classify(self, texts: str | Sequence[str], *, truncate: bool = False) -> Classification | list[Classification]:
        """Give a text its label, or each of several texts of any lengths (a list gives a list).

        Args:
            truncate: cut a text that is too long for the model off at its end, instead of refusing it.

        Raises:
            InputError: no text, an empty or a too long one, or a model that does not classify.
        """
        limit = self.classifier.max_positions
        rows = [self.tokenize(text) for text in check_texts(texts)]
        for row, text in enumerate(check_texts(texts)):
            if limit is not None and len(rows[row]) > limit:
                if not truncate:
                    raise InputError(
                        "A text is too long for the model",
                        received=f"{len(rows[row])} tokens in text {row}",
                        allowed=f"at most {limit}",
                        fix="Shorten it, or cut it off: truncate=True, or --truncate.",
                    )
                rows[row] = self.codec.encode_start(text, limit)
        found = classify_rows(self.classifier, rows, self.labels)
        return found[0] if isinstance(texts, str) else found

    def classify_ids(self, rows: Sequence[Sequence[int]]) -> list[Classification]:
        """Give texts that are lists of token ids, special tokens included, their labels."""
        return classify_rows(self.classifier, check_id_prompts(rows), self.labels)

    def tokenize(self, text: str, *, special_tokens: bool = True) -> list[int]:
        """Token ids of a text, with the tokenizer's own special tokens unless they are unwanted.

        A special token that the text itself spells becomes that token, unlike in the messages of a chat.
        """
        return self.codec.encode(text, special_tokens=special_tokens)

    def detokenize(self, ids: Sequence[int], *, special_tokens: bool = False) -> str:
        """The text of token ids, special tokens left out unless they are wanted.

        Raises:
            InputError: ids that the model does not have.
        """
        found = token_ids(ids)
        if found is None:
            raise InputError(
                "These are not token ids", received=shown(ids), allowed="a list of whole numbers", fix="Give one list."
            )
        check_ids([found], self.vocab_size)
        return self.codec.decode(found, special_tokens=special_tokens)

    def prompt_ids(self, text: str, *, chat: bool | None = None) -> list[int]:
        """Token ids of a prompt as `generate` would give it to the model; raises InputError for an empty one."""
        check_prompt(text)
        if chat is None:
            chat = self.has_chat_template and not self._reads_sources
        return self.message_ids([{"role": "user", "content": text}]) if chat else self.tokenize(text)

    def message_ids(self, messages: Sequence[Message] | ChatRequest) -> list[int]:
        """Token ids of a conversation; only the template writes special tokens, the messages are plain text."""
        _ = self.codec, self.backend  # either may refuse
        if self._reads_sources:
            raise InputError(
                f"The artifact {self.artifact.folder} turns a text into another and holds no conversation",
                received="chat messages",
                allowed="a text",
                fix="Give the text itself: jisu generate, or Engine.generate without chat.",
            )
        if self._chat is None or self._chat.template is None:
            raise InputError(
                f"The artifact {self.artifact.folder} has no chat template",
                received="chat messages",
                allowed="a model with a chat template",
                fix="Continue a text with it instead: jisu generate, or Engine.generate without chat.",
            )
        return self._chat.encode(messages)

    @property
    def has_chat_template(self) -> bool:
        return self._chat is not None and self._chat.template is not None

    @property
    def codec(self) -> TextCodec:
        """The tokenizer; raises InputError when the artifact has none."""
        if self._codec is None:
            raise InputError(
                f"The artifact {self.artifact.folder} has no tokenizer",
                received="text",
                allowed="from Python token ids, with Engine.generate_ids and Engine.score",
                fix="Export the model with its tokenizer.",
            )
        return self._codec

    @property
    def generation_settings(self) -> dict[str, Any]:
        """What the model's own settings say where no option does, under the names of transformers."""
        return dict(self._settings)

    def completed_options(self, options: SamplingOptions, *, searches: bool = True) -> SamplingOptions:
        """Options that say all of what is done, with the model's own settings where nothing was given.

        Args:
            searches: whether beams of the model's settings are possible.

        Raises:
            InputError: something that nothing would read, or options that do not go together.
        """
        return complete_options(options, self._settings, searches=searches)

    def close(self) -> None:
        """Give back the memory of the model and of all its states, whoever holds them; safe to call twice."""
        self._opened.close()
        return_freed_memory()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ids_to_score(self, text: object) -> list[int]:
        ids = self.tokenize(text) if isinstance(text, str) else token_ids(text)
        if ids is None:
            raise InputError(
                "This cannot be scored",
                received=shown(text),
                allowed="a text, a list of token ids, or a list of one of these",
                fix="Give several sequences as a list of lists.",
            )
        return ids

    @property
    def vocab_size(self) -> int:
        """Token ids that the model takes: those from 0 up to one less."""
        return self.artifact.manifest.model.vocab_size

    @property
    def _reads_sources(self) -> bool:
        return self.artifact.manifest.model.decoder_start is not None

    def _run(
        self, prompts: Sequence[Sequence[int]], options: SamplingOptions, *, cut: bool = False
    ) -> TextRun | BeamRun:
        facts = self.artifact.manifest.model
        check_ids(prompts, self.backend.vocab_size)
        options = self.completed_options(options)
        kind = BeamRun if options.searches else TextRun
        if facts.decoder_start is None:
            return kind(self.backend, prompts, options=options, codec=self._codec, eos=facts.eos, cut=cut)
        begun = [[facts.decoder_start] for _ in prompts]
        return kind(self.backend, begun, options=options, codec=self._codec, eos=facts.eos, sources=prompts)
