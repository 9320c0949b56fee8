"""What every frame of one stack has in common, and what no Linux builds."""

from collections.abc import Iterator
from typing import Any

import pytest

from conformance.oracle.end import End, Refusal
from conformance.oracle.identity import CONSTRAINTS, Identity, damaged
from refmodel.packet.segment import Segment
from refmodel.tcp.state import St
from tests.oracle.frames import ACK, CWR, ECE, FIN, NOP, PSH, RST, SYN, URG, Tap, end, syn_options, ts


class Host:
    """An end that opened a connection with timestamps: frames go through its Identity."""

    def __init__(self, ids: bool = True, ecn: int = 0, answer: int = 0, **stack: Any) -> None:
        self.tap = Tap()
        self.end: End = end(**stack)
        self.end.ident = self.ident = Identity(self.end)
        self.end.state = St.ESTABLISHED
        self.id, self.step = 100, int(ids)
        self.ts = 5_000
        self.seq = 1
        self.sends(SYN | ecn, seq=0, options=syn_options(self.ts))
        self.ident.heard(self.tap.frame(1, SYN | ACK | answer, 0, 1, options=syn_options(77, self.ts)))
        for _ in range(6):
            self.sends()

    def makes(
        self, flags: int = ACK, seq: int = -1, ack: int = 1, options: bytes | None = None, **fields: Any
    ) -> Segment:
        """The next frame; timestamps and ids go on as a socket's."""
        self.ts += fields.get("after", 10) // 1000
        if "ip_id" not in fields:
            self.id += self.step
            fields["ip_id"] = self.id
        opts = ts(self.ts, 77) if options is None else options
        ack = ack if flags & ACK else 0
        return self.tap.frame(0, flags, self.seq if seq < 0 else seq, ack, options=opts, **fields)

    def sends(self, flags: int = ACK, **fields: Any) -> Segment:
        """Sends the next frame."""
        s = self.makes(flags, **fields)
        self.ident.check(s)
        return s


@pytest.fixture
def host() -> Host:
    """An end near the tap."""
    return Host()


def refuses(host: Host, s: Segment) -> str:
    """The constraint that a frame breaks."""
    with pytest.raises(Refusal) as why:
        host.ident.check(s)
    assert why.value.constraint in {c.id for c in CONSTRAINTS}
    return why.value.constraint


class TestHeaders:
    """Forms that no state sends."""

    @pytest.mark.parametrize("flags", [0, FIN, SYN | FIN, SYN | RST, RST | FIN | ACK, PSH, RST | PSH, URG])
    def test_flags_that_no_state_combines(self, host: Host, flags: int) -> None:
        assert refuses(host, host.makes(flags, urg=1 if flags & URG else 0)) == "flags-combination"

    def test_push_without_data(self, host: Host) -> None:
        assert refuses(host, host.makes(ACK | PSH)) == "flags-combination"

    def test_a_fin_behind_data_that_was_acknowledged_keeps_its_push(self, host: Host) -> None:
        host.sends(ACK | PSH | FIN)

    def test_data_in_a_syn_ack_or_an_rst(self, host: Host) -> None:
        assert refuses(host, host.makes(RST | ACK, payload=b"x")) == "flags-combination"
        s = host.tap.frame(0, SYN | ACK, 9, 1, payload=b"x", options=syn_options())
        assert refuses(host, s) == "flags-combination"

    def test_reserved_bits(self, host: Host) -> None:
        assert refuses(host, host.makes(reserved=1)) == "reserved-bits"

    def test_an_urgent_pointer_goes_with_its_flag(self, host: Host) -> None:
        assert refuses(host, host.makes(urg=1)) == "urgent-pointer"
        assert refuses(host, host.makes(ACK | URG, payload=b"x")) == "urgent-pointer"
        host.sends(ACK | URG, payload=b"x", urg=1)

    def test_an_acknowledgment_number_needs_its_flag(self, host: Host) -> None:
        assert refuses(host, host.tap.frame(0, RST, 1, 99)) == "ack-number-without-ack"


