"""Without a sidecar an end is presumed near, exact and lossless: what such an end would not have sent is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from conformance.check.capture import tcp_verdicts
from conformance.check.setup import setup_for
from conformance.check.verdict import Divergence, Outcome, Verdict
from conformance.frames import Frame
from conformance.mutate_edit import ACK_SEQ, OPT_SACK, Edit
from conformance.mutate_trace import MS, Trace, edited, postponed
from conformance.pcap import read
from refmodel.packet.segment import segment
from refmodel.packet.transport import ACK, PSH
from tests.oracle.test_evidence import TO_A as FROM_A
from tests.oracle.test_evidence import Talk

CAPTURES = Path(__file__).parents[2] / "captures"
ALONE = setup_for(CAPTURES / "no-such-capture.pcapng")
ENDINGS = ("tcp-close-after-shutdown", "tcp-close-client-first-v6")


def frames_of(name: str) -> list[Frame]:
    """The frames of a shipped capture."""
    return list(read(CAPTURES / f"{name}.pcapng")[0])


def judged(frames: list[Frame]) -> list[Verdict]:
    """What is said of frames that come without a sidecar."""
    return tcp_verdicts(frames, ALONE)


def refused(frames: list[Frame]) -> Divergence:
    """The only divergence."""
    (found,) = [v.divergence for v in judged(frames) if v.divergence is not None]
    return found


def changed(name: str, number: int, what: Callable[[Edit], None]) -> list[Frame]:
    """A capture with one of its frames changed."""
    frames = frames_of(name)
    frames[number - 1] = edited(frames[number - 1], what)
    return frames


def later(name: str, number: int, ms: int) -> list[Frame]:
    """A capture of which all frames from `number` on come later, with the timestamps of then."""
    return postponed(Trace(frames_of(name), ALONE), number - 1, ms * MS)


def without_df(e: Edit) -> None:
    """Clears DF."""
    e.data[e.l3 + 6] &= 0xBF
    e.data[e.l3 + 10 : e.l3 + 12] = bytes(2)


@pytest.mark.parametrize(
    "name", ["tcp-active-open", "tcp-half-close-client", "tcp-refused", "tcp-lost-syn-ack-v6", *ENDINGS]
)
def test_what_a_kernel_did_conforms(name: str) -> None:
    assert {v.outcome for v in judged(frames_of(name))} == {Outcome.CONFORMS}


def test_a_syn_that_is_not_answered_within_its_time_out_is_sent_again() -> None:
    assert refused(later("tcp-active-open", 4, 3_000)).constraint == "syn-timer"


def test_an_answer_just_before_the_time_out_conforms() -> None:
    assert {v.outcome for v in judged(later("tcp-active-open", 4, 950))} == {Outcome.CONFORMS}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_fin_is_acknowledged_in_time_wait_at_once(name: str) -> None:
    assert refused(later(name, 9, 700)).constraint == "ack-withheld"


@pytest.mark.parametrize("name", ENDINGS)
def test_the_window_of_a_time_wait_socket_is_what_the_socket_left(name: str) -> None:
    assert refused(changed(name, 9, lambda e: e.window(0))).constraint == "window-retreats"


def test_df_does_not_come_behind_the_syn() -> None:
    found = refused(changed("tcp-active-open", 3, without_df))
    assert (found.constraint, found.frame) == ("dont-fragment", 5)


def test_the_id_0_has_df() -> None:
    found = refused(changed("tcp-active-open", 4, without_df))
    assert (found.constraint, found.frame) == ("dont-fragment", 4)


def test_an_id_from_before_the_connection_is_not_that_of_a_frame_that_was_overtaken() -> None:
    frames = changed("tcp-half-close-client", 11, lambda e: e.ip_id(-1_000))
    assert refused(frames).constraint in ("ip-id-outlier", "ip-id-back")


def test_an_end_whose_full_socket_counts_no_ids_is_not_linux() -> None:
    frames = frames_of("tcp-half-close-client")
    for k, f in enumerate(frames):
        s = segment(f.number, f.time, f.data, f.linktype, f.orig_len)
        if s is not None and s.dest == 8080 and s.ip_id:
            by = -s.ip_id
            frames[k] = edited(f, lambda e, by=by: e.ip_id(by))  # type: ignore[misc]
    (v,) = judged(frames)
    assert any("is not Linux: its segments have the IPv4 id 0" in x for x in v.inferred)


def test_without_the_ack_flag_the_acknowledgment_number_is_0() -> None:
    def without_ack(e: Edit) -> None:
        e._put(ACK_SEQ, "I", 0x4000_0000)
        e.flags &= ~ACK & 0xFF

    for number in (3, 4):
        assert refused(changed("tcp-refused", number, without_ack)).constraint == "ack-number-without-ack"


def test_neighbours_in_each_others_place_show_that_frames_overtake() -> None:
    t = Talk()
    for k in range(3):
        t.data(1 + 100 * k)
    assert not t.shown().far(FROM_A)
    for seq, step in ((401, 2), (301, -1), (501, 2)):
        t.data(seq, step=step)
    assert "frame 4 left behind frame 5" in t.shown().far(FROM_A)


def without_blocks(e: Edit) -> None:
    """Takes the SACK option away, and the NOPs before it."""
    at = e.option(OPT_SACK) - e.l4 - 20
    area = bytearray(e.options)
    del area[max(at - 2, 0) : at + area[at + 1]]
    e.set_options(bytes(area))


def test_an_end_that_tells_no_dsack_at_all_may_have_them_off() -> None:
    frames = changed("tcp-lost-ack", 9, without_blocks)
    assert all(v.divergence is None for v in judged(frames))
    assert any(v.divergence is not None for v in tcp_verdicts(frames, setup_for(CAPTURES / "tcp-lost-ack.pcapng")))


def of_large_buffers(name: str, *numbers: int) -> list[Frame]:
    """A capture of IPv6 whose SYNs have all of the window field: what kernels with larger buffers do, of any age."""
    frames = frames_of(name)
    for k in numbers:
        frames[k - 1] = edited(frames[k - 1], lambda e: e.window(65_535))
    return frames


def pushed(e: Edit) -> None:
    """Sets PSH."""
    e.flags |= PSH


def test_what_no_kernel_that_is_modelled_sends_shows_another_where_nothing_shows_one() -> None:
    frames = of_large_buffers("tcp-close-client-first-v6", 3, 4)
    assert {v.outcome for v in judged(frames)} == {Outcome.CONFORMS}
    frames[4] = edited(frames[4], pushed)
    (v,) = judged(frames)
    assert v.outcome is Outcome.CONFORMS
    assert any("nothing shows a kernel that is modelled" in x and "flags-combination" in x for x in v.inferred)
    (v,) = tcp_verdicts(frames, replace(ALONE, extra={"told": True}))
    assert v.divergence is not None
    assert (v.divergence.constraint, v.divergence.frame) == ("flags-combination", 5)


def test_the_other_end_is_judged_on() -> None:
    frames = of_large_buffers("tcp-close-client-first-v6", 3)
    frames[4] = edited(frames[4], pushed)
    frames[7] = edited(frames[7], lambda e: e.window(1))
    assert refused(frames).frame == 8


def test_where_neither_end_is_shown_nothing_is_said() -> None:
    frames = of_large_buffers("tcp-close-client-first-v6", 3, 4)
    frames[4] = edited(frames[4], pushed)
    frames[6] = edited(frames[6], pushed)
    (v,) = judged(frames)
    assert v.outcome is Outcome.NOT_MODELLED
