from __future__ import annotations

import pytest

from examples.text_rnn.csv_table import Table
from examples.text_rnn.prepared_data import own_tables, read_examples, read_preparation, write_preparation
from examples.text_rnn.preprocessing import Preprocessing
from examples.text_rnn.vocabulary import BEGIN_ID, END_ID
from jisu.exporter.contract.errors import InputError
from tests.examples.text_rnn.small_data import prepare

EN = Preprocessing(language="en")


@pytest.mark.parametrize("task", ["generate", "classify"])
@pytest.mark.parametrize("language", ["zh", "en"])
def test_own_tables_have_no_text_in_common_and_are_the_same_every_time(task, language):
    train, test = own_tables(task, language)
    assert not set(train.texts) & set(test.texts)
    assert (train, test) == own_tables(task, language)
    assert len(train.texts) > 8 * len(test.texts) > 0
    assert task == "generate" or set(train.labels) == set(test.labels)


def test_preparation_is_read_as_it_was_written(tmp_path):
    written = prepare(tmp_path / "data", task="classify")
    assert read_preparation(tmp_path / "data") == written
    assert written.labels == ("好评", "差评") or written.labels == ("差评", "好评")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        "preparation.json",
        "test.csv",
        "tokenizer.json",
        "train.csv",
    ]


def test_texts_of_a_language_model_lie_between_their_marks(tmp_path):
    prepare(tmp_path / "data")
    examples = read_examples(tmp_path / "data", "train.csv", longest=64)
    assert all(ids[0] == BEGIN_ID and ids[-1] == END_ID for ids in examples.token_ids)
    cut = read_examples(tmp_path / "data", "train.csv", longest=4)
    assert all(len(ids) == 4 and ids[-1] != END_ID for ids in cut.token_ids)


def test_labels_become_their_places(tmp_path):
    table = Table(texts=("one", "two", "three"), labels=("b", "a", "b"))
    write_preparation(tmp_path / "data", table, table, task="classify", preprocessing=EN)
    assert read_examples(tmp_path / "data", "test.csv", longest=8).label_ids == (1, 0, 1)


def test_bad_tables_leave_nothing_behind(tmp_path):
    one = Table(texts=("a", "b"), labels=("x", "x"))
    two = Table(texts=("a", "b"), labels=("x", "y"))
    three = Table(texts=("a", "b"), labels=("x", "z"))
    for train, test, message in ((one, one, "one class only"), (two, three, "labels that the training data has not")):
        with pytest.raises(InputError, match=message):
            write_preparation(tmp_path / "data", train, test, task="classify", preprocessing=EN)
    assert list(tmp_path.iterdir()) == []


def test_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(InputError, match="no prepared data"):
        read_preparation(tmp_path)
