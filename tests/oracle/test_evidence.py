"""A hypothesis needs a trace in the capture, and what the capture refutes excuses nothing."""

import struct

from conformance.oracle.end import Excuse
from conformance.oracle.evidence import Evidence
from refmodel.packet.segment import Segment
from tests.oracle.frames import ACK, APORT, BPORT, PSH, SYN, A, B, Tap, ts

TO_A, TO_B = (A, APORT), (B, BPORT)
TEXT = bytes(100)
MS = 1_000


class Talk:
    """A (side 0) sends, B (side 1) acknowledges; ids count up from 100 unless a frame is given its own."""

    def __init__(self) -> None:
        self.tap, self.frames, self.id = Tap(), list[Segment](), 100

    def data(self, seq: int, after: int = 10, step: int = 1, **given: object) -> Segment:
        """100 bytes of A at `seq`; its id is `step` above the last."""
        self.id += step
        return self.add(self.tap.frame(0, ACK | PSH, seq, 1, payload=TEXT, after=after, ip_id=self.id, **given))  # type: ignore[arg-type]

    def ack(self, ack: int, after: int = 10, **given: object) -> Segment:
        """An acknowledgment of B."""
        return self.add(self.tap.frame(1, ACK, 1, ack, after=after, **given))  # type: ignore[arg-type]

    def add(self, s: Segment) -> Segment:
        self.frames.append(s)
        return s

    def shown(self) -> Evidence:
        return Evidence(self.frames, True)


def test_a_repeated_segment_shows_that_frames_are_lost_behind_the_tap() -> None:
    t = Talk()
    t.data(1)
    assert not t.shown().loses(TO_B)
    t.data(1, after=250 * MS)
    assert "repeats" in t.shown().loses(TO_B)


def test_a_segment_that_the_network_doubled_does_not() -> None:
    t = Talk()
    t.data(1)
    t.data(1, after=100, step=0)
    assert not t.shown().loses(TO_B)


def test_repeating_what_was_acknowledged_shows_that_the_acknowledgment_was_lost() -> None:
    t = Talk()
    t.data(1)
    t.ack(101)
    t.data(1, after=250 * MS)
    assert "acknowledged" in t.shown().loses(TO_A)


def test_sack_blocks_around_a_frame_show_that_it_was_lost() -> None:
    t = Talk()
    t.data(1)
    t.data(101)
    t.data(201)
    blocks = b"\x01\x01\x05\x0a" + (201).to_bytes(4, "big") + (301).to_bytes(4, "big")
    t.ack(101, options=blocks)
    assert "around frame 2" in t.shown().loses(TO_B) or "around" in t.shown().loses(TO_B)


def test_data_that_is_acknowledged_without_a_copy_was_not_dropped() -> None:
    t = Talk()
    x = t.data(1)
    t.ack(101)
    assert not t.shown().credible(Excuse("dropped", x.number, ""), TO_B)


def test_of_a_copy_of_what_had_been_acknowledged_the_acknowledgment_tells_nothing() -> None:
    t = Talk()
    t.data(1)
    t.ack(101)
    x = t.data(1, after=250 * MS)
    t.ack(101, after=250 * MS)
    assert t.shown().credible(Excuse("dropped", x.number, ""), TO_B)


def test_of_several_inputs_none_may_be_refuted() -> None:
    t = Talk()
    x, y = t.data(1), t.data(101)
    assert t.shown().credible(Excuse("dropped", x.number, "", also=(y.number,)), TO_B)
    t.ack(201)
    assert not t.shown().credible(Excuse("dropped", x.number, "", also=(y.number,)), TO_B)


def test_data_that_is_sent_again_may_have_been_dropped() -> None:
    t = Talk()
    x = t.data(1)
    t.data(1, after=250 * MS)
    t.ack(101)
    assert t.shown().credible(Excuse("dropped", x.number, ""), TO_B)


def test_ids_in_order_refute_that_something_was_sent_beside_the_tap() -> None:
    t = Talk()
    for k in range(4):
        t.data(1 + 100 * k)
    x = t.data(402)
    t.data(502)
    assert not t.shown().credible(Excuse("unseen", x.number, ""), TO_A)


def test_a_step_of_the_ids_shows_what_was_sent_beside_the_tap() -> None:
    t = Talk()
    for k in range(4):
        t.data(1 + 100 * k)
    x = t.data(501, step=2)
    t.data(601)
    assert t.shown().credible(Excuse("unseen", x.number, ""), TO_A)
    assert "missing" in t.shown().far(TO_A)


