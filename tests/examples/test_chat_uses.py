"""The three ready uses of a chat model answer with the real one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_customer_service_answers_each_question_and_remembers(smollm2_artifact, capsys):
    module = example("customer_service")
    module.OPTIONS = type(module.OPTIONS)(max_new_tokens=24)
    module.main(str(smollm2_artifact.folder), ["How long do I have to return a book?\n", "\n", "And shipping?\n"])
    turns = [turn for turn in capsys.readouterr().out.split("Customer: ") if turn]
    assert [turn.splitlines()[0] for turn in turns] == ["How long do I have to return a book?", "And shipping?"]
    assert all(len(turn.split("Assistant: ")[1].strip()) > 20 for turn in turns)
    assert "30" in turns[0], "the rule is in the system prompt"


def test_content_writer_writes_three_paragraphs(smollm2_artifact, capsys):
    example("content_writer").main(str(smollm2_artifact.folder), "the history of the bicycle", longest=16)
    title, *paragraphs = capsys.readouterr().out.strip().split("\n\n")
    assert title == "The history of the bicycle"
    assert len(paragraphs) == 3 and all(len(paragraph.split()) > 5 for paragraph in paragraphs)


def test_tutor_shows_steps_and_an_answer(smollm2_artifact, capsys):
    example("tutor").main(str(smollm2_artifact.folder), "A ticket costs 3 euros. How much are 5 tickets?")
    printed = capsys.readouterr().out
    assert "Step 1" in printed and "15" in printed
