"""What a folder's model is for: the class of transformers that loads it, and the kind of model that this is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jisu.exporter.contract.artifact import (
    ANSWERING,
    AUDIO_TEXT,
    CLASSIFICATION,
    EMBEDDING,
    FILLING,
    IMAGE_TEXT,
    MODEL_KINDS,
    ONE_PASS_KINDS,
    SPEECH,
    TAGGING,
    TEXT_TO_TEXT,
    Activation,
    EmbeddingFacts,
    ModelFacts,
    ModelKind,
)
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.rerank_prompt import RerankPrompt
from jisu.exporter.sources.audio_text import audio_text_class
from jisu.exporter.sources.classifier import classifier_class, read_activation, read_labels
from jisu.exporter.sources.embedding.description import (
    POOLING_MODES,
    EmbeddingDescription,
    plain_description,
    read_description,
)
from jisu.exporter.sources.embedding.encoder_class import encoder_class, names_encoder
from jisu.exporter.sources.facts import describe_model, describe_speech, describe_text_to_text
from jisu.exporter.sources.image_text import image_text_class
from jisu.exporter.sources.model import decoder_class, text_to_text_class
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.sources.reranking.answer_tokens import answer_tokens
from jisu.exporter.sources.reranking.description import Reranking, read_reranking
from jisu.exporter.sources.reranking.named_prompts import NAMED_PROMPTS
from jisu.exporter.sources.reranking.options import RerankOptions
from jisu.exporter.sources.reranking.prompt import make_prompt
from jisu.exporter.sources.speech import speech_class
from jisu.exporter.sources.token_heads import ENDS, token_head

# transformers says so of a tokenizer without a longest text.
_NO_LIMIT = 10**9


@dataclass(frozen=True, kw_only=True)
class Head:
    """The use of a model.

    Attributes:
        model_class: of transformers.
        labels: names of the columns of what a model that reads whole texts gives; none where these are words.
        activation: what becomes of a classifier's logits.
        embedding: what follows the encoder of an embedding model.
        reranking: how it scores a query and a document, where that is more than a classifier's reading of a pair.
        prompt: what it is asked about them, made of the tokenizer's template by `with_prompt`.
        labels_frames: whether a model that hears gives each frame a letter, and says no tokens.
    """

    kind: ModelKind
    model_class: Any
    labels: tuple[str, ...] = ()
    activation: Activation = "softmax"
    embedding: EmbeddingDescription | None = None
    reranking: Reranking | None = None
    prompt: RerankPrompt | None = None
    labels_frames: bool = False

    @property
    def generates(self) -> bool:
        return self.kind not in ONE_PASS_KINDS and not self.labels_frames

    @property
    def reads_images(self) -> bool:
        return self.kind == IMAGE_TEXT

    @property
    def reads_recordings(self) -> bool:
        return self.kind == AUDIO_TEXT

    def notes_on_length(self, model: Any) -> list[str]:
        """What is said of a longest text for which the model has no positions."""
        stated = None if self.embedding is None else self.embedding.longest
        if stated is None:
            return []
        positions = describe_model(model, None).max_positions
        if positions is None or stated <= positions:
            return []
        return [f"max_seq_length is {stated}, and the model has {positions} positions: longer texts are refused."]

    def with_prompt(self, tokenizer: Any | None) -> Head:
        """A reranker's head with its prompt, any other as it is; raises InputError for a prompt that cannot be made."""
        return self if self.reranking is None else replace(self, prompt=make_prompt(self.reranking, tokenizer))

    def answer_tokens(self, tokenizer: Any, *, rows: int) -> tuple[int, ...]:
        """Ids of the tokens whose logits are the score; none of a model that has a score of its own."""
        if self.reranking is None or not self.reranking.reads_logits:
            return ()
        return answer_tokens(self.reranking, tokenizer, rows=rows)

    def describe(self, model: Any, tokenizer: Any | None, checkpoint: Path) -> ModelFacts:
        """What is recorded of the model; raises InputError when nothing says what its decoder begins with.

        Args:
            model: of `model_class`, on any device.
        """
        if self.kind == TEXT_TO_TEXT:
            return describe_text_to_text(model, tokenizer, checkpoint)
        if self.kind == SPEECH:
            return describe_speech(model, tokenizer, checkpoint)
        with quiet_transformers():  # some configurations warn of names that they still have
            facts = replace(describe_model(model, tokenizer), labels=self.labels, activation=self.activation)
        if self.kind == FILLING:
            facts = replace(facts, mask=mask_token(tokenizer, facts.vocab_size))
        if self.reranking is not None:
            facts = _describe_reranking(facts, self, self.reranking, tokenizer)
        if self.embedding is None:
            return facts
        return _describe_embedding(facts, self.embedding, model, tokenizer)