def test_an_id_out_of_line_with_both_its_neighbours_shows_no_loss() -> None:
    t = Talk()
    for k in range(4):
        t.data(1 + 100 * k)
    t.data(401, step=1001)
    t.data(501, step=-999)
    assert not t.shown().far(TO_A)


def test_an_acknowledgment_of_what_is_only_sent_later_answers_nothing_unheard() -> None:
    t = Talk()
    t.data(1)
    x = t.ack(201)
    t.data(101, after=5 * MS)
    assert not t.shown().credible(Excuse("unheard", x.number, ""), TO_B)


def test_a_hole_that_stays_shows_what_the_capture_lacks() -> None:
    t = Talk()
    t.data(1)
    x = t.ack(201)
    t.data(201, after=5 * MS, step=2)
    t.data(301)
    t.data(401)
    assert t.shown().credible(Excuse("unheard", x.number, ""), TO_B)


def test_who_answers_a_syn_late_may_be_far() -> None:
    for late, far in ((200, False), (20 * MS, True)):
        t = Talk()
        t.add(t.tap.frame(0, SYN, 0))
        t.add(t.tap.frame(1, SYN | ACK, 0, 1, after=late))
        assert bool(t.shown().far(TO_B)) is far


def test_a_ttl_that_no_stack_starts_from_shows_a_router() -> None:
    t = Talk()
    t.ack(1, ttl=63)
    assert "router" in t.shown().far(TO_B)


def test_without_ids_a_clock_that_goes_back_shows_overtaking() -> None:
    t = Talk()
    t.ack(1, options=ts(500, 1))
    t.ack(1, options=ts(499, 1))
    assert "older" in t.shown().far(TO_B)


def test_ids_that_go_on_behind_those_left_out_show_what_was_lost_before_the_tap() -> None:
    t = Talk()
    t.data(1)
    t.data(101, step=2)
    t.data(201)
    assert "ids" in t.shown().unsent(TO_A)


def test_an_id_behind_which_the_count_goes_back_shows_no_loss_before_the_tap() -> None:
    t = Talk()
    t.data(1)
    t.data(101, step=4)
    t.data(201, step=-2)
    assert not t.shown().unsent(TO_A)


def test_a_hole_that_the_peer_has_too_was_lost_before_the_tap() -> None:
    for low, lost in ((201, True), (301, False)):
        t = Talk()
        t.add(t.tap.frame(0, ACK | PSH, 1, 1, payload=TEXT))
        t.add(t.tap.frame(0, ACK | PSH, 201, 1, payload=TEXT))
        t.ack(101, options=b"\x01\x01\x05\x0a" + struct.pack("!II", low, low + 100))
        assert bool(t.shown().unsent(TO_A)) is lost


def test_one_frame_out_of_its_place_shows_no_path_and_two_do() -> None:
    for order, far in (((1, 201, 101, 301), False), ((1, 301, 101, 201, 401), False), ((1, 301, 101, 401, 201), True)):
        t = Talk()
        for seq in order:
            t.add(t.tap.frame(0, ACK | PSH, seq, 1, payload=TEXT))
        assert bool(t.shown().far(TO_A)) is far


def test_an_end_that_got_something_twice_and_told_no_dsack_may_tell_none() -> None:
    t = Talk()
    t.data(1)
    assert not t.shown().tells_none(TO_B, t.ack(101).number)
    t.data(1)
    assert t.shown().tells_none(TO_B, t.ack(101).number)
    last = t.ack(101, options=b"\x01\x01\x05\x0a" + (1).to_bytes(4, "big") + (101).to_bytes(4, "big"))
    assert not t.shown().tells_none(TO_B, last.number)


def test_a_dsack_of_a_syn_shows_a_kernel_that_does_not_challenge_it() -> None:
    t = Talk()
    t.add(t.tap.frame(0, SYN, 0))
    t.ack(1)
    assert not t.shown().old_syn(TO_B)
    t.ack(1, options=b"\x01\x01\x05\x0a" + (0).to_bytes(4, "big") + (1).to_bytes(4, "big"))
    assert "DSACK" in t.shown().old_syn(TO_B)
    assert not t.shown().old_syn(TO_A)
