"""What no output says, wherever the tap is and in whatever order it left; what an echo shows to have come."""

import pytest

from conformance.check.setup import Host as HostInfo
from conformance.oracle.astray import Astray
from conformance.oracle.end import Excuse, Refusal
from conformance.oracle.evidence import Evidence
from refmodel.tcp.state import St
from tests.oracle.frames import ACK, FIN, Tap
from tests.oracle.test_receiver import MSS, WINDOW, Host

PLENTY = HostInfo("b", mib={"Tcp.PassiveOpens": 1})


def far(**stack: object) -> Host:
    """B behind the handshake, far from the tap."""
    return Host(**{"near": False, "lossy": None, "exact": False, "late": 50_000, **stack})


class TestFirst:
    """What the first of all outputs said."""

    @pytest.mark.parametrize("host", [Host(), far()])
    def test_nothing_before_the_peers_data_is_acknowledged(self, host: Host) -> None:
        """The SYN is acknowledged before anything else is sent."""
        assert host.refused(0).constraint == "ack-goes-back"

    @pytest.mark.parametrize("host", [Host(), far()])
    def test_the_window_never_ends_before_the_syns(self, host: Host) -> None:
        """Its right edge was the first that was promised."""
        host.hears(1, MSS)
        assert host.refused(1 + MSS, window=WINDOW - 13).constraint == "window-retreats"

    def test_what_the_state_machine_sends_is_held_to_it(self) -> None:
        """A challenge names what is expected next, too."""
        host = Host()
        s = host.tap.frame(1, ACK, 5001, 900, window=WINDOW)
        with pytest.raises(Refusal):
            host.rx.answers(s)

    def test_memory_that_is_out_closes_the_window(self) -> None:
        """Then the host counted that it pruned its queues."""
        host = Host(kernel="6.12", host=HostInfo("b", mib={"Tcp.PassiveOpens": 1, "TcpExt.PruneCalled": 1}))
        host.hears(1, MSS)
        host.hears(1 + MSS, MSS)
        assert host.says(1 + MSS, window=0)

    def test_memory_that_was_never_out_does_not(self) -> None:
        """No queue was pruned."""
        host = Host(kernel="6.12", host=PLENTY)
        host.hears(1, MSS)
        assert host.refused(1 + MSS, window=0).constraint == "window-retreats"


class TestEcho:
    """What the timestamp that is echoed shows."""

    def test_a_far_end_acknowledges_what_it_echoes(self) -> None:
        """A segment in order gave the timestamp: its text is taken before an empty answer leaves."""
        host = far(host=PLENTY)
        host.hears(1, MSS)
        host.says(1 + MSS)
        host.hears(1 + MSS, 0, ACK | FIN, tsval=1050, after=50_000)
        assert host.refused(1 + MSS, tsecr=1050).constraint == "echo-is-ts-recent"

    def test_another_segment_of_the_same_time_may_have_given_it(self) -> None:
        """What came before it was sent in the same millisecond."""
        host = far(host=PLENTY)
        host.hears(1, MSS, tsval=1050)
        host.hears(1 + MSS, 0, ACK | FIN, tsval=1050)
        assert host.says(1 + MSS, tsecr=1050)

    def test_memory_may_have_had_no_room(self) -> None:
        """A segment in order is dropped behind its timestamp; the host counted it."""
        host = far(host=HostInfo("b", mib={"TcpExt.TCPRcvQDrop": 1}))
        host.hears(1, MSS)
        host.says(1 + MSS)
        host.hears(1 + MSS, MSS, tsval=1050, after=50_000)
        assert host.says(1 + MSS, tsecr=1050, n=5)


class TestForgotten:
    """A host whose memory was out forgets what waits behind holes."""

    def test_the_furthest_goes_first_and_all_blocks(self) -> None:
        """The hole is filled, and what waited behind the next is gone."""
        host = Host(lossy=None, host=HostInfo("b", mib={"TcpExt.OfoPruned": 1}))
        host.hears(1 + MSS, MSS)
        host.says(1, tsecr=1000, sack=((1 + MSS, 1 + 2 * MSS),))
        host.hears(1, MSS - 8)
        assert host.says(1 + MSS - 8)

    def test_only_where_the_host_counted_it(self) -> None:
        """Else what waits is told."""
        host = Host(host=HostInfo("b", mib={"TcpExt.OfoPruned": 0}))
        host.hears(1 + MSS, MSS)
        host.says(1, tsecr=1000, sack=((1 + MSS, 1 + 2 * MSS),))
        host.hears(1, MSS - 8)
        assert host.refused(1 + MSS - 8).constraint == "sack-blocks"


def test_duplicates_that_were_joined_are_told_in_one_dsack() -> None:
    """While a process holds the socket, what comes behind each other is joined in its backlog."""
    host = Host()
    host.hears(1, MSS)
    host.hears(1 + MSS, MSS)
    host.says(1 + 2 * MSS)
    host.hears(1, MSS)
    host.hears(1 + MSS, MSS)
    assert host.says(1 + 2 * MSS, sack=((1, 1 + 2 * MSS),)) == "__tcp_ack_snd_check"


def test_a_dsack_of_an_unseen_duplicate_ends_where_segments_did() -> None:
    """Where the tap missed nothing, a block is made of what it saw."""
    host = Host(lossy=None, whole=True)
    host.hears(1, MSS)
    host.says(1 + MSS)
    host.hears(1 + MSS, MSS)
    why = host.refused(1 + 2 * MSS, sack=((10, 20),))
    n = host.tap.number
    host.end.decided = {n + 1: Excuse("unheard", n + 1, "its SACK blocks")}
    assert why.constraint == "sack-blocks"
    assert host.refused(1 + 2 * MSS, sack=((10, 20),)).constraint == "sack-blocks"


