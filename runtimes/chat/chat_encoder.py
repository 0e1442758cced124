"""A conversation to token ids: the template writes the control tokens, and what people wrote is only text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from jisu.exporter.contract.artifact import ModelFacts
from jisu.runtimes.chat.chat_template import ChatTemplate, open_chat_template
from jisu.runtimes.chat.control_tokens import ControlTokens, turn_markers
from jisu.runtimes.chat.messages import ChatRequest, Message
from jisu.runtimes.generation.text import TextCodec, read_tokenizer_config, special_token_texts


class ChatEncoder:
    """One artifact's template and tokenizer.

    Args:
        names: texts of control tokens besides those that the tokenizer calls special.
        ids: the same by their ids.
    """

    def __init__(
        self,
        template: ChatTemplate | None,
        tokenizer: Any,
        *,
        names: Iterable[str] = (),
        ids: Iterable[int] = (),
    ) -> None:
        self.template = template
        self._tokenizer = tokenizer
        self._names, self._control_ids = tuple(names), tuple(ids)

    def encode(self, messages: Sequence[Message] | ChatRequest) -> list[int]:
        """Token ids of the prompt that asks for the next message, or for the rest of the last one.

        Raises:
            InputError: as `ChatTemplate.render` and `ControlTokens.encode` do.
        """
        assert self.template is not None, "only a model with a template has conversations"
        return self.controls.encode(self.template.trace(messages, controls=self.controls.texts))

    @cached_property
    def controls(self) -> ControlTokens:
        """The control tokens of this model."""
        turns = "" if self.template is None else self.template.turns()
        return self.controls_with(turn_markers(turns, self._tokenizer))

    def controls_with(self, names: Iterable[str]) -> ControlTokens:
        """The control tokens of this model, and others by their texts."""
        return ControlTokens(self._tokenizer, names=(*self._names, *names), ids=self._control_ids)


def open_chat_encoder(folder: Path, codec: TextCodec, facts: ModelFacts) -> ChatEncoder:
    """The encoder of an artifact; its template is None where the artifact has none."""
    special = special_token_texts(folder)
    config = read_tokenizer_config(folder)
    # A list, or names and texts; either by the one name or the other, as the versions of transformers write it.
    more = [config.get(name) for name in ("additional_special_tokens", "extra_special_tokens")]
    values = [list(several.values()) if isinstance(several, dict) else several for several in more]
    listed = [text for several in values if isinstance(several, list) for text in several if isinstance(text, str)]
    ids = [token for token in (*facts.eos, facts.bos, facts.pad) if token is not None]
    return ChatEncoder(
        open_chat_template(folder),
        codec.tokenizer,
        names=(*special.values(), *listed),
        ids=ids,
    )
