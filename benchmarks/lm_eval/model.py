"""Artifacts as a model of EleutherAI's lm-evaluation-harness (0.4), under the name ``jisu``.

    python -m benchmarks.lm_eval.model --model jisu --model_args artifact=build/int8,backend=ort-cpu --tasks TASK

All further options are those of ``lm_eval``, which has no other way to learn of a model than being imported after it.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

from jisu.benchmarks.lm_eval.continuations import Pair, rolling_pairs, score_continuations
from jisu.exporter.contract.errors import JisuError, MissingDependencyError

NAME = "jisu"
_NEW_TOKENS = 256


def main() -> int:
    try:
        register()
    except JisuError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
    return 0


def register() -> Any:
    """Make the model known to lm_eval and return its class; raises MissingDependencyError without the package."""
    try:
        from lm_eval.api.model import TemplateLM
        from lm_eval.api.registry import register_model
    except ImportError as error:
        raise MissingDependencyError(error.name or "lm_eval", extra="lm-eval", needed_for="This evaluation") from error
    from jisu.runtimes import load

    class JisuModel(TemplateLM):  # type: ignore[misc,unused-ignore]
        """An artifact on a backend; ``batch_size`` answers are generated at a time."""

        def __init__(
            self,
            artifact: str,
            backend: str = "ort-cpu",
            threads: int | None = None,
            source: str | None = None,
            batch_size: int | str = 8,
            max_batch_size: int | None = None,
            device: str | None = None,
        ) -> None:
            super().__init__()
            self._engine = load(artifact, backend, threads=None if threads is None else int(threads), source=source)
            self._batch = int(batch_size) if str(batch_size).isdigit() else 8

        @property
        def tokenizer_name(self) -> str:
            return str(self._engine.artifact.folder)

        @property
        def eot_token_id(self) -> int:
            facts = self._engine.artifact.manifest.model
            return facts.eos[0] if facts.eos else facts.bos or 0

        @property
        def prefix_token_id(self) -> int:
            bos = self._engine.artifact.manifest.model.bos
            return self.eot_token_id if bos is None else bos

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:  # noqa: FBT001
            return self._engine.tokenize(string, special_tokens=add_special_tokens is not False)

        def _loglikelihood_tokens(self, requests: list[Any], **kwargs: Any) -> list[tuple[float, bool]]:
            pairs: list[Pair] = [(list(context), list(continuation)) for _, context, continuation in requests]
            scores = score_continuations(self._engine, pairs)
            assert len(scores) == len(requests), "an answer for each request"
            for (words, _, _), answer in zip(requests, scores, strict=True):
                self.cache_hook.add_partial("loglikelihood", words, answer)
            return scores

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:  # noqa: FBT001, FBT002
            limit = self._engine.backend.max_positions
            totals = []
            for request in requests:
                ids = self.tok_encode(request.args[0], add_special_tokens=False)
                pairs = rolling_pairs(ids, prefix=self.prefix_token_id, limit=limit)
                totals.append(sum(logprob for logprob, _ in score_continuations(self._engine, pairs)))
                self.cache_hook.add_partial("loglikelihood_rolling", request.args, totals[-1])
            return totals

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:  # noqa: FBT001, FBT002
            texts: list[str] = []
            # Neighbours that are asked for in the same way are answered together.
            for _, group in itertools.groupby(requests, key=lambda item: repr(item.args[1])):
                alike = list(group)
                for start in range(0, len(alike), self._batch):
                    some = alike[start : start + self._batch]
                    answers = self._answers([item.args[0] for item in some], dict(some[0].args[1]))
                    for item, answer in zip(some, answers, strict=True):
                        self.cache_hook.add_partial("generate_until", item.args, answer)
                    texts += answers
            assert len(texts) == len(requests), "an answer for each request"
            return texts

        def _answers(self, contexts: list[str], options: dict[str, Any]) -> list[str]:
            until = options.get("until") or ()
            new_tokens = int(options.get("max_gen_toks") or options.get("max_new_tokens") or _NEW_TOKENS)
            prompts = [self.tok_encode(context) or [self.prefix_token_id] for context in contexts]
            limit = self._engine.backend.max_positions
            if limit is not None:
                new_tokens = min(new_tokens, limit - 1)
                prompts = [prompt[-(limit - new_tokens) :] for prompt in prompts]
            results = self._engine.generate_ids(
                prompts,
                max_new_tokens=new_tokens,
                stop=(until,) if isinstance(until, str) else tuple(until),
                model_defaults=False,  # a task says itself how its answers are to be generated
                temperature=float(options.get("temperature") or 0.0) or None if options.get("do_sample") else None,
            )
            return [result.text for result in results]

    return register_model(NAME)(JisuModel)


if __name__ == "__main__":
    sys.exit(main())
