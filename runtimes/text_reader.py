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
    MODEL_KINDS,
    TAGGING,
    Artifact,
    EmbeddingFacts,
    ModelKind,
)
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.model_uses import not_of_kind
from jisu.exporter.contract.naming import shown
from jisu.exporter.contract.one_pass_backend import OnePassBackend
from jisu.exporter.contract.rerank_prompt import RerankPrompt
from jisu.runtimes.generation.prompts import check_id_prompts
from jisu.runtimes.generation.text import TextCodec, special_token_texts
from jisu.runtimes.generation.turns import Turns
from jisu.runtimes.model_text import ModelText
from jisu.runtimes.reading.answering import Answer, best_answers, encode_windows
from jisu.runtimes.reading.classification import Classification, classify_rows, read_logits, scores_of
from jisu.runtimes.reading.embedding import Vectors, embed_rows, prompt_text, shortened
from jisu.runtimes.reading.filling import Filling, check_count, check_masked, fillings_of
from jisu.runtimes.reading.pairs import EncodedRows, TextPair, encode_texts
from jisu.runtimes.reading.ranking import Ranked, blocks_of, check_instruction, check_query, ranked
from jisu.runtimes.reading.rerank_rows import RerankRows, no_instruction
from jisu.runtimes.reading.tagging import (
    Tag,
    check_aggregation,
    check_ignored,
    check_windows,
    tags_of,
    without_overlaps,
)
from jisu.runtimes.reading.texts import check_texts, check_texts_or_pairs
from jisu.runtimes.reading.token_rows import token_rows
from jisu.runtimes.reading.windows import LONGEST_WINDOW, text_windows


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
        checked = check_texts_or_pairs(texts)
        if self._facts.rerank_prompt is None:
            made = encode_texts(self._codec, checked, limit=classifier.max_positions, truncate=truncate)
        else:
            made = self._asked_rows(checked, limit=classifier.max_positions, truncate=truncate)
        with self._turns:
            return classify_rows(
                classifier, made.rows, self._facts.labels, types=made.types, activation=self._facts.activation
            )

    def classify_ids(self, rows: Sequence[Sequence[int]]) -> list[Classification]:
        classifier, facts = self.backend(CLASSIFICATION), self._facts
        with self._turns:
            return classify_rows(classifier, check_id_prompts(rows), facts.labels, activation=facts.activation)

    def rerank(
        self,
        query: object,
        documents: Iterable[str],
        *,
        top: int | None,
        truncate: bool,
        instruction: str | None = None,
    ) -> Ranked:
        if self._artifact.manifest.model_kind == MODEL_KINDS[0]:
            raise InputError(
                f"{self._artifact.folder} generates text and does not rank documents",
                received=f"an artifact for {MODEL_KINDS[0]}",
                allowed="a model with one score for a query and a document",
                fix="If the checkpoint is a reranker, export it once more with --rerank-prompt.",
            )
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
        rows = self._query_rows(checked_query, check_instruction(instruction), limit=ranker.max_positions)
        for block in blocks_of(documents):
            if rows is None:
                pairs: list[str | TextPair] = [(checked_query, document) for document in block]
                made = encode_texts(
                    self._codec, pairs, limit=ranker.max_positions, truncate=truncate, first=len(scores)
                )
            else:
                listed = [
                    rows.row(document, truncate=truncate, number=number)
                    for number, document in enumerate(block, start=len(scores))
                ]
                made = EncodedRows(rows=listed, types=[[0] * len(row) for row in listed])
            with self._turns:
                logits = read_logits(ranker, made.rows, made.types)
            scores += scores_of(logits, self._facts.activation)[:, 0].tolist()
        return ranked(scores, top=top)

    def _query_rows(self, query: str, instruction: str | None, *, limit: int | None) -> RerankRows | None:
        """What puts documents beside a query into the model's prompt; None where the tokenizer joins a pair."""
        prompt: RerankPrompt | None = self._facts.rerank_prompt
        if prompt is not None:
            controls = self._text.controls_beside("".join((*prompt.pieces, *prompt.instructed)))
            return RerankRows(prompt, controls, query, instruction=instruction, limit=limit)
        if instruction is not None:
            raise no_instruction(instruction)
        return None

    def _asked_rows(self, texts: Sequence[str | TextPair], *, limit: int | None, truncate: bool) -> EncodedRows:
        """Pairs in the model's prompt, each a query and a document."""
        rows = []
        for number, pair in enumerate(texts):
            if isinstance(pair, str):
                raise InputError(
                    f"{self._artifact.folder} scores a query and a document, not one text",
                    received=f"text {number}, {shown(pair)}",
                    allowed="pairs of a query and a document",
                    fix="Give pairs: a tuple in a list, or --pair.",
                )
            query, document = pair
            made = self._query_rows(query, None, limit=limit)
            assert made is not None, "there is a prompt"
            rows.append(made.row(document, truncate=truncate, number=number))
        return EncodedRows(rows=rows, types=[[0] * len(row) for row in rows])

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
        types = None
        if before and not facts.pools_prompt:
            count = self._codec.count_before_text(before)
            types = [[1] * min(count, len(row)) + [0] * max(0, len(row) - count) for row in rows]
        with self._turns:
            vectors = embed_rows(backend, rows, types)
        return shortened(vectors, facts, dimensions=dimensions, normalize=normalize)

    def embed_ids(self, rows: Sequence[Sequence[int]]) -> Vectors:
        backend = self.backend(EMBEDDING)
        with self._turns:
            return embed_rows(backend, check_id_prompts(rows))

    def tag(
        self,
        texts: object,
        *,
        aggregation: str,
        ignore_labels: Collection[str],
        truncate: bool,
        stride: int | None = None,
        window: int | None = None,
    ) -> list[list[Tag]]:
        tagger, codec = self.backend(TAGGING), self._codec
        way, ignored = check_aggregation(aggregation), check_ignored(ignore_labels, self._facts.labels)
        check_windows(way, stride=stride, window=window)
        checked = check_texts(texts)
        if stride is None:
            rows = codec.encode_rows(checked, limit=tagger.max_positions, truncate=truncate)
            encodings = [[codec.encoding(text, limit=len(row))] for text, row in zip(checked, rows, strict=True)]
        else:
            limits = [limit for limit in (window, tagger.max_positions) if limit is not None]
            most = min(limits, default=LONGEST_WINDOW)
            encodings = [text_windows(codec, text, window=most, stride=stride) for text in checked]
        windows = [(number, encoding) for number, several in enumerate(encodings) for encoding in several]
        tags: list[list[Tag]] = [[] for _ in windows]
        unknown = self._special("unk_token")
        with self._turns:
            for index, logits in token_rows(tagger, [encoding.ids for _, encoding in windows]):
                number, encoding = windows[index]
                tags[index] = tags_of(
                    encoding,
                    checked[number],
                    logits,
                    tokenizer=codec.tokenizer,
                    unknown=unknown,
                    labels=self._facts.labels,
                    aggregation=way,
                    ignored=ignored,
                )
        results: list[list[Tag]] = [[] for _ in checked]
        for (number, _), of_window in zip(windows, tags, strict=True):
            results[number] += of_window
        return [without_overlaps(one) if len(encodings[number]) > 1 else one for number, one in enumerate(results)]

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