def test_a_hole_that_is_filled_later_shows_no_loss_before_the_tap() -> None:
    """Frames out of order are not lost."""
    tap = Tap()
    frames = [
        tap.frame(0, ACK, 1001, 5001, payload=b"x" * 10),
        tap.frame(0, ACK, 1021, 5001, payload=b"x" * 10),
        tap.frame(1, ACK, 5001, 1031),
        tap.frame(0, ACK, 1011, 5001, payload=b"x" * 10),
    ]
    answer = Excuse("unheard", frames[2].number, "it acknowledges more")
    assert not Evidence(frames, True).credible(answer, (frames[2].saddr, frames[2].source))
    assert Evidence(frames[:3], True).credible(answer, (frames[2].saddr, frames[2].source))


def test_without_a_scale_a_window_that_says_no_more_was_not_opened_by_a_read() -> None:
    """By whatever it is multiplied."""
    host = Host()
    host.hears(1, MSS)
    host.says(1 + MSS, window=WINDOW)
    host.rx.promise.shift = -1
    host.end.state = St.ESTABLISHED
    assert host.refused(1 + MSS, window=WINDOW, after=500_000).constraint == "ack-without-cause"


class TestBlocks:
    """The order of SACK blocks that a far end tells, and where they begin."""

    def test_the_block_that_changed_stands_first(self) -> None:
        """Two acknowledgments with consecutive ids: the second cannot tell the new block behind the old one."""
        host = far()
        host.hears(1 + MSS, MSS)
        host.says(1, tsecr=1000, sack=((1 + MSS, 1 + 2 * MSS),))
        host.hears(1 + 3 * MSS, MSS)
        why = host.refused(1, tsecr=1000, sack=((1 + MSS, 1 + 2 * MSS), (1 + 3 * MSS, 1 + 4 * MSS)))
        assert why.constraint == "sack-blocks"

    def test_the_other_order_is_told(self) -> None:
        """The segment that came last is in the first block."""
        host = far()
        host.hears(1 + MSS, MSS)
        host.says(1, tsecr=1000, sack=((1 + MSS, 1 + 2 * MSS),))
        host.hears(1 + 3 * MSS, MSS)
        assert host.says(1, tsecr=1000, sack=((1 + 3 * MSS, 1 + 4 * MSS), (1 + MSS, 1 + 2 * MSS)))

    def test_a_segment_that_came_twice_may_have_put_an_old_block_first(self) -> None:
        """The DSACK tells it."""
        host = far()
        host.hears(1 + MSS, MSS)
        host.says(1, tsecr=1000, sack=((1 + MSS, 1 + 2 * MSS),))
        host.hears(1 + 3 * MSS, MSS)
        host.hears(1 + MSS, MSS)
        blocks = ((1 + MSS, 1 + 2 * MSS), (1 + MSS, 1 + 2 * MSS), (1 + 3 * MSS, 1 + 4 * MSS))
        assert host.says(1, tsecr=1000, sack=blocks)

    def test_a_window_that_ends_further_was_told_later(self) -> None:
        """So what waited before waits still; the frames have no ids, and one timestamp."""
        host = far(host=PLENTY)
        host.hears(1 + MSS, MSS)
        host.says(1, tsecr=1000, sack=((1 + MSS, 1 + 2 * MSS),))
        host.hears(1 + 2 * MSS, MSS)
        why = host.refused(1, tsecr=1000, window=WINDOW + 3)
        assert why.constraint == "sack-blocks"

    @pytest.mark.parametrize(("offset", "cut"), [(1448, True), (2896, True), (700, True), (1447, True), (2017, False)])
    def test_a_super_segment_is_cut_into_pieces_of_one_length(self, offset: int, cut: bool) -> None:
        """Only the last is shorter: 2017 is a prime."""
        astray = Astray()
        astray.comes(0, 4344, 3, None, 0)
        assert astray.borders(offset, [], MSS) is cut


def test_without_a_scale_a_window_goes_back_by_any() -> None:
    """At the same acknowledgment less is less."""
    host = Host(host=PLENTY)
    host.hears(1, MSS)
    host.says(1 + MSS)
    host.rx.promise.shift = -1
    assert host.refused(1 + MSS, window=WINDOW - 1, n=10).constraint == "window-retreats"


def test_a_far_end_behind_a_plain_wire_does_not_keep_silent() -> None:
    """Nothing is lost on it: what came two seconds ago is acknowledged."""
    host = far(plain=True, late=1_500_000)
    host.hears(1, MSS, tsval=1001)
    host.end.process()
    assert host.refused(1 + MSS, after=2_500_000).constraint == "ack-withheld"


def test_a_far_end_behind_a_lossy_wire_may() -> None:
    """The segment may have been sent again beside the tap."""
    host = far(late=1_500_000)
    host.hears(1, MSS, tsval=1001)
    host.end.process()
    assert host.says(1 + MSS, after=2_500_000)


def test_a_dsack_is_of_what_came_since_the_last_output() -> None:
    """However long ago it came for the first time."""
    host = Host(lossy=None, whole=True)
    for k in range(70):
        host.hears(1 + 10 * k, 10)
    host.says(701)
    host.hears(701, MSS)
    n = host.tap.number + 1
    host.end.decided = {n: Excuse("unheard", n, "its SACK blocks")}
    assert host.refused(701 + MSS, sack=((11, 21),)).constraint == "sack-blocks"
