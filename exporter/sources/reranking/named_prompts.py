"""Prompts that decoder-based rerankers are trained with, by the name that a user gives: what no such folder states.

The texts are those of the models' documentation; another word would be another question. They are cut into pieces as
the recipe beside them encodes a prompt; docs/tasks.md says whose they are.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class NamedPrompt:
    """One prompt.

    Attributes:
        pieces: what is asked, for `exporter.contract.rerank_prompt.RerankPrompt`.
        instructed: the same with an instruction.
        instruction: takes the place of ``{instruction}`` in ``instructed`` to make ``pieces``, where these are empty.
        chats: whether it is a message to the model, which its chat template surrounds; with ``system`` one before it.
        yes, no: the tokens that answer it; without ``no`` the score is the logit of ``yes`` alone.
    """

    instructed: tuple[str, ...]
    yes: str
    no: str | None
    pieces: tuple[str, ...] = ()
    instruction: str = ""
    chats: bool = True
    system: str | None = None


_RELEVANCE = (
    "You are a search relevance expert who evaluates how well documents match search queries. For each query-document "
    "pair, carefully analyze the semantic relationship between them, then provide your binary relevance judgment "
    "(0 for not relevant, 1 for relevant).\nRelevance:"
)
NAMED_PROMPTS: dict[str, NamedPrompt] = {
    "judge": NamedPrompt(
        system="Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
        'Note that the answer can only be "yes" or "no".',
        instructed=("<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}",),
        instruction="Given a web search query, retrieve relevant passages that answer the query",
        yes="yes",
        no="no",
    ),
    "relevance": NamedPrompt(
        pieces=("query: {query}", "\n", "document: {document}", "\n", _RELEVANCE),
        instructed=("instruction: {instruction}\nquery: {query}", "\n", "document: {document}", "\n", _RELEVANCE),
        yes="1",
        no="0",
    ),
    "passage": NamedPrompt(
        instructed=("A: {query}", "\n", "B: {document}", "\n", "{instruction}"),
        instruction="Given a query A and a passage B, determine whether the passage contains an answer to the query by "
        "providing a prediction of either 'Yes' or 'No'.",
        chats=False,
        yes="Yes",
        no=None,
    ),
}
