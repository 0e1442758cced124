"""Begins answers: options completed by the model's own settings, prompts checked, conversations cut to what fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from jisu.exporter.contract.artifact import AUDIO_TEXT, IMAGE_TEXT, Artifact
from jisu.exporter.contract.backend import Backend
from jisu.exporter.contract.generation_settings import read_generation_settings
from jisu.exporter.contract.image_prompt import ImageBackend, ImagePrompt, RecordingBackend
from jisu.runtimes.backends.token_ids import check_ids
from jisu.runtimes.chat.chat_arguments import ChatChanges, drop_oldest_turns, split_changes
from jisu.runtimes.chat.messages import ChatRequest, Message
from jisu.runtimes.engine_errors import beside_texts_stay, one_kind_beside_texts, reads_none
from jisu.runtimes.generation.many import OnError, Prompt, PromptResult, answer_many
from jisu.runtimes.generation.model_defaults import checked_settings, complete_options
from jisu.runtimes.generation.options import DEFAULT_NEW_TOKENS, SamplingOptions, changed_options
from jisu.runtimes.generation.runs import Run, begin_run
from jisu.runtimes.generation.turns import Turns
from jisu.runtimes.model_text import ModelText
from jisu.runtimes.shown.image_reader import ImageReader, WithImages
from jisu.runtimes.shown.marked_prompts import listed
from jisu.runtimes.shown.recording_reader import RecordingReader, listed_recordings


class Generator:
    """A model that generates: its backend, its texts and its own settings.

    A run answers as it is iterated; what it has so far is in its ``results()``. Its calls of the backend take turns
    with those of other threads.
    """

    def __init__(self, artifact: Artifact, backend: Backend, text: ModelText, *, turns: Turns | None = None) -> None:
        self.backend = backend
        self.turns = turns or Turns()
        self._text = text
        self._artifact, self._facts = artifact, artifact.manifest.model
        # What reads marks in prompts, of a model that has some.
        self.beside: ImageReader | RecordingReader | None = None
        if artifact.manifest.model_kind == IMAGE_TEXT and isinstance(backend, ImageBackend):
            self.beside = ImageReader(artifact, backend, text)
        elif artifact.manifest.model_kind == AUDIO_TEXT and isinstance(backend, RecordingBackend):
            self.beside = RecordingReader(artifact, backend, text)
        self.settings: dict[str, Any] = checked_settings(
            read_generation_settings(artifact.folder), self._facts, artifact.folder
        )

    def begin(
        self,
        prompts: Sequence[Sequence[int]],
        options: SamplingOptions,
        *,
        cut: bool = False,
        seeds: Sequence[int | None] | None = None,
        images: Sequence[ImagePrompt] | None = None,
    ) -> Run:
        """Begin to answer prompts of token ids.

        Args:
            cut: shorten an answer that there is no room for, instead of refusing it.
            seeds: of each answer; None makes them from the options' seed.
            images: the prompts with their images or recordings, where they have some.
        """
        check_ids(prompts, self.backend.vocab_size)
        backend = self.backend
        if images is not None:
            assert self.beside is not None, "the caller has read the images with it"
            backend = WithImages(self.beside.backend, images)
        elif self.beside is not None:
            for prompt in prompts:
                self.beside.check_without(prompt)
        return begin_run(
            backend,
            prompts,
            options=self.completed_options(options),
            codec=self._text.optional_codec,
            facts=self._facts,
            cut=cut,
            seeds=seeds,
            turns=self.turns,
        )

    def shown(
        self, *, images: Sequence[Any] | None, recordings: Sequence[Any] | None
    ) -> tuple[ImageReader | RecordingReader, Sequence[Any]] | None:
        """Who reads what is shown beside a text, and the list of it; None where nothing is.

        Raises:
            InputError: images and recordings at once, or what this model does not read.
        """
        if images is not None and recordings is not None:
            raise one_kind_beside_texts()
        if images is not None:
            if not isinstance(self.beside, ImageReader):
                raise reads_none(self._artifact, what="images", kind=IMAGE_TEXT)
            several = listed(images)
            return (self.beside, several) if len(several) else None
        if recordings is not None:
            if not isinstance(self.beside, RecordingReader):
                raise reads_none(self._artifact, what="recordings", kind=AUDIO_TEXT)
            several = listed_recordings(recordings)
            return (self.beside, several) if len(several) else None
        return None

    def begin_chat(self, messages: Sequence[Message], options: SamplingOptions | None, changes: ChatChanges) -> Run:
        """Begin to answer a conversation, without its oldest turns where they may be dropped and have to be."""
        request, drops, rest = split_changes(messages, changes)
        chosen = changed_options(options, rest)
        shown = self.shown(images=changes.get("images"), recordings=changes.get("audios"))
        if shown is not None:
            reader, several = shown
            if drops:
                raise beside_texts_stay()
            with self.turns:
                prompt = reader.expanded(self._text.message_ids(request), several)
            return self.begin([prompt.token_ids], chosen, cut=True, images=[prompt])
        if drops:
            kept = drop_oldest_turns(messages, lambda some: self.has_room(replace(request, messages=some), chosen))
            request = replace(request, messages=kept)
        return self.begin([self._text.message_ids(request)], chosen, cut=True)

    def answer_many(
        self,
        prompts: Iterable[str | Prompt],
        options: SamplingOptions,
        *,
        chat: bool | None,
        batch_size: int,
        in_order: bool,
        on_error: OnError,
        progress: Callable[[int], object] | None,
    ) -> Iterator[PromptResult]:
        """See `Engine.generate_many`."""
        completed = self.completed_options(options).with_seed()

        def encode(prompt: str | Prompt) -> list[int]:
            if not isinstance(prompt, Prompt):
                return self._text.prompt_ids(prompt, chat=chat)
            if prompt.messages is not None:
                return self._text.message_ids(prompt.messages)
            return self._text.prompt_ids(prompt.text or "", chat=chat)

        return answer_many(
            prompts,
            encode=encode,
            begin=lambda rows, seeds: self.begin(rows, options, seeds=seeds),
            seed=None if completed.is_greedy else completed.seed,
            batch_size=batch_size,
            in_order=in_order,
            on_error=on_error,
            progress=progress,
        )

    def has_room(self, messages: Sequence[Message] | ChatRequest, options: SamplingOptions) -> bool:
        """Whether a conversation leaves positions for the answer: half of them have to be enough for it."""
        positions = self.backend.max_positions
        if positions is None:
            return True
        options = self.completed_options(options)
        new_tokens = min(options.max_new_tokens or options.default_new_tokens or DEFAULT_NEW_TOKENS, positions // 2)
        return len(self._text.message_ids(messages)) + new_tokens <= positions

    def completed_options(self, options: SamplingOptions, *, searches: bool = True) -> SamplingOptions:
        """Options that leave nothing open; ``searches`` says whether beams of the model's settings are possible."""
        return complete_options(options, self.settings, searches=searches)
