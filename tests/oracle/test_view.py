"""A tap is no witness of more than it saw: copies, stamps of two processors, SYNs cut short, frames it lost."""

import struct
from collections.abc import Sequence

from conformance.check.setup import Setup
from conformance.check.verdict import Outcome, Verdict
from conformance.oracle.connection import Connection
from conformance.oracle.evidence import Evidence
from conformance.oracle.view import View, cut, each_twice, in_order
from refmodel.packet.segment import Segment, segment
from tests.oracle.frames import ACK, APORT, BPORT, FIN, PSH, SYN, A, B, Tap, syn_options, ts

SIDES = ((A, APORT), (B, BPORT))


def exchange(requests: int = 3) -> list[Segment]:
    """A handshake, requests of 100 bytes each answered by 200, and A's close, which B acknowledges and follows."""
    tap = Tap()
    a, b = 1001, 5001
    out = [
        tap.frame(0, SYN, 1000, options=syn_options(1000), window=64240, ip_id=40),
        tap.frame(1, SYN | ACK, 5000, 1001, options=syn_options(7000, 1000), window=65160, after=20),
        tap.frame(0, ACK, a, b, options=ts(1000, 7000), ip_id=41),
    ]
    for n in range(requests):
        stamp = ts(1000, 7000)
        out.append(tap.frame(0, ACK | PSH, a, b, payload=bytes(100), options=stamp, ip_id=42 + 2 * n))
        a += 100
        out.append(tap.frame(1, ACK | PSH, b, a, payload=bytes(200), options=stamp_back(), window=509, ip_id=80 + n))
        b += 200
        out.append(tap.frame(0, ACK, a, b, options=stamp, ip_id=43 + 2 * n))
    out.append(tap.frame(0, ACK | FIN, a, b, options=ts(1000, 7000), ip_id=42 + 2 * requests))
    out.append(tap.frame(1, ACK | FIN, b, a + 1, options=stamp_back(), window=509, ip_id=80 + requests))
    out.append(tap.frame(0, ACK, a + 1, b + 1, options=ts(1000, 7000), ip_id=43 + 2 * requests))
    return out


def stamp_back() -> bytes:
    """B's timestamp option."""
    return ts(7000, 1000)


def renumbered(frames: Sequence[Segment]) -> list[Segment]:
    """The frames as a file numbers them."""
    return [s.changed(number=n) for n, s in enumerate(frames, 1)]


def twice(frames: Sequence[Segment]) -> list[Segment]:
    """Each frame again 1 us later, as on a bridge and its port."""
    return renumbered([x for s in frames for x in (s, s.changed(time=s.time + 1000))])


def exchanged(frames: Sequence[Segment], k: int) -> list[Segment]:
    """Frame `k` and the next with each other's stamp and place."""
    a, b = frames[k], frames[k + 1]
    return renumbered([*frames[:k], b.changed(time=a.time), a.changed(time=b.time), *frames[k + 2 :]])