class TestIp:
    """TTL, DF, ids."""

    def test_ttl_stays_on_a_link_of_its_own(self, host: Host) -> None:
        assert refuses(host, host.makes(ttl=63)) == "ttl-constant"

    def test_ttl_may_change_behind_routers(self) -> None:
        host = Host(near=False)
        host.ident.strict = False
        host.sends(ttl=57)

    def test_df_stays(self, host: Host) -> None:
        assert refuses(host, host.makes(df=False)) == "dont-fragment"

    def test_the_id_does_not_go_back_near_the_host(self, host: Host) -> None:
        assert refuses(host, host.makes(ip_id=host.id - 3, ack=2, after=1_000)) == "ip-id-back"

    def test_stamps_of_two_cpus_may_swap_frames(self, host: Host) -> None:
        first, second = host.makes(after=5), host.makes(after=5)
        host.ident.check(second)
        host.ident.check(first)
        assert host.ident.overtaken(first)

    def test_a_gap_says_how_many_segments_were_not_seen(self, host: Host) -> None:
        assert host.ident.steps_since_last(host.sends()) == 0
        host.id += 3
        assert host.ident.steps_since_last(host.sends()) == 3

    def test_ids_leave_none_out_where_nothing_is_lost(self, host: Host) -> None:
        host.id += 9
        assert refuses(host, host.makes()) == "ip-id-gap"

    def test_a_queue_may_lose_frames_before_the_tap(self) -> None:
        host = Host(exact=False)
        host.id += 9
        assert host.ident.steps_since_last(host.sends()) == 9

    def test_a_super_frame_takes_as_many_ids_as_segments(self, host: Host) -> None:
        host.ident.heard(host.tap.frame(1, SYN | ACK, 0, 1, options=syn_options(77, 1, mss=1460)))
        host.sends(payload=bytes(4 * 1448))
        host.id += 3
        assert host.ident.steps_since_last(host.sends()) == 0

    def test_the_same_id_again_is_a_duplicate(self, host: Host) -> None:
        s = host.sends()
        host.ident.check(s)
        assert host.ident.duplicate(s)

    def test_an_id_out_of_line_with_those_around_it(self) -> None:
        host = Host(near=False)
        host.sends()
        host.id += 1
        host.ident.check(host.makes(ip_id=host.id + 9_999))
        assert refuses(host, host.makes()) == "ip-id-outlier"

    def test_a_frame_that_the_network_held_back_is_no_outlier(self) -> None:
        host = Host(near=False)
        late = host.makes()
        for _ in range(5):
            host.sends()
        host.ident.check(late)
        assert host.ident.overtaken(late)
        host.sends()

    def test_a_full_socket_has_an_id(self, host: Host) -> None:
        assert refuses(host, host.makes(payload=b"x", ip_id=0)) == "ip-id-zero"

    def test_a_time_wait_socket_has_none(self, host: Host) -> None:
        host.end.state = St.TIME_WAIT
        host.sends(ip_id=0)

    def test_ids_that_do_not_count_are_not_believed(self) -> None:
        host = Host(ids=False)
        for n in (7, 7_000, 300, 60_000):
            s = host.sends(ip_id=n)
            assert host.ident.steps_since_last(s) is None
        assert not host.ident.trusted


class TestClock:
    """The timestamp clock."""

    def test_a_timestamp_does_not_go_back(self, host: Host) -> None:
        assert refuses(host, host.makes(options=ts(host.ts - 1, 77))) == "tsval-back"

    def test_nor_by_much_where_the_network_may_reorder(self) -> None:
        host = Host(near=False, ids=False)
        host.ident.check(host.makes(options=ts(host.ts - 10, 77), ip_id=0))
        assert refuses(host, host.makes(options=ts(host.ts - 3_100, 77), ip_id=0)) == "tsval-back"

    def test_a_timestamp_does_not_run_ahead(self, host: Host) -> None:
        assert refuses(host, host.makes(options=ts(host.ts + 100_000, 77))) == "tsval-ahead"

    def test_a_frame_that_waited_is_behind_and_the_next_is_not_ahead(self, host: Host) -> None:
        host.sends(after=3_000_000, options=ts(host.ts, 77))
        host.sends(after=10)

    def test_a_clock_of_microseconds(self) -> None:
        host = Host()
        clock = host.ident.clock
        clock.first = None
        start = host.ts = 50_000
        for n in range(4):
            host.sends(after=10_000_000, options=ts(start + n * 10_000_000, 77))
        assert clock.rate == 1_000_000


