from __future__ import annotations

import asyncio
import copy
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.conversation import Conversation
from jisu.runtimes.engine import Engine
from jisu.runtimes.generation.options import SamplingOptions
from jisu.runtimes.generation.text import TextCodec
from tests.runtimes.tiny_models import ListState
from tests.runtimes.tiny_text import IM_END, ScriptedBackend, byte_level_tokenizer, text_artifact

TOKENIZER = byte_level_tokenizer()
CODEC = TextCodec(TOKENIZER)
END = TOKENIZER.token_to_id(IM_END)
ANSWER = CODEC.encode("hello!", special_tokens=False)
ASKS = CODEC.encode("assistant\n", special_tokens=False)


def parrot(tokens: list[int]) -> int:
    """Says the answer after every request for the assistant's words."""
    for said in range(len(ANSWER) + 1):
        if tokens[: len(tokens) - said][-len(ASKS) :] == ASKS and tokens[len(tokens) - said :] == ANSWER[:said]:
            return [*ANSWER, END][said]
    return END


def talk(tmp_path: Path, **facts: Any) -> tuple[Conversation, ScriptedBackend]:
    artifact = text_artifact(tmp_path / "a", eos=[END], **facts)
    backend = ScriptedBackend(TOKENIZER.get_vocab_size(), parrot, artifact.manifest.model.max_positions)
    return Conversation(Engine(artifact, backend), options=SamplingOptions(max_new_tokens=20)), backend


def test_a_turn_computes_only_what_is_new(tmp_path: Path) -> None:
    conversation, backend = talk(tmp_path)
    assert "".join(conversation.ask("hi")) == "hello!"
    first = backend.calls[0][1]
    assert conversation.reused_tokens == 0
    backend.calls.clear()
    assert "".join(conversation.ask("again")) == "hello!"
    # Everything up to the answer's end is in the state; the end token was sampled but never run.
    assert conversation.reused_tokens == first + len(ANSWER)
    whole = CODEC.encode("<|im_end|>\n<|im_start|>user\nagain<|im_end|>\n<|im_start|>assistant\n", special_tokens=False)
    assert backend.calls[0] == (1, len(whole))
    assert [message["role"] for message in conversation.messages] == ["user", "assistant"] * 2


def test_answers_with_reuse_equal_those_without(tmp_path: Path) -> None:
    conversation, _ = talk(tmp_path)
    for text in ("hi", "你好", "a long question " * 8, "x"):
        list(conversation.ask(text))
        result = conversation.last_result
        assert result is not None
        alone = conversation._engine.chat(conversation.messages[:-1], max_new_tokens=20)
        assert (result.text, result.token_ids) == (alone.text, alone.token_ids)


def test_a_longer_conversation_gets_a_larger_state(tmp_path: Path) -> None:
    conversation, _ = talk(tmp_path)
    list(conversation.ask("hi"))
    small = conversation._state.capacity  # type: ignore[union-attr]
    list(conversation.ask("long " * 30))
    assert conversation._state.capacity > small  # type: ignore[union-attr]
    assert conversation._state.capacity <= 512  # type: ignore[union-attr]


def test_an_answer_broken_off_stays_and_the_next_turn_is_right(tmp_path: Path) -> None:
    conversation, _ = talk(tmp_path)
    with closing(conversation.ask("hi")) as pieces:
        next(pieces)
    assert conversation.last_result is None
    assert conversation.messages[-1]["role"] == "assistant"
    assert "hello!".startswith(conversation.messages[-1]["content"])
    assert "".join(conversation.ask("again")) == "hello!"


def test_a_failed_call_does_not_spoil_the_next_turn(tmp_path: Path) -> None:
    conversation, backend = talk(tmp_path)
    list(conversation.ask("hi"))
    forward = backend.forward

    def interrupted(*args: Any, **options: Any) -> None:
        forward(*args, **options)
        raise KeyboardInterrupt

    backend.forward = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        list(conversation.ask("again"))
    assert conversation._state is None
    backend.forward = forward  # type: ignore[method-assign]
    assert "".join(conversation.ask("more")) == "hello!"
    assert conversation.reused_tokens == 0


def test_a_message_that_does_not_fit_is_not_remembered(tmp_path: Path) -> None:
    conversation, _ = talk(tmp_path, max_positions=60)
    with pytest.raises(InputError, match="positions"):
        conversation.ask("x" * 80)
    assert conversation.messages == []
    assert "".join(conversation.ask("hi")) == "hello!"


def test_reset_keeps_the_system_message(tmp_path: Path) -> None:
    plain, _ = talk(tmp_path)
    conversation = Conversation(plain._engine, system="be kind", options=SamplingOptions(max_new_tokens=20))
    list(conversation.ask("hi"))
    conversation.reset()
    assert conversation.messages == [{"role": "system", "content": "be kind"}]
    list(conversation.ask("hi"))
    assert conversation.reused_tokens > 0


