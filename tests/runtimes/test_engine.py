from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.engine import Engine
from jisu.runtimes.generation.many import Prompt
from jisu.runtimes.generation.options import SamplingOptions
from jisu.runtimes.generation.text import TextCodec
from jisu.runtimes.opening import load
from tests.runtimes.tiny_models import EOS, ListBackend, logits_of, write_artifact
from tests.runtimes.tiny_text import IM_END, ScriptedBackend, byte_level_tokenizer, says, text_artifact

TOKENIZER = byte_level_tokenizer()
CODEC = TextCodec(TOKENIZER)
END = TOKENIZER.token_to_id(IM_END)


def saying(tmp_path: Path, answer: str, prompt: str, **facts: Any) -> Engine:
    """An engine that answers ``prompt``, given without the template, with ``answer``."""
    ids = CODEC.encode(answer, special_tokens=False)
    script = says(ids, len(CODEC.encode(prompt, special_tokens=False)), END)
    artifact = text_artifact(tmp_path / "artifact", eos=[END], **facts)
    return Engine(artifact, ScriptedBackend(TOKENIZER.get_vocab_size(), script))


def greedy_alone(prompt: list[int], count: int, eos: set[int]) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(logits_of(tokens)[-1].argmax()))
        if tokens[-1] in eos:
            break
    return tokens[len(prompt) :]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("tiny") / "artifact"
    write_artifact(folder, "ort-cpu")
    return load(folder, threads=1)


PROMPTS = [[3, 7, 1, 9, 22], [8], [6, 11], [4, 4, 4, 4, 4, 4, 4], [19, 1]]


@pytest.mark.parametrize("prompt", PROMPTS, ids=str)
def test_greedy_tokens_equal_those_of_the_model_without_a_cache(tiny: Engine, prompt: list[int]) -> None:
    result = tiny.generate_ids([prompt], max_new_tokens=20)[0]
    assert list(result.token_ids) == greedy_alone(prompt, 20, {EOS})
    assert result.prompt_tokens == len(prompt)


def test_a_batch_of_unequal_lengths_gives_each_row_what_it_gets_alone(tiny: Engine) -> None:
    together = tiny.generate_ids(PROMPTS, max_new_tokens=20)
    assert [list(result.token_ids) for result in together] == [greedy_alone(prompt, 20, {EOS}) for prompt in PROMPTS]


def test_each_row_counts_the_steps_it_was_in(tiny: Engine) -> None:
    results = tiny.generate_ids([[3] * 60, [5]], ignore_eos=True)
    assert [result.timings.decode_steps for result in results] == [3, 62]
    short, long = (result.timings for result in results)
    assert short.time_to_first_token == long.time_to_first_token
    assert 0 < short.decode_seconds < long.decode_seconds
    assert short.decode_tokens_per_second == pytest.approx(3 / short.decode_seconds)


def test_a_drawn_seed_repeats_the_answer(tiny: Engine) -> None:
    options = {"max_new_tokens": 24, "temperature": 2.0, "ignore_eos": True}
    first = tiny.generate_ids(PROMPTS, **options)
    seeds = {result.seed for result in first}
    assert len(seeds) == 1
    again = tiny.generate_ids(PROMPTS, **options, seed=seeds.pop())
    assert [result.token_ids for result in again] == [result.token_ids for result in first]
    assert tiny.generate_ids([PROMPTS[0]], max_new_tokens=1)[0].seed is None


def test_the_seed_of_every_row_repeats_it_alone_in_any_order_and_batch(tiny: Engine) -> None:
    options = {"max_new_tokens": 24, "temperature": 2.0, "ignore_eos": True}
    prompts = [*PROMPTS, PROMPTS[1], PROMPTS[1]]
    together = tiny.generate_ids(prompts, **options, seed=5)
    for prompt, row in zip(prompts, together, strict=True):
        alone = tiny.generate_ids([prompt], **options, seed=row.seed)[0]
        assert (alone.token_ids, alone.seed) == (row.token_ids, row.seed)
    turned = tiny.generate_ids(PROMPTS[::-1], **options, seed=5)[::-1]
    assert [row.token_ids for row in turned] == [row.token_ids for row in together[: len(PROMPTS)]]
    # The same prompt more than once says something else each time.
    assert len({together[row].token_ids for row in (1, 5, 6)}) == 3


