from __future__ import annotations

from jisu.runtimes.generation.stopping import Stopping, StopStrings


def run(stops: list[str], pieces: list[str]) -> tuple[list[str], bool]:
    watch = StopStrings(stops)
    shown = []
    for piece in pieces:
        text, stopped = watch.push(piece)
        shown.append(text)
        if stopped:
            return shown, True
    return [*shown, watch.flush()], False


def test_text_without_stops_passes_through() -> None:
    assert run([], ["a", "b"]) == (["a", "b", ""], False)


def test_a_stop_split_over_pieces_is_never_shown() -> None:
    assert run(["END"], ["text E", "N", "D more"]) == (["text ", "", ""], True)


def test_the_beginning_of_a_stop_is_shown_when_it_was_none() -> None:
    assert run(["END"], ["E", "N", "d"]) == (["", "", "ENd", ""], False)


def test_what_is_held_back_comes_at_the_end() -> None:
    assert run(["END"], ["aEN"]) == (["a", "EN"], False)


def test_the_first_of_several_stops_ends_the_text() -> None:
    assert run(["late", "b"], ["a b late"]) == (["a "], True)


def test_overlapping_beginnings_are_found() -> None:
    assert run(["aab"], ["aa", "ab"]) == (["", "a"], True)


def test_stop_of_several_code_points() -> None:
    assert run(["。\n"], ["好。", "\n"]) == (["好", ""], True)


def test_end_token_beats_the_limit() -> None:
    stopping = Stopping(limits=[1], eos=[5])
    assert stopping.observe(0, 5)
    assert stopping.reasons == ["eos"]


def test_rows_end_by_themselves() -> None:
    stopping = Stopping(limits=[2, 3, 3], eos=[5], stop_ids=[6])
    assert not stopping.observe(0, 1)
    assert not stopping.observe(1, 1)
    assert stopping.observe(2, 6)
    assert stopping.active == [0, 1]
    assert not stopping.observe(0, 1)
    stopping.finish(1, "stop")
    assert stopping.reasons == ["length", "stop", "stop"]
    assert stopping.active == []
