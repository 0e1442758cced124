from __future__ import annotations

import json

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.given_tokenizer import read_tokenizer
from tests.support.models import tiny_tokenizer

TEXT = "The fox 你好 🙂"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer().save_pretrained(str(folder))
    return folder


def test_a_folder_a_file_and_objects_give_the_same_ids(saved, tmp_path):
    from tokenizers import Tokenizer

    alone = tmp_path / "tokenizer.json"
    alone.write_bytes((saved / "tokenizer.json").read_bytes())
    tokenizers = [saved, str(saved / "tokenizer.json"), alone, Tokenizer.from_file(str(alone)), tiny_tokenizer()]
    expected = tiny_tokenizer()
    for one in tokenizers:
        actual = read_tokenizer(one)
        assert actual.encode(TEXT) == expected.encode(TEXT)
        assert (actual.eos_token, actual.bos_token, actual.pad_token) == ("</s>", "<s>", "<pad>")


def test_the_settings_beside_a_file_are_read(saved):
    assert read_tokenizer(saved / "tokenizer.json").chat_template


def test_a_bare_tokenizer_has_the_special_tokens_that_it_spells(tmp_path):
    from tokenizers import Tokenizer, models

    backend = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "word": 2, "<eos>": 3}, unk_token="<unk>"))
    backend.add_special_tokens(["<pad>", "<unk>", "<eos>"])
    actual = read_tokenizer(backend)
    assert (actual.eos_token_id, actual.pad_token_id, actual.bos_token_id) == (3, 0, None)


def test_what_is_no_tokenizer_is_refused(saved, tmp_path):
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read"):
        read_tokenizer(tmp_path / "broken.json")
    with pytest.raises(InputError, match="There is no tokenizer"):
        read_tokenizer(tmp_path / "nowhere.json")
    with pytest.raises(InputError, match="a folder without tokenizer.json"):
        read_tokenizer(tmp_path)
    with pytest.raises(InputError, match="Received: list"):
        read_tokenizer(["a", "b"])


def test_code_of_its_own_is_never_run(saved, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes((saved / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["evil.Tok", None]}}))
    with pytest.raises(InputError, match="code"):
        read_tokenizer(tmp_path)