@pytest.mark.parametrize("token", [-1, -100, 23, 10**6, 2**70])
def test_an_id_outside_the_vocabulary_is_one_error_everywhere(tiny: Engine, token: int) -> None:
    expected = rf"(?s)A token id is not in the vocabulary.*Received: {token}.*Allowed: 0 to 22"
    for call in (
        lambda: tiny.generate_ids([[1, 2], [1, token]], max_new_tokens=1),
        lambda: tiny.generate_ids([[1, token]], max_new_tokens=1, num_beams=2),
        lambda: tiny.score([1, token]),
        lambda: tiny.score([[1, 2], [token]]),
    ):
        with pytest.raises(InputError, match=expected):
            call()


def test_rows_that_end_early_leave_the_others_alone(tiny: Engine) -> None:
    free = [greedy_alone(prompt, 12, set()) for prompt in PROMPTS]
    stop = free[0][2]
    together = tiny.generate_ids(PROMPTS, max_new_tokens=12, stop_ids=stop, ignore_eos=True)
    assert len({len(result.token_ids) for result in together}) > 1
    for row, result in zip(free, together, strict=True):
        expected = row[: row.index(stop) + 1] if stop in row else row
        assert list(result.token_ids) == expected
        assert result.finish_reason == ("stop" if stop in row else "length")


def test_rows_fill_all_positions(tiny: Engine) -> None:
    prompts = [[3] * 60, [5]]
    results = tiny.generate_ids(prompts, ignore_eos=True)
    assert [len(result.token_ids) for result in results] == [4, 63]
    assert list(results[1].token_ids) == greedy_alone([5], 63, set())


def test_logprobs_are_recorded_for_every_token(tiny: Engine) -> None:
    result = tiny.generate_ids([PROMPTS[0]], max_new_tokens=3, logprobs=2, ignore_eos=True)[0]
    assert result.logprobs is not None
    assert len(result.logprobs) == 3
    assert [item.top[0][0] for item in result.logprobs] == list(result.token_ids)
    first = logits_of(PROMPTS[0])[-1].astype(float)
    expected = first.max() - np.log(np.exp(first).sum())
    assert result.logprobs[0].logprob == pytest.approx(expected, abs=1e-3)