def choose_head(
    config: Any,
    checkpoint: Path,
    *,
    described: EmbeddingDescription | Reranking | None = None,
    pooling: str | None = None,
    reranking: RerankOptions | None = None,
    images: bool = True,
    recordings: bool = True,
) -> Head:
    """The head that the configuration names, or none where vectors are wanted.

    Args:
        described: what the folder says of itself as an embedding model or as a reranker.
        pooling: makes an embedding model of a plain encoder.
        reranking: makes a reranker of a plain decoder.
        images: read them, where the model does.
        recordings: the same for sound among the tokens of a text.

    Raises:
        InputError: a model that has no use here, or a pooling where there is none to choose.
    """
    _refuse_two_uses(checkpoint, described, pooling, reranking)
    if isinstance(described, Reranking) or reranking is not None:
        return _reranking_head(config, checkpoint, described, reranking)
    if described is not None or pooling is not None:
        return _embedding_head(config, checkpoint, described, pooling)
    classifier = classifier_class(config)
    if classifier is not None:
        return classifier_head(classifier, config, checkpoint)
    speech = speech_class(config)
    if speech is not None:
        frames = not getattr(config, "is_encoder_decoder", False)
        return Head(kind=SPEECH, model_class=speech, labels_frames=frames)
    text_to_text = text_to_text_class(config)
    if text_to_text is not None:
        return Head(kind=TEXT_TO_TEXT, model_class=text_to_text)
    image_text = image_text_class(config) if images else None
    if image_text is not None:
        return Head(kind=IMAGE_TEXT, model_class=image_text)
    audio_text = audio_text_class(config) if recordings else None
    if audio_text is not None:
        return Head(kind=AUDIO_TEXT, model_class=audio_text)
    per_token = token_head(config)
    if per_token is not None:
        kind, model_class = per_token
        return Head(kind=kind, model_class=model_class, labels=column_names(kind, config, checkpoint))
    if names_encoder(config):
        raise InputError(
            f"{checkpoint} is an encoder without pooling information",
            received=f"{config.architectures[0]}, and no modules.json",
            allowed=f"--pooling {', '.join(POOLING_MODES)}; or a folder of sentence-transformers",
            fix="Pass the --pooling that the model was trained with; its card says which.",
        )
    return Head(kind=MODEL_KINDS[0], model_class=decoder_class(config, checkpoint))


def classifier_head(model_class: Any, config: Any, checkpoint: Path) -> Head:
    """A classifier with its labels and what its logits mean; raises InputError when either is not understood."""
    labels = read_labels(config, checkpoint)
    activation = read_activation(config, checkpoint, labels=len(labels))
    return Head(kind=CLASSIFICATION, model_class=model_class, labels=labels, activation=activation)


def column_names(kind: ModelKind, config: Any, checkpoint: Path) -> tuple[str, ...]:
    """What a row of a token's numbers is called, column by column; nothing where they are the words."""
    if kind == TAGGING:
        return read_labels(config, checkpoint, least=2)
    return ENDS if kind == ANSWERING else ()


def mask_token(tokenizer: Any | None, rows: int) -> int | None:
    """The token that stands for a word to be found; None without one that the model has a row for."""
    token = getattr(tokenizer, "mask_token_id", None)
    return token if isinstance(token, int) and 0 <= token < rows else None


def described_use(folder: Path) -> EmbeddingDescription | Reranking | None:
    """What a folder of sentence-transformers says; None for any other folder."""
    from jisu.exporter.sources.embedding.description import is_embedding_folder

    if not is_embedding_folder(folder):
        return None
    return read_reranking(folder) or read_description(folder)


