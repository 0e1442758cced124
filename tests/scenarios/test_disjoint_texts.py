"""What a model may be calibrated on and what it is judged on come from different sources: they share no passage."""

from __future__ import annotations

from collections.abc import Iterable

from jisu.calibration.text.builtin_texts import builtin_texts
from jisu.calibration.text.prompts import load_prompts
from jisu.exporter.gate.domains import BUILT_IN, built_in_domains

# Characters, white space counted as one blank. Two programs share an import, two Germans a phrase; no two authors this.
PASSAGE = 48
# A whole line of fewer characters says nothing.
LINE = 32


def passages(text: str) -> set[str]:
    flat = " ".join(text.split())
    return {flat[start : start + PASSAGE] for start in range(len(flat) - PASSAGE + 1)}


def lines(text: str) -> set[str]:
    """Long lines but imports, of which a language has only so many."""
    actual = {" ".join(line.split()) for line in text.split("\n")}
    return {line for line in actual if len(line) >= LINE and not line.startswith(("from ", "import ", "#include"))}


def calibration_texts() -> dict[str, str]:
    texts = {text.origin: text.text for text in builtin_texts()}
    return texts | {f"prompt {number}": prompt.text for number, prompt in enumerate(load_prompts())}


def judged_texts() -> dict[str, str]:
    return {domain.name: domain.text for domain in built_in_domains()}


def shared(calibration: Iterable[str], judged: str) -> set[str]:
    """Passages and long lines of the judged text that one of the others has, too."""
    wanted_passages, wanted_lines = passages(judged), lines(judged)
    actual: set[str] = set()
    for text in calibration:
        actual |= (wanted_passages & passages(text)) | (wanted_lines & lines(text))
    return actual


def test_calibration_and_judgement_share_no_passage() -> None:
    mine = set().union(*(passages(text) | lines(text) for text in calibration_texts().values()))
    judged = {name: passages(text) | lines(text) for name, text in judged_texts().items()}
    assert set(judged) == set(BUILT_IN)
    assert {name: sorted(texts & mine)[:3] for name, texts in judged.items() if texts & mine} == {}


def test_a_planted_passage_is_found() -> None:
    story = judged_texts()["english-story"]
    assert shared(["Something else.\n" + story[300:400] + "\nSomething else."], story)
    assert not shared(["Something else.\n" + story[300:320] + "\nSomething else."], story)
    line = max(story.split("\n"), key=len)
    assert shared([line], story)