def test_the_state_has_room_for_prompt_and_answer_only(tiny: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []
    new_state = tiny.backend.new_state
    monkeypatch.setattr(
        tiny.backend, "new_state", lambda *args: requests.append(args) or new_state(*args), raising=True
    )
    tiny.generate_ids([[1, 2, 3], [4]], max_new_tokens=5)
    assert requests == [(2, 8)]


def test_sampled_tokens_are_the_same_on_graph_and_numpy(tiny: Engine) -> None:
    other = Engine(tiny.artifact, ListBackend())
    options = {"max_new_tokens": 16, "temperature": 1.5, "top_p": 0.9, "seed": 11, "ignore_eos": True}
    assert [result.token_ids for result in tiny.generate_ids(PROMPTS, **options)] == [
        result.token_ids for result in other.generate_ids(PROMPTS, **options)
    ]


def test_text_comes_back(tmp_path: Path) -> None:
    engine = saying(tmp_path, "hello 世界", "say")
    result = engine.generate("say", chat=False)
    assert (result.text, result.finish_reason) == ("hello 世界", "eos")
    assert result.token_ids[-1] == END


@pytest.mark.parametrize("answer", ["hello", "你好，世界！", "a🎉👨‍👩‍👧b", "END"])
def test_streamed_pieces_join_to_the_text(tmp_path: Path, answer: str) -> None:
    engine = saying(tmp_path, answer, "say")
    stream = engine.stream("say", chat=False)
    pieces = list(stream)
    assert "".join(pieces) == stream.result.text == engine.generate("say", chat=False).text == answer
    assert all(pieces)
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_stop_string_over_several_tokens_is_never_shown(tmp_path: Path) -> None:
    engine = saying(tmp_path, "one STOP two", "say")
    stream = engine.stream("say", chat=False, stop="STOP")
    assert "".join(stream) == "one "
    assert stream.result.finish_reason == "stop"
    assert len(stream.result.token_ids) == len(CODEC.encode("one STOP", special_tokens=False))


def test_text_that_only_begins_like_a_stop_string_is_shown_at_the_end(tmp_path: Path) -> None:
    engine = saying(tmp_path, "one STO", "say")
    result = engine.generate("say", chat=False, stop=["STOP"])
    assert (result.text, result.finish_reason) == ("one STO", "eos")


def test_a_stop_string_on_the_last_allowed_token_counts(tmp_path: Path) -> None:
    engine = saying(tmp_path, "abX", "say")
    result = engine.generate("say", chat=False, stop="X", max_new_tokens=3)
    assert (result.text, result.finish_reason) == ("ab", "stop")


def test_an_unfinished_character_at_the_limit_is_a_replacement_character(tmp_path: Path) -> None:
    engine = saying(tmp_path, "a你", "say")
    result = engine.generate("say", chat=False, max_new_tokens=2)
    assert (result.text, result.finish_reason) == ("a\ufffd", "length")


def test_an_end_token_at_once_gives_an_empty_answer(tmp_path: Path) -> None:
    engine = saying(tmp_path, "", "say")
    result = engine.generate("say", chat=False)
    assert (result.text, result.token_ids, result.finish_reason) == ("", (END,), "eos")
    assert list(engine.stream("say", chat=False)) == []
    assert result.timings.decode_tokens_per_second is None


def test_a_batch_of_texts_gives_a_list(tmp_path: Path) -> None:
    engine = saying(tmp_path, "yes", "say")
    results = engine.generate(["say", "say"], chat=False)
    assert [result.text for result in results] == ["yes", "yes"]


@pytest.mark.parametrize("prompt", ["", " \n"])
def test_an_empty_prompt_is_refused(tmp_path: Path, prompt: str) -> None:
    with pytest.raises(InputError, match="prompt is empty"):
        saying(tmp_path, "yes", "say").generate(prompt)


def test_no_prompts_are_refused(tiny: Engine) -> None:
    with pytest.raises(InputError, match="no prompt"):
        tiny.generate_ids([])
    with pytest.raises(InputError, match="Prompt 1 has no tokens"):
        tiny.generate_ids([[1], []])


def test_a_prompt_beyond_the_positions_names_both_numbers(tiny: Engine) -> None:
    with pytest.raises(InputError, match=r"^The prompt is too long.*70 tokens.*64 positions"):
        tiny.generate_ids([[1] * 70])
    with pytest.raises(InputError, match=r"60 prompt tokens and 10 new ones.*64 together.*at most 4"):
        tiny.generate_ids([[1] * 60], max_new_tokens=10)


def test_an_artifact_without_a_tokenizer_takes_ids_only(tiny: Engine) -> None:
    with pytest.raises(InputError, match="no tokenizer"):
        tiny.generate("hello")
    with pytest.raises(InputError, match="Stop strings need a tokenizer"):
        tiny.generate_ids([[1]], stop="x")
    with pytest.raises(InputError, match="no tokenizer"):
        tiny.chat([{"role": "user", "content": "hi"}])


def test_an_unknown_option_is_refused(tiny: Engine) -> None:
    with pytest.raises(InputError, match="Did you mean max_new_tokens"):
        tiny.generate_ids([[1]], max_new_token=3)  # type: ignore[call-arg]


def test_nan_logits_never_become_a_token(tmp_path: Path) -> None:
    engine = saying(tmp_path, "yes", "say")
    usual = engine.backend.logits  # type: ignore[attr-defined]

    def broken(tokens: list[int]) -> np.ndarray:
        out = usual(tokens)
        return out * np.nan if len(tokens) > 4 else out

    engine.backend.logits = broken  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="step 2"):
        engine.generate("say", chat=False)


