"""What an engine does with a model that reads whole texts: labels, ranks, vectors, tags, masked words, answers.

Texts are checked and encoded here; what is made of the numbers is in `runtimes.reading`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from jisu.exporter.contract.artifact import (
    ANSWERING,
    CLASSIFICATION,
    EMBEDDING,
    FILLING,
    TAGGING,
    Artifact,
    EmbeddingFacts,
    ModelKind,
)
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.model_uses import not_of_kind
from jisu.exporter.contract.one_pass_backend import OnePassBackend
from jisu.runtimes.generation.prompts import check_id_prompts
from jisu.runtimes.generation.text import TextCodec, special_token_texts
from jisu.runtimes.generation.turns import Turns
from jisu.runtimes.model_text import ModelText
from jisu.runtimes.reading.answering import Answer, best_answers, encode_windows
from jisu.runtimes.reading.classification import Classification, classify_rows, read_logits, scores_of
from jisu.runtimes.reading.embedding import Vectors, embed_rows, prompt_text, shortened
from jisu.runtimes.reading.filling import Filling, check_count, check_masked, fillings_of
from jisu.runtimes.reading.pairs import TextPair, encode_texts
from jisu.runtimes.reading.ranking import Ranked, blocks_of, check_query, ranked
from jisu.runtimes.reading.tagging import Tag, check_aggregation, check_ignored, tags_of
from jisu.runtimes.reading.texts import check_texts, check_texts_or_pairs
from jisu.runtimes.reading.token_rows import token_rows


class TextReader:
    """The texts of one opened model; every method raises InputError when the model is of another kind."""

    def __init__(self, artifact: Artifact, backend: Any, text: ModelText, *, turns: Turns) -> None:
        self._artifact = artifact
        self._opened = backend
        self._text = text
        self._turns = turns

    def backend(self, kind: ModelKind) -> OnePassBackend:
        """The opened model, when it is of this kind."""
        if self._artifact.manifest.model_kind != kind:
            raise not_of_kind(self._artifact, kind)
        backend: OnePassBackend = self._opened
        return backend

    @property
    def _codec(self) -> TextCodec:
        return self._text.codec

    @property
    def _facts(self) -> Any:
        return self._artifact.manifest.model

    def classify(self, texts: object, *, truncate: bool) -> list[Classification]:
        classifier = self.backend(CLASSIFICATION)
        made = encode_texts(self._codec, check_texts_or_pairs(texts), limit=classifier.max_positions, truncate=truncate)
        with self._turns:
            return classify_rows(
                classifier, made.rows, self._facts.labels, types=made.types, activation=self._facts.activation
            )

    def classify_ids(self, rows: Sequence[Sequence[int]]) -> list[Classification]:
        classifier, facts = self.backend(CLASSIFICATION), self._facts
        with self._turns:
            return classify_rows(classifier, check_id_prompts(rows), facts.labels, activation=facts.activation)

    def rerank(self, query: object, documents: Iterable[str], *, top: int | None, truncate: bool) -> Ranked:
        ranker = self.backend(CLASSIFICATION)
        if ranker.columns != 1:
            raise InputError(
                f"{self._artifact.folder} does not rank documents",
                received=f"a classifier with the labels {', '.join(self._facts.labels)}",
                allowed="a model with one score for a query and a document",
                fix="Use it with `jisu classify`, or Engine.classify.",
            )
        checked_query = check_query(query)
        ranked([], top=top)  # refuses what it cannot be
        scores: list[float] = []
        for block in blocks_of(documents):
            pairs: list[str | TextPair] = [(checked_query, document) for document in block]
            made = encode_texts(self._codec, pairs, limit=ranker.max_positions, truncate=truncate, first=len(scores))
            with self._turns:
                logits = read_logits(ranker, made.rows, made.types)
            scores += scores_of(logits, self._facts.activation)[:, 0].tolist()
        return ranked(scores, top=top)

    @property
    def embedding(self) -> EmbeddingFacts:
        """What belongs to the model's vectors."""
        self.backend(EMBEDDING)
        facts: EmbeddingFacts | None = self._facts.embedding
        assert facts is not None, "reading the manifest has seen to it"
        return facts

    def embed(
        self, texts: object, *, prompt: str | None, dimensions: int | None, normalize: bool | None, truncate: bool
    ) -> Vectors:
        facts, backend = self.embedding, self.backend(EMBEDDING)
        before = prompt_text(facts, prompt)
        whole = [before + text for text in check_texts(texts)]
        rows = self._codec.encode_rows(whole, limit=backend.max_positions, truncate=truncate)
        with self._turns:
            vectors = embed_rows(backend, rows)
        return shortened(vectors, facts, dimensions=dimensions, normalize=normalize)

    def embed_ids(self, rows: Sequence[Sequence[int]]) -> Vectors:
        backend = self.backend(EMBEDDING)
        with self._turns:
            return embed_rows(backend, check_id_prompts(rows))

    def tag(
        self, texts: object, *, aggregation: str, ignore_labels: Collection[str], truncate: bool
    ) -> list[list[Tag]]:
        tagger, codec = self.backend(TAGGING), self._codec
        way, ignored = check_aggregation(aggregation), check_ignored(ignore_labels, self._facts.labels)
        checked = check_texts(texts)
        rows = codec.encode_rows(checked, limit=tagger.max_positions, truncate=truncate)
        results: list[list[Tag]] = [[] for _ in rows]
        unknown = self._special("unk_token")
        with self._turns:
            for index, logits in token_rows(tagger, rows):
                results[index] = tags_of(
                    codec.encoding(checked[index], limit=len(rows[index])),
                    checked[index],
                    logits,
                    tokenizer=codec.tokenizer,
                    unknown=unknown,
                    labels=self._facts.labels,
                    aggregation=way,
                    ignored=ignored,
                )
        return results

    def fill(self, texts: object, *, top_k: int, truncate: bool) -> list[list[list[Filling]]]:
        filler, codec, mask = self.backend(FILLING), self._codec, self._facts.mask
        if mask is None:
            raise InputError(
                f"The tokenizer of {self._artifact.folder} has no token that stands for a word to be filled in",
                received="no mask_token",
                allowed="a tokenizer with the mask_token that the model was trained with",
                fix="Add it to the checkpoint's tokenizer_config.json, and export again.",
            )
        check_count(top_k, most=filler.columns, name="top_k")
        rows = codec.encode_rows(check_texts(texts), limit=filler.max_positions, truncate=truncate)
        spelled = codec.decode([mask], special_tokens=True)
        places = [check_masked(row, mask=mask, spelled=spelled, number=number) for number, row in enumerate(rows)]
        results: list[list[list[Filling]]] = [[] for _ in rows]
        with self._turns:
            for index, logits in token_rows(filler, rows):
                results[index] = fillings_of(rows[index], logits, places[index], top_k=top_k, codec=codec)
        return results

    def answer(
        self,
        question: object,
        context: object,
        *,
        top_k: int,
        window: int,
        stride: int,
        max_answer_tokens: int,
        may_be_none: bool,
    ) -> list[Answer]:
        finder, codec = self.backend(ANSWERING), self._codec
        (checked,), (text,) = check_texts([question]), check_texts([context])
        most = finder.max_positions or window
        for name, value in (("top_k", top_k), ("window", window), ("max_answer_tokens", max_answer_tokens)):
            check_count(value, most=1 << 20, name=name)
        check_count(stride, most=1 << 20, name="stride")
        windows = encode_windows(codec, checked, text, window=min(window, most), stride=stride)
        logits: list[Any] = [None] * len(windows)
        with self._turns:
            for index, numbers in token_rows(finder, [one.ids for one in windows], [one.type_ids for one in windows]):
                logits[index] = numbers
        return best_answers(windows, logits, text, top_k=top_k, longest=max_answer_tokens, may_be_none=may_be_none)

    def _special(self, name: str) -> int | None:
        """The id of a special token by its name in the tokenizer's configuration; None without one."""
        spelled = special_token_texts(self._artifact.folder).get(name)
        token: int | None = None if spelled is None else self._codec.tokenizer.token_to_id(spelled)
        return token