def test_a_state_that_cannot_go_back_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation, _ = talk(tmp_path)
    rewind = ListState.rewind

    def recurrent(state: ListState, lengths: np.ndarray) -> None:
        if 0 < lengths[0] < state.lengths[0]:
            raise InputError("A recurrent state cannot be rewound")
        rewind(state, lengths)

    monkeypatch.setattr(ListState, "rewind", recurrent)
    list(conversation.ask("hi"))
    conversation.reset()
    assert "".join(conversation.ask("ho")) == "hello!"
    assert conversation.reused_tokens == 0


def roles(conversation: Conversation) -> list[str]:
    return [message["role"] for message in conversation.messages]


def test_an_answer_that_was_never_begun_takes_its_message_back(tmp_path: Path) -> None:
    conversation, _ = talk(tmp_path)
    conversation.ask("lost")
    assert "".join(conversation.ask("hi")) == "hello!"
    assert [message["content"] for message in conversation.messages] == ["hi", "hello!"]
    with conversation.ask("lost"):
        pass
    assert roles(conversation) == ["user", "assistant"]


def test_the_next_message_ends_an_open_answer(tmp_path: Path) -> None:
    conversation, _ = talk(tmp_path)
    first = conversation.ask("one")
    said = next(first)
    second = conversation.ask("two")
    begun = next(second)
    with pytest.raises(InputError, match=r"(?s)ended before it was finished.*another message was sent"):
        next(first)
    first.close()
    assert begun + "".join(second) == "hello!"
    assert conversation.messages == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": said},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "hello!"},
    ]
    alone = conversation._engine.chat(conversation.messages[:-1], max_new_tokens=20)
    assert alone.token_ids == conversation.last_result.token_ids  # type: ignore[union-attr]


def test_a_late_piece_does_not_come_into_a_new_conversation(tmp_path: Path) -> None:
    conversation, _ = talk(tmp_path)
    answer = conversation.ask("one")
    next(answer)
    conversation.reset()
    assert conversation.messages == []
    with pytest.raises(InputError, match="the conversation was reset"):
        list(answer)
    answer.close()
    assert conversation.messages == []
    assert "".join(conversation.ask("hi")) == "hello!"
    assert list(answer.__class__.__iter__(conversation.ask("x"))) != []


def test_a_finished_answer_may_be_closed_and_asked_again(tmp_path: Path) -> None:
    conversation, _ = talk(tmp_path)
    answer = conversation.ask("one")
    assert "".join(answer) == "hello!"
    answer.close()
    assert list(answer) == []
    assert roles(conversation) == ["user", "assistant"]
    conversation.ask("two").close()
    assert list(answer) == []


def test_special_tokens_that_are_shown_are_not_in_the_history(tmp_path: Path) -> None:
    plain, _ = talk(tmp_path)
    conversation = Conversation(plain._engine, options=SamplingOptions(max_new_tokens=20, special_tokens=True))
    assert "".join(conversation.ask("hi")) == "hello!<|im_end|>"
    assert conversation.messages[-1]["content"] == "hello!"


def test_an_answer_has_the_room_that_is_left(tmp_path: Path) -> None:
    conversation, _ = talk(tmp_path, max_positions=70)
    conversation._options = SamplingOptions(max_new_tokens=4096)
    assert "".join(conversation.ask("hi")) == "hello!"
    engine = conversation._engine
    result = engine.chat([{"role": "user", "content": "hi"}], max_new_tokens=4096, ignore_eos=True)
    assert (result.finish_reason, result.prompt_tokens + len(result.token_ids)) == ("length", 70)
    with pytest.raises(InputError, match="positions"):
        engine.generate("hi", max_new_tokens=4096)


def test_the_oldest_turns_are_left_out_on_request(tmp_path: Path) -> None:
    plain, _ = talk(tmp_path, max_positions=160)
    conversation = Conversation(
        plain._engine, system="be kind", options=SamplingOptions(max_new_tokens=20), drop_oldest=True
    )
    for turn in range(9):
        assert "".join(conversation.ask(f"question {turn}")) == "hello!"
    assert len(conversation.messages) == 19
    assert 0 < conversation.dropped_messages < 18
    assert conversation.dropped_messages % 2 == 0
    result = conversation.last_result
    assert result is not None
    kept = [conversation.messages[0], *conversation.messages[1 + conversation.dropped_messages : -1]]
    assert conversation._engine.chat(kept, max_new_tokens=20).token_ids == result.token_ids
    assert conversation._engine.chat(conversation.messages[:-1], drop_oldest=True).prompt_tokens <= 160
    with pytest.raises(InputError, match="too long"):
        conversation.ask("x" * 200)
    conversation._drops = False
    with pytest.raises(InputError, match="too long"):
        conversation.ask("one more")
    assert len(conversation.messages) == 19


