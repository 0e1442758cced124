"""Begins answers: options completed by the model's own settings, prompts checked, conversations cut to what fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.backend import Backend
from jisu.exporter.contract.generation_settings import read_generation_settings
from jisu.runtimes.backends.token_ids import check_ids
from jisu.runtimes.chat.chat_arguments import ChatChanges, drop_oldest_turns, split_changes
from jisu.runtimes.chat.messages import ChatRequest, Message
from jisu.runtimes.generation.model_defaults import checked_settings, complete_options
from jisu.runtimes.generation.options import DEFAULT_NEW_TOKENS, SamplingOptions, changed_options
from jisu.runtimes.generation.runs import Run, begin_run
from jisu.runtimes.model_text import ModelText


class Generator:
    """A model that generates: its backend, its texts and its own settings.

    A run answers as it is iterated; what it has so far is in its ``results()``.
    """

    def __init__(self, artifact: Artifact, backend: Backend, text: ModelText) -> None:
        self.backend = backend
        self._text = text
        self._facts = artifact.manifest.model
        self.settings: dict[str, Any] = checked_settings(
            read_generation_settings(artifact.folder), self._facts, artifact.folder
        )

    def begin(self, prompts: Sequence[Sequence[int]], options: SamplingOptions, *, cut: bool = False) -> Run:
        """Begin to answer prompts of token ids; ``cut`` shortens an answer that there is no room for."""
        check_ids(prompts, self.backend.vocab_size)
        return begin_run(
            self.backend,
            prompts,
            options=self.completed_options(options),
            codec=self._text.optional_codec,
            facts=self._facts,
            cut=cut,
        )

    def begin_chat(self, messages: Sequence[Message], options: SamplingOptions | None, changes: ChatChanges) -> Run:
        """Begin to answer a conversation, without its oldest turns where they may be dropped and have to be."""
        request, drops, rest = split_changes(messages, changes)
        chosen = changed_options(options, rest)
        if drops:
            kept = drop_oldest_turns(messages, lambda some: self.has_room(replace(request, messages=some), chosen))
            request = replace(request, messages=kept)
        return self.begin([self._text.message_ids(request)], chosen, cut=True)

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
