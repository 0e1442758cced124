from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from jisu.exporter.contract.artifact import ModelFacts
from jisu.exporter.gate.tokenizer import TEXTS, check_tokenizer
from jisu.runtimes.chat.chat_encoder import ChatEncoder

TEMPLATE = (
    "{% for message in messages %}\n"
    "<|{{ message['role'] }}|>{{ message['content'] | trim }}{{ eos_token }}\n"
    "{% endfor %}\n{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train(corpus):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=["<eos>"], show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", chat_template=TEMPLATE)


@pytest.fixture(scope="module")
def source():
    return train(TEXTS)


@pytest.fixture
def folder(source, tmp_path):
    source.save_pretrained(tmp_path)
    return tmp_path


def failed(checks):
    return [check.name for check in checks if not check.passed]


def test_the_sources_own_files_pass(source, folder):
    checks = check_tokenizer(source, folder)
    assert failed(checks) == []
    assert [check.name for check in checks] == ["tokenizer", "detokenizer", "chat-template"]


def test_a_tokenizer_of_another_model_is_named_with_the_first_text_that_differs(source, folder):
    train(["completely other words " * 20]).save_pretrained(folder)
    checks = check_tokenizer(source, folder)
    assert "tokenizer" in failed(checks)
    assert checks[0].detail.startswith("'The quick brown fox")
    assert "differs first at token" in checks[0].detail


def test_two_tokens_exchanged_are_found(source, folder):
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = data["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(data), encoding="utf-8")
    assert failed(check_tokenizer(source, folder)) == ["tokenizer", "detokenizer"]


def test_a_special_token_that_is_no_longer_special_is_found(source, folder):
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["added_tokens"] = []
    path.write_text(json.dumps(data), encoding="utf-8")
    checks = check_tokenizer(source, folder)
    assert "tokenizer" in failed(checks)
    assert "<eos>" in checks[0].detail


def test_another_decoder_is_found(source, folder):
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["decoder"] = None
    path.write_text(json.dumps(data), encoding="utf-8")
    assert failed(check_tokenizer(source, folder)) == ["detokenizer"]


@pytest.mark.parametrize("change", [lambda text: text.replace("assistant", "system"), lambda text: text + "\n\n."])
def test_another_chat_template_is_found(change, source, folder):
    path = folder / "chat_template.jinja"
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    checks = check_tokenizer(source, folder)
    assert failed(checks) == ["chat-template"]
    assert "A conversation of 1 messages becomes" in checks[2].detail


def test_a_special_token_that_the_artifact_spells_otherwise_is_found(source, folder):
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "eos_token": "<end>"}), encoding="utf-8")
    assert failed(check_tokenizer(source, folder)) == ["chat-template"]


def test_a_lost_chat_template_is_found(source, folder):
    (folder / "chat_template.jinja").unlink()
    assert failed(check_tokenizer(source, folder)) == ["chat-template"]


def test_a_template_inside_the_tokenizers_configuration_is_read(source, folder):
    (folder / "chat_template.jinja").unlink()
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({"chat_template": TEMPLATE, "eos_token": {"content": "<eos>"}}), encoding="utf-8")
    assert failed(check_tokenizer(source, folder)) == []


def test_a_source_without_chat_template_needs_none(folder):
    source = train(TEXTS)
    source.chat_template = None
    assert failed(check_tokenizer(source, folder)) == ["chat-template"]
    (folder / "chat_template.jinja").unlink()
    assert failed(check_tokenizer(source, folder)) == []


def test_a_rare_token_and_a_merge_that_no_sentence_uses_are_found(source, folder):
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = data["model"]["vocab"]
    rare, rarer = sorted(vocabulary, key=vocabulary.get)[-2:]
    changed = {**vocabulary, rare: vocabulary[rarer], rarer: vocabulary[rare]}
    path.write_text(json.dumps({**data, "model": {**data["model"], "vocab": changed}}), encoding="utf-8")
    assert "detokenizer" in failed(check_tokenizer(source, folder, texts=()))
    merges = data["model"]["merges"]
    path.write_text(
        json.dumps({**data, "model": {**data["model"], "merges": merges[:20] + merges[21:]}}), encoding="utf-8"
    )
    assert "tokenizer" in failed(check_tokenizer(source, folder, texts=()))


FACTS = ModelFacts(
    architecture="tiny", vocab_size=400, max_positions=None, layers=1, parameters=1, bos=None, eos=(0,), pad=None
)


def chat_ids(source, folder):
    return check_tokenizer(source, folder, facts=FACTS)[-1]


def test_conversations_have_the_sources_ids_and_their_control_tokens_are_text(source, folder):
    check = chat_ids(source, folder)
    assert (check.name, check.passed) == ("chat-ids", True), check.detail
    assert "1 control tokens are text" in check.detail


def test_other_ids_than_the_prompts_text_has_are_found(source, folder, monkeypatch):
    encode = ChatEncoder.encode
    monkeypatch.setattr(ChatEncoder, "encode", lambda self, messages: [0, *encode(self, messages)])
    check = chat_ids(source, folder)
    assert not check.passed
    assert "A conversation of 1 messages differs first at token 0" in check.detail


def test_a_control_token_that_a_message_can_write_is_found(source, folder, monkeypatch):
    def encode(self, messages):
        return self._tokenizer.encode(self.template.render(messages), add_special_tokens=False).ids

    monkeypatch.setattr(ChatEncoder, "encode", encode)
    check = chat_ids(source, folder)
    assert not check.passed
    assert "'<eos>' in a message becomes one" in check.detail


def test_what_has_no_template_has_no_ids_of_conversations(folder):
    source = train(TEXTS)
    source.chat_template = None
    (folder / "chat_template.jinja").unlink()
    assert [check.name for check in check_tokenizer(source, folder, facts=FACTS)][-1] == "chat-template"