def test_scores_are_the_log_probabilities_of_each_token(tiny: Engine) -> None:
    for sequence, actual in zip(PROMPTS, tiny.score(PROMPTS), strict=True):
        logits = logits_of(sequence).astype(float)
        logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        expected = [logprobs[at, token] for at, token in enumerate(sequence[1:])]
        assert len(actual.logprobs) == len(sequence) - 1
        np.testing.assert_allclose(actual.logprobs, expected, atol=1e-3)
        assert actual.greedy.tolist() == [logits[at].argmax() == token for at, token in enumerate(sequence[1:])]


@pytest.mark.parametrize("wrong", [None, 5, [{"role": "user", "content": "hi"}], [["a"]]], ids=str)
def test_what_is_no_prompt_is_refused_everywhere(tmp_path: Path, wrong: Any) -> None:
    engine = saying(tmp_path, "yes", "say")
    for method in (engine.generate, engine.stream):
        with pytest.raises(InputError, match="not a prompt"):
            method(wrong)


def test_a_stream_takes_one_prompt(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="several texts to generate"):
        saying(tmp_path, "yes", "say").stream(["a", "b"])  # type: ignore[arg-type]


def test_one_text_or_list_of_ids_has_one_score(tmp_path: Path, tiny: Engine) -> None:
    engine = saying(tmp_path, "yes", "say")
    text = engine.score("hello")
    assert text.token_ids == tuple(engine.tokenize("hello"))
    assert engine.score(["hello"])[0].token_ids == text.token_ids
    ids = tiny.score(PROMPTS[0])
    np.testing.assert_array_equal(ids.logprobs, tiny.score([PROMPTS[0]])[0].logprobs)
    assert tiny.score(np.array(PROMPTS[0])).token_ids == tuple(PROMPTS[0])  # type: ignore[call-overload]


@pytest.mark.parametrize("wrong", [None, 5, [None], [[1.5]], [["a"]]], ids=str)
def test_what_has_no_tokens_cannot_be_scored(tiny: Engine, wrong: Any) -> None:
    with pytest.raises(InputError, match="cannot be scored"):
        tiny.score(wrong)


def test_bytes_that_are_no_utf8_are_an_input_error(tmp_path: Path) -> None:
    engine = saying(tmp_path, "yes", "say")
    broken = b"hi \xff".decode("utf-8", "surrogateescape")
    for use in (engine.generate, engine.stream, engine.score, engine.tokenize):
        with pytest.raises(InputError, match="not Unicode"):
            use(broken)


def test_an_engine_says_what_it_is(tiny: Engine) -> None:
    assert repr(tiny) == f"<Engine {tiny.artifact.folder} on ort-cpu>"


def test_an_engine_closes_with_its_block(tmp_path: Path) -> None:
    write_artifact(tmp_path / "a", "portable")
    with load(tmp_path / "a", threads=1) as engine:
        engine.generate_ids([[1]], max_new_tokens=1)
    with pytest.raises(InputError, match="closed"):
        engine.generate_ids([[1]], max_new_tokens=1)
    engine.close()