def said(frames: Sequence[Segment]) -> Verdict:
    c = Connection(frames[0], Setup(kernel="6.12"))
    for s in frames:
        c.feed(s)
    return c.verdict(frames[-1].time // 1000)


def seen(frames: Sequence[Segment]) -> tuple[View, list[Segment]]:
    view = View()
    out = [x for s in frames for x in view.takes(s)]
    return view, [*out, *view.rest()]


def test_the_exchange_conforms_as_it_is_and_the_view_changes_nothing() -> None:
    assert said(exchange()).outcome is Outcome.CONFORMS
    view, out = seen(exchange())
    assert out == exchange()
    assert not view.copies
    assert not view.skewed


def test_frames_that_the_tap_saw_twice_were_sent_once() -> None:
    v = said(twice(exchange()))
    assert v.outcome is Outcome.CONFORMS
    assert sum(x.by == "copy" for x in v.labels) == len(exchange())
    assert v.counters["10.0.0.1:40000"]["Tcp.OutSegs"] == said(exchange()).counters["10.0.0.1:40000"]["Tcp.OutSegs"]


def test_a_single_frame_that_the_tap_saw_twice_is_no_retransmission() -> None:
    frames = exchange()
    v = said(renumbered([*frames[:4], frames[3].changed(time=frames[3].time + 2000), *frames[4:]]))
    assert v.outcome is Outcome.CONFORMS


def test_a_copy_has_the_bytes_and_the_id_of_its_original_and_comes_soon() -> None:
    s = exchange()[3]
    for other in (
        s.changed(number=99, time=s.time + 300_000),
        s.changed(number=99, ip_id=(s.ip_id or 0) + 1),
        s.changed(number=99, data=s.data[:-1] + b"x"),
    ):
        view, _ = seen([s, other])
        assert not view.copies
    assert seen([s, s.changed(number=99, ttl=63)])[0].copies == {99: s.number}  # a router on the tap's host
    assert seen([s.changed(ttl=63), s.changed(number=99)])[0].copies == {99: s.number}  # stamped in the other order
    assert seen([s, s.changed(number=99, data=s.data + bytes(6))])[0].copies == {99: s.number}  # padded by Ethernet


def test_a_tap_sees_each_frame_twice_only_if_none_came_once() -> None:
    frames = twice(exchange())
    copies = seen(frames)[0].copies
    assert each_twice(frames[:8], copies)
    assert each_twice(frames[:7], copies)  # the last one's copy is yet to come
    assert not each_twice([frames[0], *frames[2:9]], copies)


def test_an_answer_that_was_stamped_first_goes_behind_its_question() -> None:
    frames = exchanged(exchange(), 3)  # B's answer before A's request
    view, out = seen(frames)
    assert view.skewed
    assert [(s.source, s.seq) for s in out] == [(s.source, s.seq) for s in exchange()]
    assert [s.time for s in out] == sorted(s.time for s in out)
    assert said(frames).outcome is Outcome.CONFORMS


def test_stamps_that_are_further_apart_are_no_ones_mistake() -> None:
    frames = exchange()
    late = [s.changed(time=s.time + 1_000_000) if k >= 4 else s for k, s in enumerate(frames)]
    assert said(late).outcome is Outcome.CONFORMS
    frames = exchanged(late, 3)
    view, out = seen(frames)
    assert not view.skewed
    assert out == frames
    assert said(frames).outcome is Outcome.DIVERGES


def test_a_syn_ack_stamped_before_its_syn_opens_the_connection_all_the_same() -> None:
    frames = exchanged(exchange(), 0)
    assert in_order(frames[:3])[0].flags == SYN
    v = said(frames)
    assert v.outcome is Outcome.CONFORMS
    assert v.subject == said(exchange()).subject


def snapped(frames: Sequence[Segment], size: int = 64) -> list[Segment]:
    out = []
    for s in frames:
        x = segment(s.number, s.time, s.data[:size], s.linktype, s.orig_len)
        assert x is not None
        out.append(x)
    return out


def test_where_the_syns_options_were_cut_off_nothing_is_agreed_on() -> None:
    frames = snapped(exchange())
    assert cut(frames[0])
    assert not cut(frames[3])
    assert said(frames).outcome is Outcome.CONFORMS
    alone = said(frames[:1])
    assert alone.outcome is Outcome.INCONCLUSIVE
    assert "cut off" in alone.reason


def test_a_connection_that_began_before_the_capture_is_not_held_to_what_came_before() -> None:
    frames = exchange()
    back = frames[3].changed(seq=frames[3].seq + 5000, number=frames[3].number)
    assert said(renumbered([*frames[3:6], back, *frames[6:]])).outcome is not Outcome.DIVERGES


def test_what_a_frame_shows_alone_is_held_against_it_in_any_capture() -> None:
    frames = exchange()
    data = bytearray(frames[5].data)
    struct.pack_into("!B", data, frames[5].l4 + 12, data[frames[5].l4 + 12] | 0x0E)  # reserved bits
    bad = segment(frames[5].number, frames[5].time, bytes(data), frames[5].linktype, frames[5].orig_len)
    assert bad is not None
    v = said(renumbered([*frames[3:5], bad, *frames[6:]]))
    assert v.outcome is Outcome.DIVERGES
    assert v.divergence is not None
    assert v.divergence.constraint == "reserved-bits"


def test_bytes_that_arrived_though_no_frame_brought_them_show_that_the_capture_lacks_frames() -> None:
    frames = exchange()
    assert not Evidence(frames, True).unseen(SIDES)
    without = frames[:7] + frames[8:]  # B's second answer, which A acknowledges
    assert "arrived" in Evidence(without, True).unseen(SIDES)
    assert said(renumbered(without)).outcome is not Outcome.DIVERGES


def test_a_hole_that_a_later_frame_fills_does_not() -> None:
    frames = exchange()
    again = frames[7].changed(time=frames[9].time + 1000, number=99)
    assert not Evidence([*frames[:7], *frames[8:10], again, *frames[10:]], True).unseen(SIDES)


def test_a_handshake_without_its_syn_ack_shows_it_too() -> None:
    frames = exchange()
    assert "SYN-ACK" in Evidence([frames[0], *frames[2:]], True).unseen(SIDES)
    assert said(renumbered([frames[0], *frames[2:]])).outcome is not Outcome.DIVERGES


def test_a_number_too_far_by_one_is_no_loss() -> None:
    frames = exchange()
    s = frames[7]
    assert not Evidence([*frames[:7], s.changed(seq=s.seq + 1), *frames[8:]], True).unseen(SIDES)


def unnumbered(frames: Sequence[Segment]) -> list[Segment]:
    """The frames as of IPv6: without ids."""
    return [s.changed(ip_id=None) for s in frames]


def test_a_byte_that_was_lost_is_told_from_a_fin_that_was_cleared_by_what_comes_behind() -> None:
    tap = Tap()
    opening = exchange()[:3]
    tap.number, tap.us = 3, opening[-1].time // 1000
    heard = tap.frame(1, ACK, 5001, 1002, options=stamp_back())
    silent = tap.frame(0, ACK, 1002, 5001, options=ts(1000, 7000))
    goes_on = tap.frame(0, ACK | PSH, 1002, 5001, payload=b"x", options=ts(1000, 7000))
    end = tap.frame(1, ACK, 5001, 1003, options=stamp_back())
    assert not Evidence(unnumbered([*opening, heard, silent, end.changed(ack_seq=1002)]), True).unseen(SIDES)
    assert "1 bytes" in Evidence(unnumbered([*opening, heard, silent, goes_on, end]), True).unseen(SIDES)


def test_what_was_acknowledged_before_its_sender_went_on_behind_it_arrived() -> None:
    frames = exchange(2)
    lost = frames[:3] + frames[4:]  # A's first request
    unanswered = [s for s in lost if s.source == BPORT or s.seq <= 1101]
    first = next(k for k, s in enumerate(unanswered) if s.source == APORT and s.seq == 1101)
    assert "100 bytes" in Evidence(unanswered[: first + 1], True).unseen(SIDES)


def test_a_time_wait_socket_behind_a_router_may_answer_what_was_overtaken() -> None:
    frames = exchange()
    last = frames[-1]
    twice_acked = [*frames[:-1], last.changed(ip_id=0), last.changed(ip_id=0, time=last.time + 900_000)]
    assert said(renumbered(twice_acked)).outcome is Outcome.DIVERGES
    far = [s.changed(ttl=63) if s.source == APORT else s for s in twice_acked]
    assert said(renumbered(far)).outcome is Outcome.CONFORMS


def ticking(frames: Sequence[Segment], ms: int) -> list[Segment]:
    """The frames with timestamps that grow by `ms` from frame to frame."""
    out = []
    for k, s in enumerate(frames):
        assert s.tsval is not None
        out.append(s.changed(tsval=s.tsval + k * ms))
    return out


def test_two_ends_that_count_another_time_than_the_capture_show_that_it_has_no_clock() -> None:
    frames = exchange()
    assert not Evidence(frames, True).clock(SIDES)
    assert "both ends" in Evidence(ticking(frames, 40), True).clock(SIDES)
    one = [t if s.source == APORT else s for s, t in zip(frames, ticking(frames, 40), strict=True)]
    assert not Evidence(one, True).clock(SIDES)  # an end's own clock may be wrong


def test_one_odd_timestamp_of_each_end_shows_nothing_of_the_capture() -> None:
    frames = exchange()
    odd = {4: 100_000, 6: 100_000}
    changed = [s.changed(tsval=(s.tsval or 0) + odd.get(s.number, 0)) for s in frames]
    assert not Evidence(changed, True).clock(SIDES)


def test_a_stamp_a_second_back_is_no_clocks() -> None:
    frames = exchange()
    back = [s.changed(time=s.time - (2_000_000_000 if s.number > 6 else 0)) for s in frames]
    assert "before frame" in Evidence(back, True).clock(SIDES)


def test_an_input_of_one_interrupt_may_be_processed_behind_the_answer_to_another() -> None:
    """B's two segments come at once; A answers the first, and echoes the second only in what it sends next."""
    tap = Tap()
    frames = [
        tap.frame(0, SYN, 1000, options=syn_options(1000), window=64240, ip_id=40),
        tap.frame(1, SYN | ACK, 5000, 1001, options=syn_options(7000, 1000), window=65160, after=20_000),
        tap.frame(0, ACK, 1001, 5001, options=ts(1020, 7000), ip_id=41),
        tap.frame(0, ACK | PSH, 1001, 5001, payload=bytes(9), options=ts(1020, 7000), ip_id=42),
        tap.frame(1, ACK | PSH, 5001, 1001, payload=bytes(66), options=ts(7020, 1020), window=509, after=20_000),
        tap.frame(1, ACK, 5067, 1010, options=ts(7022, 1020), window=509, after=1),
        tap.frame(0, ACK, 1010, 5067, options=ts(1040, 7020), ip_id=43, after=17),
        tap.frame(0, ACK | PSH, 1010, 5067, payload=bytes(38), options=ts(1040, 7022), ip_id=44, after=240),
    ]
    plain = [s.changed(ip_id=None) if s.source == BPORT else s for s in frames]
    assert said(plain).outcome is Outcome.CONFORMS
    assert said([*plain[:7], plain[7].changed(tsecr=7021)]).outcome is Outcome.DIVERGES