class TestOptions:
    """Options are agreed on once, and stand as tcp_options_write writes them."""

    def test_every_segment_has_the_timestamp_that_was_agreed(self, host: Host) -> None:
        assert refuses(host, host.makes(options=b"")) == "timestamps-agreed"

    def test_an_rst_for_a_segment_without_socket_has_none(self, host: Host) -> None:
        host.ident.check(host.tap.frame(0, RST, 1, window=0))

    def test_no_timestamp_without_agreement(self) -> None:
        host = Host()
        host.ident.heard(host.tap.frame(1, SYN | ACK, 0, 1, options=syn_options(None)))
        assert refuses(host, host.makes()) == "timestamps-agreed"

    def test_padding_stands_before_the_timestamp(self, host: Host) -> None:
        odd = ts(host.ts, 77)
        assert refuses(host, host.makes(options=odd[2:] + NOP + NOP)) == "options-layout"

    def test_sack_stands_behind_the_timestamp(self, host: Host) -> None:
        sack = NOP + NOP + b"\x05\x0a" + (5).to_bytes(4, "big") + (9).to_bytes(4, "big")
        host.sends(options=ts(host.ts, 77) + sack)
        assert refuses(host, host.makes(options=sack + ts(host.ts, 77))) == "options-layout"

    def test_the_order_of_a_syn(self) -> None:
        host = Host()
        o = syn_options(host.ts)
        assert refuses(host, host.tap.frame(0, SYN, 0, options=o[-4:] + o[:-4])) == "syn-options"


class TestEcn:
    """ECN is agreed on in the SYNs."""

    @pytest.mark.parametrize("flags", [ECE, CWR, ECE | CWR])
    def test_no_flags_without_agreement(self, host: Host, flags: int) -> None:
        assert refuses(host, host.makes(ACK | flags)) == "ecn-agreed"

    def test_no_capable_packets_without_agreement(self, host: Host) -> None:
        assert refuses(host, host.makes(payload=b"x", tos=2)) == "ecn-agreed"

    def test_new_data_are_capable_and_nothing_else(self) -> None:
        host = Host(ecn=ECE | CWR, answer=ECE)
        host.end.tx.snd_nxt = 1
        host.sends(payload=b"x", tos=2)
        host.end.tx.snd_nxt = host.seq = 2
        assert refuses(host, host.makes(payload=b"x")) == "ecn-capable"
        host.id -= 1
        assert refuses(host, host.makes(seq=1, payload=b"x", tos=2)) == "ecn-capable"
        host.id -= 1
        assert refuses(host, host.makes(tos=2)) == "ecn-capable"


def test_a_foreign_stack_is_held_to_its_clock_alone() -> None:
    host = Host(linux=False, near=False, ids=False)
    host.sends(ACK | PSH, ttl=128, df=False, ip_id=9)
    assert refuses(host, host.makes(options=ts(host.ts - 3_500, 77))) == "tsval-back"


def test_a_copy_shares_nothing(host: Host) -> None:
    other = host.ident.copy()
    for _ in range(3):
        host.sends()
    assert other.ids.last == host.id - 3
    assert other.frames == host.ident.frames - 3


def frames() -> Iterator[tuple[Segment, bool]]:
    """Frames and whether they are damaged."""
    tap = Tap()
    yield tap.frame(0, ACK, 1, 1, payload=b"odd"), False
    yield tap.frame(0, ACK, 1, 1, payload=b"even"), False
    yield tap.frame(0, ACK, 1, 1, payload=b"odd", bad=True), True
    yield tap.frame(0, ACK, 1, 1, payload=b"odd" * 20, bad=True, cut=3), False


@pytest.mark.parametrize(("s", "wrong"), list(frames()))
def test_a_damaged_frame_is_known_by_its_checksum(s: Segment, wrong: bool) -> None:
    assert damaged(s) is wrong


def test_a_checksum_that_a_device_was_to_fill_in_is_not_wrong() -> None:
    s = Tap().frame(0, ACK, 1, 1, payload=b"data")
    pseudo = sum(int.from_bytes(x, "big") for x in (s.saddr[:2], s.saddr[2:], s.daddr[:2], s.daddr[2:])) + 6 + 24
    field = (pseudo & 0xFFFF) + (pseudo >> 16)
    data = s.data[: s.l4 + 16] + field.to_bytes(2, "big") + s.data[s.l4 + 18 :]
    assert not damaged(s.changed(data=data))