def test_a_copy_goes_on_from_the_same_history(tmp_path: Path) -> None:
    conversation, _ = talk(tmp_path)
    list(conversation.ask("hi"))
    twin = copy.copy(conversation)
    twin.messages = list(conversation.messages)
    assert "".join(twin.ask("more")) == "hello!"
    assert twin.reused_tokens == 0
    assert len(conversation.messages) == 2


class SlowBackend(ScriptedBackend):
    """Takes a while for each call, and remembers the threads that called it."""

    threads: set[int]
    seconds = 0.02

    def forward(self, *arguments: Any, **more: Any) -> Any:
        time.sleep(self.seconds)
        self.threads.add(threading.get_ident())
        return super().forward(*arguments, **more)


def slow_talk(tmp_path: Path) -> tuple[Conversation, SlowBackend]:
    artifact = text_artifact(tmp_path / "a", eos=[END])
    backend = SlowBackend(TOKENIZER.get_vocab_size(), parrot, artifact.manifest.model.max_positions)
    backend.threads = set()
    return Conversation(Engine(artifact, backend), options=SamplingOptions(max_new_tokens=20)), backend


def test_an_awaited_answer_is_the_same_and_computed_elsewhere(tmp_path: Path) -> None:
    async def main() -> None:
        conversation, backend = slow_talk(tmp_path)
        for text in ("hi", "again"):
            assert "".join([piece async for piece in conversation.aask(text)]) == "hello!"
        assert conversation.reused_tokens > 0
        assert threading.get_ident() not in backend.threads
        assert [message["role"] for message in conversation.messages] == ["user", "assistant"] * 2
        assert conversation.last_result is not None and conversation.last_result.text == "hello!"

    asyncio.run(main())


def test_a_cancelled_answer_computes_no_further_and_the_next_message_is_answered(tmp_path: Path) -> None:
    async def main() -> None:
        conversation, backend = slow_talk(tmp_path)
        pieces: list[str] = []

        async def take() -> None:
            async for piece in conversation.aask("hi"):
                pieces.append(piece)

        task = asyncio.create_task(take())
        while len(pieces) < 2:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.1)
        calls = len(backend.calls)
        await asyncio.sleep(0.1)
        assert len(backend.calls) == calls <= len(pieces) + 2
        assert "".join([piece async for piece in conversation.aask("again")]) == "hello!"
        assert [message["content"] for message in conversation.messages] == ["hi", "".join(pieces), "again", "hello!"]

    asyncio.run(main())


def test_a_wait_for_a_piece_that_is_given_up_loses_none(tmp_path: Path) -> None:
    async def main() -> None:
        conversation, _ = slow_talk(tmp_path)
        answer, said = conversation.aask("hi"), ""
        while len(said) < len("hello!"):
            try:
                said += await asyncio.wait_for(answer.__anext__(), 0.005)
            except (asyncio.TimeoutError, TimeoutError):
                continue
        assert said == "hello!"
        assert [piece async for piece in answer] == []

    asyncio.run(main())


def test_a_closed_awaited_answer_stays_as_far_as_it_was_taken(tmp_path: Path) -> None:
    async def main() -> None:
        conversation, backend = slow_talk(tmp_path)
        async with conversation.aask("hi") as answer:
            said = await answer.__anext__()
        assert [piece async for piece in answer] == []
        assert conversation.messages[-1] == {"role": "assistant", "content": said}
        unread = conversation.aask("never begun")
        await unread.aclose()
        assert len(conversation.messages) == 2
        left = conversation.aask("one")
        await left.__anext__()
        await conversation.aask("two").__anext__()
        with pytest.raises(InputError, match="another message was sent"):
            await left.__anext__()
        assert len(backend.calls) >= 3

    asyncio.run(main())


def test_awaited_answers_and_threads_take_turns_step_by_step(tmp_path: Path) -> None:
    conversation, _ = slow_talk(tmp_path)
    order: list[str] = []

    def in_a_thread() -> None:
        for _ in conversation._engine.stream("hi", max_new_tokens=20):
            order.append("thread")

    async def main() -> None:
        other = Conversation(conversation._engine, options=SamplingOptions(max_new_tokens=20))
        thread = threading.Thread(target=in_a_thread)

        async def take(name: str, talk: Conversation) -> None:
            async for _ in talk.aask("hi"):
                order.append(name)

        thread.start()
        await asyncio.gather(take("one", conversation), take("two", other))
        await asyncio.to_thread(thread.join, 10)

    asyncio.run(main())
    assert {name: order.count(name) for name in set(order)} == dict.fromkeys(("one", "two", "thread"), len(ANSWER))
    lasts = [len(order) - order[::-1].index(name) for name in ("one", "two", "thread")]
    firsts = [order.index(name) for name in ("one", "two", "thread")]
    assert max(firsts) < min(lasts), f"nobody waits until another is through: {order}"