def _refuse_two_uses(checkpoint: Path, described: object, pooling: str | None, reranking: object) -> None:
    """Raise InputError for options that say what a folder says itself, or that exclude each other."""
    options = [
        *([] if reranking is None else ["--rerank-prompt"]),
        *([] if pooling is None else [f"--pooling {pooling}"]),
    ]
    if len(options) == 2 or (isinstance(described, Reranking) and options) or (described is not None and reranking):
        its_own = "one of them" if described is None else "what the folder says itself, in modules.json"
        raise InputError(
            f"{checkpoint} has one use",
            received=" ".join(options),
            allowed=its_own,
            fix=f"Leave {options[-1].partition(' ')[0]} out.",
        )


def _reranking_head(config: Any, checkpoint: Path, described: object, options: RerankOptions | None) -> Head:
    reranking = described if isinstance(described, Reranking) else Reranking(folder=checkpoint, options=options)
    if reranking.reads_logits:
        activation: Activation = "none"  # the logit of one token alone, as those who train with it use it
        if options is None or _has_two_tokens(options):
            activation = read_activation(config, checkpoint, labels=1)
        return Head(
            kind=CLASSIFICATION,
            model_class=_asked_decoder(config, checkpoint),
            activation=activation,
            reranking=reranking,
        )
    classifier = classifier_class(config)
    if classifier is None:
        raise InputError(
            f"{checkpoint} is no classifier, as modules.json says",
            received=f"{', '.join(config.architectures or [])}",
            allowed="an architecture ...ForSequenceClassification in config.json",
            fix="Correct config.json.",
        )
    return replace(classifier_head(classifier, config, checkpoint), reranking=reranking)


def _asked_decoder(config: Any, checkpoint: Path) -> Any:
    try:
        return decoder_class(config, checkpoint)
    except InputError as error:
        raise InputError(
            f"{checkpoint} is no decoder, which alone can be asked whether a document answers a query",
            received=f"model type '{config.model_type}', {', '.join(config.architectures or ['no architecture'])}",
            allowed="a decoder of texts, with --rerank-prompt or with LogitScore in modules.json",
            fix="Leave --rerank-prompt out for a classifier with one label, which ranks without it.",
        ) from error


def _has_two_tokens(options: RerankOptions) -> bool:
    named = NAMED_PROMPTS.get(options.prompt)
    return (options.no if options.yes is not None or named is None else named.no) is not None


def _describe_reranking(facts: ModelFacts, head: Head, reranking: Reranking, tokenizer: Any | None) -> ModelFacts:
    stated = [facts.max_positions, reranking.longest, getattr(tokenizer, "model_max_length", None)]
    limits = [one for one in stated if isinstance(one, int) and 0 < one < _NO_LIMIT]
    tokens = head.answer_tokens(tokenizer, rows=facts.vocab_size)
    labels = (str(tokenizer.decode(tokens[:1])),) if tokens and tokenizer is not None else facts.labels
    return replace(facts, labels=labels, max_positions=min(limits, default=None), rerank_prompt=head.prompt)


def _embedding_head(config: Any, checkpoint: Path, described: EmbeddingDescription | None, pooling: str | None) -> Head:
    if described is not None and pooling is not None:
        raise InputError(
            f"{checkpoint} says itself how it pools",
            received=f"--pooling {pooling}",
            allowed=f"its own: {', '.join(described.pooling)}",
            fix="Leave --pooling out.",
        )
    description = described or plain_description(checkpoint, str(pooling))
    return Head(kind=EMBEDDING, model_class=encoder_class(config, checkpoint), embedding=description)


def _describe_embedding(
    facts: ModelFacts, described: EmbeddingDescription, model: Any, tokenizer: Any | None
) -> ModelFacts:
    from jisu.exporter.sources.embedding.embedder import dimensions_of, hidden_size, outline_embedder

    embedder = outline_embedder(model, described, hidden=hidden_size(model))
    stated = described.longest
    if stated is None:  # as sentence-transformers does it
        stated = getattr(tokenizer, "model_max_length", None)
    limits = [one for one in (facts.max_positions, stated) if isinstance(one, int) and one > 0]
    return replace(
        facts,
        architecture=type(model).__name__,
        max_positions=min(limits, default=None),
        parameters=sum(parameter.numel() for parameter in embedder.parameters()),
        embedding=EmbeddingFacts(
            dimensions=dimensions_of(embedder, hidden=hidden_size(model)),
            normalized=described.normalized,
            pooling=described.pooling,
            prompts=dict(described.prompts),
            default_prompt=described.default_prompt,
            similarity=described.similarity,
            pools_prompt=described.pools_prompt,
        ),
    )
