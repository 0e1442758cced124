"""The texts of one model: token ids of prompts, conversations and texts, and the text of token ids.

It knows the tokenizer, the chat template and what the manifest says of the model; it runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from jisu.exporter.contract.artifact import SPEECH, Artifact
from jisu.exporter.contract.model_uses import does_not_generate
from jisu.runtimes import engine_errors
from jisu.runtimes.backends.token_ids import check_ids
from jisu.runtimes.chat.chat_encoder import open_chat_encoder
from jisu.runtimes.chat.control_tokens import ControlTokens, turn_markers
from jisu.runtimes.chat.messages import ChatRequest, Message
from jisu.runtimes.chat.shown_parts import check_shown_parts
from jisu.runtimes.generation.prompts import check_prompt, token_ids
from jisu.runtimes.generation.text import TextCodec, open_codec


class ModelText:
    """Tokenizer and chat template of an artifact; either may be missing, and what needs it is then an InputError."""

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact
        self.optional_codec = open_codec(artifact.folder)  # None without a tokenizer
        encoder = None
        if self.optional_codec is not None:
            encoder = open_chat_encoder(artifact.folder, self.optional_codec, artifact.manifest.model)
        self._encoder = encoder
        self._chat = None if encoder is None or encoder.template is None else encoder

    @property
    def codec(self) -> TextCodec:
        if self.optional_codec is None:
            raise engine_errors.no_tokenizer(self._artifact)
        return self.optional_codec

    def controls_beside(self, text: str) -> ControlTokens:
        """The control tokens of the tokenizer, and those besides that a text of the model's own is written with."""
        encoder, tokenizer = self._encoder, self.codec.tokenizer
        assert encoder is not None, "there is one beside a tokenizer"
        return encoder.controls_with(turn_markers(text, tokenizer))

    @property
    def has_chat_template(self) -> bool:
        return self._chat is not None

    @property
    def reads_sources(self) -> bool:
        """Whether the model turns a text into another, so that its prompt is a source and no beginning."""
        return self._artifact.manifest.model.decoder_start is not None

    def encode(self, text: str) -> list[int]:
        """Token ids of a text as it is, with the tokenizer's own special tokens."""
        return self.codec.encode(text, special_tokens=True)

    def prompt_ids(self, text: str, *, chat: bool | None) -> list[int]:
        """Token ids of a prompt, as one user message if ``chat``; None does so when there is a template for it."""
        check_prompt(text)
        chat = self.has_chat_template and not self.reads_sources if chat is None else chat
        return self.message_ids([{"role": "user", "content": text}]) if chat else self.encode(text)

    def message_ids(self, messages: Sequence[Message] | ChatRequest) -> list[int]:
        """Token ids of a conversation; only the template writes special tokens, the messages are plain text."""
        _ = self.codec  # it may refuse
        if self._artifact.manifest.reads_whole_texts or self._artifact.manifest.model_kind == SPEECH:
            raise does_not_generate(self._artifact)
        if self.reads_sources:
            raise engine_errors.no_conversation(self._artifact)
        if self._chat is None:
            raise engine_errors.no_chat_template(self._artifact)
        check_shown_parts(messages, self._artifact.manifest.model_kind)
        return self._chat.encode(messages)

    def ids_to_score(self, text: object) -> list[int]:
        """Token ids of a text with the tokenizer's special tokens, or of a list of ids itself."""
        ids = self.encode(text) if isinstance(text, str) else token_ids(text)
        if ids is None:
            raise engine_errors.not_to_score(text)
        return ids

    def decode(self, ids: Sequence[int], *, special_tokens: bool) -> str:
        """The text of token ids, which are checked."""
        checked = token_ids(ids)
        if checked is None:
            raise engine_errors.not_token_ids(ids)
        check_ids([checked], self._artifact.manifest.model.vocab_size)
        return self.codec.decode(checked, special_tokens=special_tokens)
