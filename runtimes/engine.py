"""The user's object: an artifact opened on a backend.

It is a front: `runtimes.opening` makes it, `runtimes.model_text` has tokenizer and chat template, `runtimes.generator`
begins answers, and the scores and labels are those of `runtimes.generation` and `runtimes.reading`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from jisu.exporter.contract.artifact import CLASSIFICATION, EMBEDDING, SPEECH, Artifact
from jisu.exporter.contract.backend import Backend
from jisu.exporter.contract.model_uses import does_not_generate, not_of_kind
from jisu.exporter.contract.one_pass_backend import OnePassBackend
from jisu.exporter.contract.speech_backend import SpeechBackend
from jisu.runtimes import engine_errors
from jisu.runtimes.chat.chat_arguments import ChatChanges
from jisu.runtimes.chat.messages import ChatRequest, Message
from jisu.runtimes.generation import DEFAULT_BATCH
from jisu.runtimes.generation.async_run import AsyncTextStream, StepThread, finish_run
from jisu.runtimes.generation.many import OnError, Prompt, PromptResult, check_many
from jisu.runtimes.generation.options import OptionChanges, SamplingOptions, changed_options
from jisu.runtimes.generation.prompts import check_id_prompts, check_prompts, is_listed, token_ids
from jisu.runtimes.generation.result import Result
from jisu.runtimes.generation.runs import Run, all_results
from jisu.runtimes.generation.scoring import TokenScores, score_tokens
from jisu.runtimes.generation.text import TextCodec
from jisu.runtimes.generation.text_stream import TextStream
from jisu.runtimes.generation.turns import Turns
from jisu.runtimes.generator import Generator
from jisu.runtimes.machine.freed_memory import return_freed_memory
from jisu.runtimes.model_text import ModelText
from jisu.runtimes.reading.answering import Answer
from jisu.runtimes.reading.classification import Classification
from jisu.runtimes.reading.embedding import Vectors
from jisu.runtimes.reading.filling import Filling
from jisu.runtimes.reading.pairs import TextPair
from jisu.runtimes.reading.tagging import Aggregation, Tag
from jisu.runtimes.speech.recordings import read_recording
from jisu.runtimes.speech.transcriber import Transcriber
from jisu.runtimes.text_reader import TextReader

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from jisu.runtimes.speech.transcript import Transcript

# A path, samples at the model's rate, or samples and their rate: `runtimes.shown.recording_reader` says more.
Recording = Any
Image = Any  # a path, bytes, an image of Pillow or an array: `runtimes.images.reading.read_image` says which


class Engine:
    """Generates, chats and scores, or reads whole texts, with one model; use it in a ``with`` block, or close it.

    A prompt given to a model with a chat template is rendered as one user message; ``chat=False`` gives it to the model
    as it is. Tokens are chosen as the model's own settings say, and without any the most likely one is taken (greedy).
    Options are the fields of `SamplingOptions`, given one by one or as ``options``; they go before the settings.

    A model that turns a text into another reads the prompt as it is, and answers with the other text.

    Threads may share an engine: their answers take turns, step by step, in the order of asking. An open stream or
    conversation belongs to one thread at a time.

    In a forked child it opens the model again when it is first used there, or says that its device cannot follow. A
    pickle or a copy is the artifact opened again, by its path and with the same arguments.
    """

    def __init__(
        self,
        artifact: Artifact,
        backend: Backend | OnePassBackend | SpeechBackend,
        *,
        reopen: Callable[[Path], Engine] | None = None,
    ) -> None:
        self.artifact = artifact
        self._opened = backend
        self._reopen = reopen  # None where another process could not do it
        self._text = ModelText(artifact)
        self._turns, self.steps = Turns(), StepThread()
        self._reader = TextReader(artifact, backend, self._text, turns=self._turns)
        self._generator: Generator | None = None
        self._transcriber: Transcriber | None = None
        if artifact.manifest.model_kind == SPEECH:
            codec, heard = self._text.optional_codec, cast("SpeechBackend", backend)
            self._transcriber = Transcriber(artifact, heard, codec, turns=self._turns)
        elif not artifact.manifest.reads_whole_texts:
            self._generator = Generator(artifact, cast("Backend", backend), self._text, turns=self._turns)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reopen is None:
            raise engine_errors.not_copied()
        return self._reopen, (self.artifact.folder.absolute(),)

    def __repr__(self) -> str:
        return f"<Engine {self.artifact.folder} on {self._opened.name}>"

    @property
    def backend(self) -> Backend:
        """What generates; raises InputError when the artifact gives no text."""
        return self.generator.backend

    @property
    def generator(self) -> Generator:
        """What begins answers on the backend; raises InputError when the artifact gives no text."""
        if self._generator is None:
            raise does_not_generate(self.artifact)
        return self._generator

    @property
    def classifier(self) -> OnePassBackend:
        """What classifies; raises InputError when the artifact is no classifier."""
        return self._reader.backend(CLASSIFICATION)

    @property
    def one_pass(self) -> OnePassBackend:
        """What reads whole texts, of any kind; raises InputError when the artifact is of a model that does not."""
        kind = self.artifact.manifest.model_kind
        return self._reader.backend(kind if self.artifact.manifest.reads_whole_texts else CLASSIFICATION)

    @property
    def labels(self) -> tuple[str, ...]:
        """A classifier's labels in the order of its logits; none for any other model."""
        return self.artifact.manifest.model.labels

    @property
    def vocab_size(self) -> int:
        """Token ids that the model takes: those from 0 up to one less."""
        return self.artifact.manifest.model.vocab_size

    @overload
    def generate(  # type: ignore[overload-overlap]  # a str is a sequence of str, too; the first one is taken
        self,
        prompt: str,
        *,
        chat: bool | None = None,
        images: Sequence[Image] | None = None,
        audios: Sequence[Recording] | None = None,
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
        images: Sequence[Image] | None = None,
        audios: Sequence[Recording] | None = None,
        options: SamplingOptions | None = None,
        **changes: Unpack[OptionChanges],
    ) -> Result | list[Result]:
        """Answer one prompt, or several of any lengths at once (a list gives a list).

        Args:
            chat: render each prompt as a user message; None does so when the model has a chat template.
            images: of the one prompt, in the order of their marks in it; without marks they come before the text. A
                path, the bytes of a file, an image of Pillow, or uint8 [H, W, 3].
            audios: the same for recordings. A path, samples float32 or int16 at the model's rate, or a pair of samples
                and their rate in Hz.

        Raises:
            InputError: an empty or too long prompt, an option out of range, an image that cannot be read or has no
                mark, or no chat template though one is wanted.
        """
        results = all_results(
            self._begin(check_prompts(prompt), options, changes, chat=chat, images=images, audios=audios)
        )
        return results[0] if isinstance(prompt, str) else results

    def generate_ids(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        options: SamplingOptions | None = None,
        **changes: Unpack[OptionChanges],
    ) -> list[Result]:
        """Continue prompts given as token ids."""
        return all_results(self.generator.begin(check_id_prompts(prompts), changed_options(options, changes)))

    def stream(
        self,
        prompt: str,
        *,
        chat: bool | None = None,
        images: Sequence[Image] | None = None,
        audios: Sequence[Recording] | None = None,
        options: SamplingOptions | None = None,
        **changes: Unpack[OptionChanges],
    ) -> TextStream:
        """Answer one prompt piece by piece; raises as `generate` does, before the first piece."""
        return TextStream(self._begin([prompt], options, changes, chat=chat, images=images, audios=audios))

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
        the rest of the last message, the assistant's), ``drop_oldest``, ``images`` and ``audios``.
        """
        return all_results(self.generator.begin_chat(messages, options, changes))[0]

    def stream_chat(
        self,
        messages: Sequence[Message],
        *,
        options: SamplingOptions | None = None,
        **changes: Unpack[ChatChanges],
    ) -> TextStream:
        """Answer a conversation piece by piece; for the arguments see `chat`."""
        return TextStream(self.generator.begin_chat(messages, options, changes))

    @overload
    async def agenerate(  # type: ignore[overload-overlap]  # as `generate`
        self,
        prompt: str,
        *,
        chat: bool | None = None,
        images: Sequence[Image] | None = None,
        audios: Sequence[Recording] | None = None,
        options: SamplingOptions | None = None,
        **changes: Unpack[OptionChanges],
    ) -> Result: ...

    @overload
    async def agenerate(
        self,
        prompt: Sequence[str],
        *,
        chat: bool | None = None,
        options: SamplingOptions | None = None,
        **changes: Unpack[OptionChanges],
    ) -> list[Result]: ...

    async def agenerate(
        self,
        prompt: str | Sequence[str],
        *,
        chat: bool | None = None,
        images: Sequence[Image] | None = None,
        audios: Sequence[Recording] | None = None,
        options: SamplingOptions | None = None,
        **changes: Unpack[OptionChanges],
    ) -> Result | list[Result]:
        """The same as `generate`, for code in an event loop, which goes on meanwhile.

        Each step is computed in a thread of the engine's own; a cancelled task computes no further.
        """
        results = await finish_run(
            self.steps,
            lambda: self._begin(check_prompts(prompt), options, changes, chat=chat, images=images, audios=audios),
        )
        return results[0] if isinstance(prompt, str) else results

    def astream(
        self,
        prompt: str,
        *,
        chat: bool | None = None,
        images: Sequence[Image] | None = None,
        audios: Sequence[Recording] | None = None,
        options: SamplingOptions | None = None,
        **changes: Unpack[OptionChanges],
    ) -> AsyncTextStream:
        """Answer one prompt piece by piece, for ``async for``; raises as `generate` does, with the first piece."""
        return AsyncTextStream(
            self.steps, lambda: self._begin([prompt], options, changes, chat=chat, images=images, audios=audios)
        )

    async def achat(
        self,
        messages: Sequence[Message],
        *,
        options: SamplingOptions | None = None,
        **changes: Unpack[ChatChanges],
    ) -> Result:
        """The same as `chat`, for code in an event loop; see `agenerate`."""
        results = await finish_run(self.steps, lambda: self.generator.begin_chat(messages, options, changes))
        return results[0]

    def astream_chat(
        self,
        messages: Sequence[Message],
        *,
        options: SamplingOptions | None = None,
        **changes: Unpack[ChatChanges],
    ) -> AsyncTextStream:
        """Answer a conversation piece by piece, for ``async for``; for the arguments see `chat`."""
        return AsyncTextStream(self.steps, lambda: self.generator.begin_chat(messages, options, changes))

    def generate_many(
        self,
        prompts: Iterable[str | Prompt],
        *,
        batch_size: int = DEFAULT_BATCH,
        in_order: bool = False,
        on_error: OnError = "raise",
        progress: Callable[[int], object] | None = None,
        chat: bool | None = None,
        options: SamplingOptions | None = None,
        **changes: Unpack[OptionChanges],
    ) -> Iterator[PromptResult]:
        """Answer any number of prompts in batches of like lengths; yields each answer as it ends.

        Prompts are read ``16 * batch_size`` ahead, so that an endless source is fine. An answer does not depend on the
        batch that it was in, and its seed repeats it alone.

        Args:
            prompts: texts, or `Prompt` for conversations and seeds.
            batch_size: rows computed at once, at most; each takes memory for its prompt and its answer.
            in_order: yield answers in the order of the prompts.
            on_error: "raise" ends with the first prompt that cannot be answered, "yield" goes on and names its error.
            progress: called with the number of prompts that are through.
            chat: as for `generate`.

        Raises:
            InputError: an option out of range, or a prompt that cannot be answered.
        """
        check_many(prompts, batch_size=batch_size, on_error=on_error)
        return self.generator.answer_many(
            prompts,
            changed_options(options, changes),
            chat=chat,
            batch_size=batch_size,
            in_order=in_order,
            on_error=on_error,
            progress=progress,
        )

    def has_room(self, messages: Sequence[Message] | ChatRequest, options: SamplingOptions) -> bool:
        """Whether a conversation leaves positions for the answer: half of them have to be enough for it."""
        return self.generator.has_room(messages, options)

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
        backend = self.backend
        if self._text.reads_sources:
            raise engine_errors.no_scores(self.artifact)
        alone = isinstance(texts, str) or bool(token_ids(texts))
        sequences = [self._text.ids_to_score(text) for text in (texts if is_listed(texts) and not alone else [texts])]
        with self._turns:
            scores = score_tokens(backend, sequences)
        return scores[0] if alone else scores

    @overload
    def classify(  # type: ignore[overload-overlap]  # a str is a sequence of str, too; the first one is taken
        self, texts: str, *, truncate: bool = False
    ) -> Classification: ...

    @overload
    def classify(self, texts: Sequence[str | TextPair], *, truncate: bool = False) -> list[Classification]: ...

    def classify(
        self, texts: str | Sequence[str | TextPair], *, truncate: bool = False
    ) -> Classification | list[Classification]:
        """Give a text its label, or each of several texts of any lengths (a list gives a list).

        In a list two texts in a tuple are a pair, such as a premise and a hypothesis, which the model reads as one.

        Args:
            truncate: cut a text that is too long for the model off at its end, and of a pair the longer one first,
                instead of refusing it.

        Raises:
            InputError: no text, an empty or a too long one, or a model that does not classify.
        """
        labelled = self._reader.classify(texts, truncate=truncate)
        return labelled[0] if isinstance(texts, str) else labelled

    def classify_ids(self, rows: Sequence[Sequence[int]]) -> list[Classification]:
        """Give texts that are lists of token ids, special tokens included, their labels."""
        return self._reader.classify_ids(rows)

    def rerank(
        self,
        query: str,
        documents: Iterable[str],
        *,
        top: int | None = None,
        truncate: bool = False,
        instruction: str | None = None,
    ) -> list[tuple[int, float]]:
        """Put documents into the order in which they answer a query: (index, score) of each, the best first.

        Args:
            documents: of any number; only some at a time are held, and a score of each.
            top: return the best of them only.
            truncate: shorten what is too long for the model, the longer text first, instead of refusing it; of a
                prompt only the document.
            instruction: what the model is told to look for, where its prompt has a place for it; its own when None.

        Raises:
            InputError: an empty query or document, no document, one that is too long, or a model without one score.
        """
        return self._reader.rerank(query, documents, top=top, truncate=truncate, instruction=instruction)

    @overload
    def tag(  # type: ignore[overload-overlap]  # a str is a sequence of str, too; the first one is taken
        self,
        texts: str,
        *,
        aggregation: Aggregation = "simple",
        ignore_labels: Collection[str] = ("O",),
        truncate: bool = False,
        stride: int | None = None,
        window: int | None = None,
    ) -> list[Tag]: ...

    @overload
    def tag(
        self,
        texts: Sequence[str],
        *,
        aggregation: Aggregation = "simple",
        ignore_labels: Collection[str] = ("O",),
        truncate: bool = False,
        stride: int | None = None,
        window: int | None = None,
    ) -> list[list[Tag]]: ...

    def tag(
        self,
        texts: str | Sequence[str],
        *,
        aggregation: Aggregation = "simple",
        ignore_labels: Collection[str] = ("O",),
        truncate: bool = False,
        stride: int | None = None,
        window: int | None = None,
    ) -> list[Tag] | list[list[Tag]]:
        """Find the names, or the words of each kind, in one text or in each of several.

        Args:
            aggregation: what becomes of a word of several tokens. "none" gives every token; "simple" merges neighbours
                of one label; "first", "average" and "max" do so after giving a word the label of its first token, of
                the mean of its tokens, or of the surest one.
            ignore_labels: labels that are left out.
            truncate: cut a text that is too long for the model off at its end, instead of refusing it.
            stride: read a text of any length, in windows that share so many tokens; of what two windows find in one
                place the longer counts, or the surer.
            window: tokens of each, special ones included; as many as the model reads when None.

        Raises:
            InputError: no text, an empty or a too long one, an unknown label, or a model that does not tag.
        """
        tags = self._reader.tag(
            texts,
            aggregation=aggregation,
            ignore_labels=ignore_labels,
            truncate=truncate,
            stride=stride,
            window=window,
        )
        return tags[0] if isinstance(texts, str) else tags

    @overload
    def fill(  # type: ignore[overload-overlap]  # a str is a sequence of str, too; the first one is taken
        self, texts: str, *, top_k: int = 5, truncate: bool = False
    ) -> list[list[Filling]]: ...

    @overload
    def fill(self, texts: Sequence[str], *, top_k: int = 5, truncate: bool = False) -> list[list[list[Filling]]]: ...

    def fill(
        self, texts: str | Sequence[str], *, top_k: int = 5, truncate: bool = False
    ) -> list[list[Filling]] | list[list[list[Filling]]]:
        """Find words for the masked places of one text, or of each of several.

        Args:
            top_k: words for each place.
            truncate: cut a text that is too long for the model off at its end, instead of refusing it.

        Returns:
            For each masked place of a text, in their order, its words, the likeliest first.

        Raises:
            InputError: no text, one that is empty, too long or without a masked place, or a model that fills none.
        """
        filled = self._reader.fill(texts, top_k=top_k, truncate=truncate)
        return filled[0] if isinstance(texts, str) else filled

    def answer(
        self,
        question: str,
        context: str,
        *,
        top_k: int = 1,
        window: int = 384,
        stride: int = 128,
        max_answer_tokens: int = 15,
        may_be_none: bool = False,
    ) -> list[Answer]:
        """Find the answer to a question in a text of any length.

        Args:
            top_k: answers, the best first.
            window: tokens that the model reads at once, the question among them; fewer where it has no room for them.
            stride: tokens that a window shares with the one before it.
            max_answer_tokens: tokens of an answer.
            may_be_none: let an empty answer be among the answers, with the probability that there is none.

        Raises:
            InputError: an empty text, a question that leaves no room, or a model that finds no answers.
        """
        return self._reader.answer(
            question,
            context,
            top_k=top_k,
            window=window,
            stride=stride,
            max_answer_tokens=max_answer_tokens,
            may_be_none=may_be_none,
        )

    def embed(
        self,
        texts: str | Sequence[str],
        *,
        prompt: str | None = None,
        dimensions: int | None = None,
        normalize: bool | None = None,
        truncate: bool = False,
    ) -> Vectors:
        """A vector for each text: float32 [N, D] in the order of the texts, [1, D] for one text.

        Args:
            prompt: name of a prompt of the model's that goes before each text, such as "query"; the model's default one
                when None.
            dimensions: keep so many numbers of each vector, the first ones (Matryoshka embeddings).
            normalize: give each vector length 1; None does what the model does.
            truncate: cut a text that is too long for the model off at its end, instead of refusing it.

        Raises:
            InputError: no text, an empty or a too long one, an unknown prompt, or a model that gives no vectors.
        """
        return self._reader.embed(texts, prompt=prompt, dimensions=dimensions, normalize=normalize, truncate=truncate)

    def embed_ids(self, rows: Sequence[Sequence[int]]) -> Vectors:
        """Vectors of texts that are lists of token ids, special tokens and prompt included; float32 [N, D]."""
        return self._reader.embed_ids(rows)

    @property
    def dimensions(self) -> int:
        """Numbers in a vector of an embedding model; raises InputError for a model that gives none."""
        return self._reader.backend(EMBEDDING).columns

    @property
    def prompts(self) -> Mapping[str, str]:
        """What an embedding model puts before texts, by name; raises InputError for a model that gives no vectors."""
        return dict(self._reader.embedding.prompts)

    @property
    def transcriber(self) -> Transcriber:
        """What writes recordings down; raises InputError when the artifact does not hear."""
        if self._transcriber is None:
            raise not_of_kind(self.artifact, SPEECH)
        return self._transcriber

    def transcribe(
        self,
        audio: Any,
        *,
        sampling_rate: int | None = None,
        language: str | None = None,
        translate: bool = False,
        timestamps: bool = False,
        num_beams: int | None = None,
    ) -> Transcript:
        """Write down what is said in a recording, of a few words or of hours.

        Args:
            audio: path of a WAV file (other formats with the extra ``audio``), or samples, float32 or int16, [samples]
                or [samples, channels].
            sampling_rate: of samples, in Hz; the model's own when None.
            language: its code, such as ``en``; None finds it out, or follows the model's settings.
            translate: into English, instead of writing down the words as they are said.
            timestamps: tell when each segment was said; a recording longer than the model's window always does.
            num_beams: 2 or more follows that many answers at once; None follows the model's settings.

        Raises:
            InputError: no audio, nothing in it, an unknown language, or a model that does not hear.
            MissingDependencyError: a format or a sampling rate that needs the extra ``audio``.
        """
        transcriber = self.transcriber
        rate = transcriber.settings.sampling_rate
        samples = read_recording(audio, sampling_rate=sampling_rate, model_rate=rate)
        return transcriber.transcribe(
            samples, language=language, translate=translate, timestamps=timestamps, num_beams=num_beams
        )

    def count_tokens(self, prompt: str | Sequence[Message], *, chat: bool | None = None) -> int:
        """How many tokens the model reads for a prompt or a conversation, its chat template's included.

        Args:
            chat: as for `generate`; False counts the text as it is.
        """
        return len(self.prompt_ids(prompt, chat=chat) if isinstance(prompt, str) else self.message_ids(prompt))

    @property
    def context_length(self) -> int | None:
        """How many tokens a prompt and its answer may have together; None where the model knows no end."""
        positions: int | None = getattr(self._opened, "max_positions", None)
        return positions

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
        return self._text.decode(ids, special_tokens=special_tokens)

    def prompt_ids(self, text: str, *, chat: bool | None = None) -> list[int]:
        """Token ids of a prompt as `generate` would give it to the model; raises InputError for an empty one."""
        return self._text.prompt_ids(text, chat=chat)

    def message_ids(self, messages: Sequence[Message] | ChatRequest) -> list[int]:
        """Token ids of a conversation; only the template writes special tokens, the messages are plain text."""
        return self._text.message_ids(messages)

    @property
    def has_chat_template(self) -> bool:
        return self._text.has_chat_template

    @property
    def codec(self) -> TextCodec:
        """The tokenizer; raises InputError when the artifact has none."""
        return self._text.codec

    @property
    def generation_settings(self) -> dict[str, Any]:
        """What the model's own settings say where no option does, under the names of transformers."""
        return {} if self._generator is None else dict(self._generator.settings)

    def completed_options(self, options: SamplingOptions, *, searches: bool = True) -> SamplingOptions:
        """Options that say all of what is done, with the model's own settings where nothing was given.

        Args:
            searches: whether beams of the model's settings are possible.

        Raises:
            InputError: something that nothing would read, or options that do not go together.
        """
        return self.generator.completed_options(options, searches=searches)

    def close(self) -> None:
        """Give back the memory of the model and of all its states, whoever holds them; safe to call twice.

        It waits for a step that another thread is computing; answers that are open then end with an InputError.
        """
        self.steps.close()
        with self._turns:
            self._opened.close()
        return_freed_memory()

    def _begin(
        self,
        prompts: Sequence[str],
        options: SamplingOptions | None,
        changes: OptionChanges,
        *,
        chat: bool | None,
        images: Sequence[Image] | None = None,
        audios: Sequence[Recording] | None = None,
    ) -> Run:
        shown = self.generator.shown(images=images, recordings=audios)
        if shown is None:
            ids = [self.prompt_ids(text, chat=chat) for text in prompts]
            return self.generator.begin(check_id_prompts(ids), changed_options(options, changes))
        if len(prompts) != 1:
            raise engine_errors.beside_one_prompt(len(prompts))
        reader, several = shown
        chosen = changed_options(options, changes)
        with self._turns:
            prompt = reader.prompt(prompts[0], several, chat=chat)
        return self.generator.begin([prompt.token_ids], chosen, images=[prompt])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