def test_importing_and_running_needs_neither_torch_nor_transformers(tmp_path: Path) -> None:
    write_artifact(tmp_path / "a", "ort-cpu")
    program = f"""
import sys
import jisu
heavy = {{"torch", "transformers", "onnxruntime", "onnx", "numpy", "tokenizers", "jinja2"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
import jisu.runtimes.commands.generate, jisu.runtimes.commands.chat
assert not heavy & set(sys.modules), heavy & set(sys.modules)
engine = jisu.load({str(tmp_path / "a")!r}, threads=1)
print(len(engine.generate_ids([[1, 3]], max_new_tokens=4, ignore_eos=True)[0].token_ids))
assert not {{"torch", "transformers", "onnx"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("4", "")


def test_a_classifier_gives_a_text_a_label_and_a_list_a_list(tiny_classifier) -> None:
    with load(tiny_classifier.folder) as engine:
        one = engine.classify("good morning")
        several = engine.classify(["good morning", "a much longer text about the evening", "x"])
        assert several[0].probability == pytest.approx(one.probability, abs=1e-6)
        assert list(one.probabilities) == list(engine.labels) == ["sad", "neutral", "glad"]
        ids = engine.classify_ids([engine.tokenize("good morning")])
        assert ids[0].probabilities == pytest.approx(one.probabilities)


def test_a_text_too_long_for_a_classifier_is_refused_or_cut_off(tiny_classifier) -> None:
    with load(tiny_classifier.folder) as engine:
        long = "x " * 600
        with pytest.raises(InputError, match=r"too long for the model.*tokens in text 1.*at most 512"):
            engine.classify(["x", long])
        assert engine.classify(long, truncate=True).tokens == 512


def test_a_classifier_does_not_generate_and_says_what_it_does(tiny_classifier) -> None:
    calls = (
        lambda engine: engine.generate("x", chat=False),
        lambda engine: engine.chat([{"role": "user", "content": "x"}]),
        lambda engine: engine.stream("x"),
        lambda engine: engine.score("some text"),
    )
    with load(tiny_classifier.folder) as engine:
        for call in calls:
            with pytest.raises(InputError, match=r"is a classifier.*Engine.classify"):
                call(engine)


@pytest.mark.parametrize("held", ["nothing", "state", "run", "logits"])
def test_closing_gives_the_memory_back_whatever_is_held(tmp_path: Path, held: str) -> None:
    write_artifact(tmp_path / "artifact", "ort-cpu")
    engine = load(tmp_path / "artifact", threads=1)
    backend = engine.backend
    session = weakref.ref(backend._opened.get())  # type: ignore[attr-defined]
    state = backend.new_state(1, 8)
    logits = backend.forward(np.array([[1, 2]]), state)
    logits = backend.forward(np.array([[3]]), state)
    run = engine.generator.begin([[1, 2]], SamplingOptions(max_new_tokens=8, ignore_eos=True))
    steps = iter(run)
    next(steps)
    cache = weakref.ref(state.past[0])  # type: ignore[attr-defined]
    kept = {"nothing": None, "state": state, "run": (run, steps), "logits": logits}[held]
    del state, run, steps, logits
    engine.close()
    assert session() is None
    assert cache() is None
    with pytest.raises(InputError, match="is closed"):
        backend.new_state(1, 8)
    del kept


def test_an_awaited_answer_is_the_same(tiny: Engine, tmp_path: Path) -> None:
    engine = saying(tmp_path, "hello world", "hi")

    async def main() -> tuple[str, list[str], Any]:
        stream = engine.astream("hi", chat=False)
        return (await engine.agenerate("hi", chat=False)).text, [piece async for piece in stream], stream.result

    text, pieces, result = asyncio.run(main())
    assert text == "".join(pieces) == result.text == "hello world"


def test_a_list_of_prompts_is_awaited_as_a_list(tmp_path: Path) -> None:
    engine = saying(tmp_path, "hello world", "hi")
    results = asyncio.run(engine.agenerate(["hi", "hi"], chat=False))
    assert [result.text for result in results] == ["hello world"] * 2
    assert [result.text for result in asyncio.run(engine.agenerate(["hi"], chat=False))] == ["hello world"]
    for generate in (engine.generate, lambda prompts: asyncio.run(engine.agenerate(prompts))):
        with pytest.raises(InputError, match="There is no prompt"):
            generate([])


def test_an_awaited_conversation_is_the_same(tmp_path: Path) -> None:
    message = [{"role": "user", "content": "hi"}]
    prompt = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    engine = saying(tmp_path, "hello", prompt)
    engine._opened._script = says(  # type: ignore[union-attr]
        CODEC.encode("hello", special_tokens=False), len(engine.message_ids(message)), END
    )

    async def main() -> tuple[str, str]:
        pieces = [piece async for piece in engine.astream_chat(message)]
        return (await engine.achat(message)).text, "".join(pieces)

    assert asyncio.run(main()) == ("hello", "hello") == (engine.chat(message).text,) * 2


def test_errors_of_an_awaited_answer_arrive(tmp_path: Path) -> None:
    engine = saying(tmp_path, "hello", "hi")
    with pytest.raises(InputError, match="empty"):
        asyncio.run(engine.agenerate(" "))


def test_threads_that_share_an_engine_get_what_they_get_alone(tiny: Engine) -> None:
    alone = [tiny.generate_ids([prompt], max_new_tokens=20)[0].token_ids for prompt in PROMPTS]
    answers: dict[int, list[Any]] = {}

    def work(number: int) -> None:
        answers[number] = [tiny.generate_ids([prompt], max_new_tokens=20)[0].token_ids for prompt in PROMPTS]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == dict.fromkeys(range(4), alone)


def test_calls_of_the_backend_never_overlap(tiny: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most, real = 0, 0, tiny.backend.forward

    def watched(*arguments: Any, **more: Any) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.001)
        try:
            return real(*arguments, **more)
        finally:
            inside -= 1

    monkeypatch.setattr(tiny.backend, "forward", watched)
    work = [
        lambda: tiny.generate_ids([PROMPTS[0]], max_new_tokens=10, logprobs=0),
        lambda: tiny.generate_ids([PROMPTS[1]], max_new_tokens=10, num_beams=2),
        lambda: tiny.score([3, 4, 5, 6]),
        lambda: list(tiny.generate_many([], max_new_tokens=3)),
    ]
    threads = [threading.Thread(target=one) for one in work * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_closing_waits_for_the_step_of_another_thread(tmp_path: Path) -> None:
    engine = saying(tmp_path, "hello", "hi")
    begun, order = threading.Event(), []
    real = engine.backend.forward

    def slow(*arguments: Any, **more: Any) -> Any:
        begun.set()
        time.sleep(0.1)
        order.append("step")
        return real(*arguments, **more)

    engine.backend.forward = slow  # type: ignore[method-assign]
    engine.backend.close = lambda: order.append("close")  # type: ignore[method-assign]
    thread = threading.Thread(target=lambda: engine.generate("hi", chat=False, max_new_tokens=1))
    thread.start()
    begun.wait(20)
    engine.close()
    thread.join()
    assert order == ["step", "close"]


def test_many_prompts_are_texts_and_conversations(tmp_path: Path) -> None:
    engine = saying(tmp_path, "hello", "hi")
    engine._opened._script = lambda tokens: END  # type: ignore[union-attr]
    prompts = ["hi", Prompt(text="there", seed=4), Prompt(messages=[{"role": "user", "content": "hi"}])]
    results = list(engine.generate_many(prompts, batch_size=2, in_order=True))
    assert [item.prompt for item in results] == prompts
    assert results[0].result.prompt_tokens == results[2].result.prompt_tokens == engine.count_tokens("hi")


@pytest.mark.parametrize("arguments", [{"prompts": "text"}, {"prompts": 7}, {"batch_size": 0}, {"on_error": "skip"}])
def test_what_cannot_be_many_prompts_is_refused_at_once(tiny: Engine, arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        tiny.generate_many(**({"prompts": ["hi"]} | arguments))


def test_tokens_are_counted_as_the_model_reads_them(tmp_path: Path) -> None:
    engine = saying(tmp_path, "hello", "hi")
    message = [{"role": "user", "content": "hi"}]
    assert engine.count_tokens("hi", chat=False) == len(engine.tokenize("hi")) == 2
    assert engine.count_tokens("hi") == engine.count_tokens(message) == len(engine.message_ids(message)) > 2
    assert engine.context_length == 512


def test_logprobs_have_the_texts_of_their_tokens(tmp_path: Path) -> None:
    engine = saying(tmp_path, "hello world", "hi")
    result = engine.generate("hi", chat=False, logprobs=1)
    assert result.logprobs is not None
    assert "".join(item.text for item in result.logprobs) == "hello world" + IM_END
    assert [item.top_texts for item in result.logprobs] == [(item.text,) for item in result.logprobs]
