"""The worked example: a server that says hello and a client that answers, on the model and on the machine's kernel."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.example import PACES, Told, differences, nearest_run, on_kernel, on_model
from refmodel.host.example import HELLO, HI
from refmodel.profile import nearest


def results(told: Told, who: str) -> list[tuple[str, int | bytes]]:
    return [(d.call.name, d.result) for d in told.calls[who]]


def test_every_call_returns_what_the_introduction_to_sockets_says() -> None:
    told = on_model()
    assert results(told, "server") == [
        ("socket", 3), ("setsockopt", 0), ("bind", 0), ("listen", 0), ("accept", 4), ("send", len(HELLO)),
        ("recv", HI), ("close", 0), ("close", 0),
    ]  # fmt: skip
    assert results(told, "client") == [("socket", 3), ("connect", 0), ("recv", HELLO), ("send", len(HI)), ("close", 0)]


def test_the_wire_carries_a_question_for_the_address_a_handshake_two_messages_and_two_ends() -> None:
    told = on_model()
    assert [f"{x.sender} {x.what}" for x in told.frames] == [
        "client ARP who has server", "server ARP is at server", "client SYN", "server SYN+ACK", "client ACK",
        "server PSH+ACK", "client ACK", "client PSH+ACK", "server ACK", "client FIN+ACK", "server FIN+ACK",
        "client ACK",
    ]  # fmt: skip
    assert [x.payload for x in told.frames if x.length] == [HELLO, HI]


def test_who_is_slower_closes_second() -> None:
    ends = {pace: next(x.sender for x in on_model(pace=pace).frames if "FIN" in x.what) for pace in PACES}
    assert ends == {(0, 0): "client", (0, 10): "server", (10, 0): "client"}


@given(pace=st.tuples(st.integers(0, 3_000), st.integers(0, 3_000)))
def test_however_slow_the_programs_are_their_calls_return_the_same(pace: tuple[int, int]) -> None:
    told, prompt = on_model(pace=pace), on_model()
    assert {who: results(told, who) for who in ("server", "client")} == {
        who: results(prompt, who) for who in ("server", "client")
    }
    assert [x.payload for x in told.frames if x.length] == [HELLO, HI]


@pytest.mark.live
def test_the_running_kernel_makes_the_same_calls_and_frames() -> None:
    from conformance.live.errors import LabUnavailable, RecordError

    for _ in range(3):
        try:
            live = on_kernel()
        except LabUnavailable as why:
            pytest.skip(str(why))
        except RecordError:
            continue
        found = differences(nearest_run(live, nearest(os.uname().release)), live)
        if not found:
            return
    pytest.fail("\n".join(found))
