"""The user's object: an artifact opened on a backend. It brings text, chat template, loop and scores together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from jisu.exporter.contract.artifact import Artifact, read_artifact
from jisu.exporter.contract.backend import Backend
from jisu.exporter.contract.classifier_backend import ClassifierBackend
from jisu.exporter.contract.generation_settings import read_generation_settings
from jisu.runtimes import engine_errors
from jisu.runtimes.backends.backend_options import BackendOptions, Source
from jisu.runtimes.backends.registry import CLASSIFICATION, not_a_classifier, open_artifact
from jisu.runtimes.backends.token_ids import check_ids
from jisu.runtimes.chat.chat_arguments import ChatChanges, drop_oldest_turns, split_changes
from jisu.runtimes.chat.chat_encoder import open_chat_encoder
from jisu.runtimes.chat.messages import ChatRequest, Message
from jisu.runtimes.generation.classification import Classification, check_texts, classify_rows
from jisu.runtimes.generation.model_defaults import checked_settings, complete_options
from jisu.runtimes.generation.options import DEFAULT_NEW_TOKENS, OptionChanges, SamplingOptions, changed_options
from jisu.runtimes.generation.prompts import check_id_prompts, check_prompt, check_prompts, is_listed, token_ids
from jisu.runtimes.generation.result import Result
from jisu.runtimes.generation.runs import Run, begin_run
from jisu.runtimes.generation.scoring import TokenScores, score_tokens
from jisu.runtimes.generation.text import TextCodec, open_codec
from jisu.runtimes.generation.text_stream import TextStream
from jisu.runtimes.machine.freed_memory import return_freed_memory
from jisu.runtimes.machine.verified_files import verify_once

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
        verify_hashes: compare the SHA-256 of every file with the recorded one, once on a machine: that it was done is
            remembered in the user's cache folder until a file changes. False compares their sizes alone.
        check_hashes: compare them now, whatever is remembered.

    The other arguments are the options of the backend, see `runtimes.backends.backend_options.BackendOptions`.

    Raises:
        InputError: no artifact, a damaged one, an unknown backend, or one that cannot run this artifact.
        MissingDependencyError: the backend's package is not installed.
    """
    options = BackendOptions(
        threads=threads, source=source, allow_cpu_nodes=allow_cpu_nodes, plan=plan, capacity=capacity
    )
    return open_engine(folder, backend, options, verify_hashes=verify_hashes, check_hashes=check_hashes)


def open_engine(
    folder: str | Path,
    backend: str,
    options: BackendOptions,
    *,
    verify_hashes: bool = True,
    check_hashes: bool = False,
) -> Engine:
    """The same as `load`, with the options of the backend as one object."""
    artifact = read_artifact(folder, check_hashes=check_hashes)
    if verify_hashes and not check_hashes:
        verify_once(artifact)
    engine = Engine(artifact, open_artifact(backend, artifact, options))
    if options.can_be_pickled:
        engine._reopen = partial(
            open_engine, backend=backend, options=options.with_absolute_paths(), verify_hashes=verify_hashes
        )
    return engine


class Engine:
    """Generates, chats and scores, or classifies, with one model; use it in a ``with`` block, or close it.

    A prompt given to a model with a chat template is rendered as one user message; ``chat=False`` gives it to the model
    as it is. Tokens are chosen as the model's own settings say, and without any the most likely one is taken (greedy).
    Options are the fields of `SamplingOptions`, given one by one or as ``options``; they go before the settings.

    A model that turns a text into another reads the prompt as it is, and answers with the other text.

    In a forked child it opens the model again when it is first used there, or says that its device cannot follow. A
    pickle or a copy is the artifact opened again, by its path and with the same arguments.
    """

    _reopen: Callable[[Path], Engine] | None = None  # None where another process could not do it

    def __init__(self, artifact: Artifact, backend: Backend | ClassifierBackend) -> None:
        self.artifact = artifact
        self._opened = backend
        facts, codec = artifact.manifest.model, open_codec(artifact.folder)
        self._codec = codec
        self._chat = None if codec is None else open_chat_encoder(artifact.folder, codec, facts)
        settings = {} if artifact.manifest.task == CLASSIFICATION else read_generation_settings(artifact.folder)
        self._settings = checked_settings(settings, facts, artifact.folder)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reopen is None:
            raise engine_errors.not_copied()
        return self._reopen, (self.artifact.folder.absolute(),)

    def __repr__(self) -> str:
        return f"<Engine {self.artifact.folder} on {self._opened.name}>"

    @property
    def backend(self) -> Backend:
        """What generates; raises InputError when the artifact is a classifier."""
        if self.artifact.manifest.task == CLASSIFICATION:
            raise engine_errors.only_classifies(self.artifact)
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

    def _chat_run(self, messages: Sequence[Message], options: SamplingOptions | None, changes: ChatChanges) -> Run:
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
        new_tokens = min(options.max_new_tokens or options.default_new_tokens or DEFAULT_NEW_TOKENS, positions // 2)
        return len(self.message_ids(messages)) + new_tokens <= positions

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
            raise engine_errors.no_scores(self.artifact)
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
        classifier = self.classifier
        rows = self.codec.encode_rows(check_texts(texts), limit=classifier.max_positions, truncate=truncate)
        found = classify_rows(classifier, rows, self.labels)
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
            raise engine_errors.not_token_ids(ids)
        check_ids([found], self.vocab_size)
        return self.codec.decode(found, special_tokens=special_tokens)

    def prompt_ids(self, text: str, *, chat: bool | None = None) -> list[int]:
        """Token ids of a prompt as `generate` would give it to the model; raises InputError for an empty one."""
        check_prompt(text)
        chat = self.has_chat_template and not self._reads_sources if chat is None else chat
        return self.message_ids([{"role": "user", "content": text}]) if chat else self.tokenize(text)

    def message_ids(self, messages: Sequence[Message] | ChatRequest) -> list[int]:
        """Token ids of a conversation; only the template writes special tokens, the messages are plain text."""
        _ = self.codec, self.backend  # either may refuse
        if self._reads_sources:
            raise engine_errors.no_conversation(self.artifact)
        if self._chat is None or self._chat.template is None:
            raise engine_errors.no_chat_template(self.artifact)
        return self._chat.encode(messages)

    @property
    def has_chat_template(self) -> bool:
        return self._chat is not None and self._chat.template is not None

    @property
    def codec(self) -> TextCodec:
        """The tokenizer; raises InputError when the artifact has none."""
        if self._codec is None:
            raise engine_errors.no_tokenizer(self.artifact)
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
            raise engine_errors.not_to_score(text)
        return ids

    @property
    def vocab_size(self) -> int:
        """Token ids that the model takes: those from 0 up to one less."""
        return self.artifact.manifest.model.vocab_size

    @property
    def _reads_sources(self) -> bool:
        return self.artifact.manifest.model.decoder_start is not None

    def _run(self, prompts: Sequence[Sequence[int]], options: SamplingOptions, *, cut: bool = False) -> Run:
        check_ids(prompts, self.backend.vocab_size)
        options = self.completed_options(options)
        facts = self.artifact.manifest.model
        return begin_run(self.backend, prompts, options=options, codec=self._codec, facts=facts, cut=cut)
