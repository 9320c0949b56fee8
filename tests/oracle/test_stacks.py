"""Whose stack it is, and where the tap is: said with evidence, decided by handshakes and not by one odd frame."""

import struct

import pytest

from conformance.check.setup import Call, Host, Setup
from conformance.oracle.end import Stack
from conformance.oracle.stacks import infer_stack, shows
from conformance.oracle.vantage import infer_vantage, unfilled
from refmodel.packet.segment import Segment
from tests.oracle.frames import ACK, APORT, BPORT, FIN, NOP, PSH, RST, SYN, A, B, Tap, syn_options, ts

WHO = ((A, APORT), (B, BPORT))
NOTHING = Setup(kernel="6.12")
MSS = struct.pack("!BBH", 2, 4, 1460)
WS = struct.pack("!BBB", 3, 3, 8)
SACK = b"\x04\x02"
WINDOWS = MSS + NOP + WS + NOP + NOP + SACK
BSD = MSS + NOP + WS + NOP + NOP + struct.pack("!BBII", 8, 10, 5, 0) + SACK + b"\0\0"


def stack(*early: Segment, setup: Setup = NOTHING, who: int = 0) -> Stack:
    """What is inferred of A (0) or B (1)."""
    return infer_stack(early, WHO[who], setup)


class TestStack:
    """Linux or not."""

    def test_linux_is_known_by_its_syn(self) -> None:
        s = Tap().frame(0, SYN, 1, window=64_240, options=syn_options())
        assert stack(s).linux
        assert stack(s).evidence

    @pytest.mark.parametrize(
        ("options", "window", "ttl"),
        [
            (WINDOWS, 64_240, 128),
            (WINDOWS, 64_240, 64),
            (BSD, 65_535, 64),
            (b"", 1_024, 64),
            (syn_options(), 64_000, 64),
        ],
    )
    def test_other_stacks_are_known_by_theirs(self, options: bytes, window: int, ttl: int) -> None:
        s = Tap().frame(0, SYN, 1, window=window, ttl=ttl, options=options)
        found = stack(s)
        assert not found.linux
        assert found.why_not

    def test_a_middlebox_is_known_by_an_answer_that_was_not_asked_for(self) -> None:
        tap = Tap()
        syn = tap.frame(0, SYN, 1, window=64_240, options=syn_options(ws=None))
        answer = tap.frame(1, SYN | ACK, 9, 2, window=65_160, options=syn_options(7, 1000))
        assert not stack(syn, answer, who=1).linux

    def test_one_odd_frame_does_not_make_a_host_foreign(self) -> None:
        tap = Tap()
        syn = tap.frame(0, SYN, 1, window=64_240, options=syn_options())
        odd = tap.frame(0, ACK, 2, 10, options=ts(1001, 7)[2:] + NOP + NOP)
        assert stack(syn, odd).linux

    def test_a_habit_does(self) -> None:
        tap = Tap()
        syn = tap.frame(0, SYN, 1, window=64_240, options=syn_options())
        odd = [tap.frame(0, ACK, 2, 10, options=ts(1001, 7)[2:] + NOP + NOP) for _ in range(3)]
        assert not stack(syn, *odd).linux

    def test_flags_that_no_linux_sets_make_a_stranger_of_whom_no_handshake_was_seen(self) -> None:
        tap = Tap()
        ack, fin = tap.frame(0, ACK, 1, 1), tap.frame(0, FIN, 1)
        assert stack(ack, fin).linux
        assert not stack(ack, fin, tap.frame(0, RST, 1, window=65_535)).linux
        assert not stack(ack, fin, tap.frame(0, SYN | FIN, 1)).linux

    def test_a_sidecar_decides(self) -> None:
        s = Tap().frame(0, SYN, 1, window=64_240, ttl=128, options=WINDOWS)
        linux = Setup(kernel="6.12", hosts=(Host("a", addresses=frozenset({A}), sysctls={"x": 1}),))
        crafted = Setup(kernel="6.12", hosts=(Host("a", linux=False, addresses=frozenset({A})),))
        assert stack(s, setup=linux).linux
        assert stack(s, setup=linux).told == {"x": 1}
        assert stack(s, setup=linux).given
        assert not stack(s, setup=crafted).linux

    def test_what_a_syn_leaves_out_tells_sysctls(self) -> None:
        s = Tap().frame(0, SYN, 1, window=64_240, options=syn_options(None, sack=False))
        assert stack(s).told == {"net.ipv4.tcp_timestamps": 0, "net.ipv4.tcp_sack": 0}


def places(early: list[Segment], setup: Setup = NOTHING) -> tuple[Stack, Stack]:
    """Both stacks, with what is inferred of the tap."""
    found = infer_stack(early, WHO[0], setup), infer_stack(early, WHO[1], setup)
    infer_vantage(early, WHO, found, setup)
    return found


def handshake(server: int, client: int) -> list[Segment]:
    """A handshake in which the answers take `server` and `client` us."""
    tap = Tap()
    return [
        tap.frame(0, SYN, 1, window=64_240, options=syn_options()),
        tap.frame(1, SYN | ACK, 9, 2, window=65_160, options=syn_options(7, 1000), after=server),
        tap.frame(0, ACK, 2, 10, options=ts(1001, 7), after=client),
    ]


def hosts(near: str = "a", drops: dict[str, int] | None = None, calls: tuple[Call, ...] = (), **mib: int) -> Setup:
    """A sidecar with two Linux hosts."""
    counted = {"Tcp.InSegs": 3, **{k.replace("__", "."): v for k, v in mib.items()}}
    both = tuple(Host(n, addresses=frozenset({x}), mib=counted) for n, x in (("a", A), ("b", B)))
    return Setup(kernel="6.12", hosts=both, near=near, calls=calls, extra={} if drops is None else {"drops": drops})


class TestVantage:
    """Near which end."""

    def test_the_end_that_takes_a_round_trip_to_answer_is_far(self) -> None:
        a, b = places(handshake(20_000, 30))
        assert b.near is False
        assert a.evidence[-1].startswith("the tap is near")

    def test_on_a_fast_network_nothing_is_said(self) -> None:
        a, b = places(handshake(30, 30))
        assert a.near is None
        assert b.near is None

    def test_a_checksum_to_be_filled_in_shows_the_host(self) -> None:
        tap = Tap()
        early = [tap.frame(0, ACK | PSH, n, 1, payload=b"x") for n in range(2)]
        early = [left_open(s) for s in early]
        assert all(unfilled(s) for s in early)
        assert places(early)[0].near is True

    def test_a_sidecar_names_the_host(self) -> None:
        a, b = places(handshake(30, 30), hosts("b"))
        assert (a.near, b.near) == (False, True)

    def test_what_is_on_its_way_to_a_far_host_may_take_long(self) -> None:
        a, b = places(handshake(30, 30), hosts("a"))
        assert a.late < b.late

    @pytest.mark.parametrize(
        ("setup", "lossy", "exact"),
        [
            (hosts(drops={}), False, True),
            (hosts(drops={"a.ingress": 3}), True, True),
            (hosts(drops={"a.ingress": 0}), False, True),
            (hosts(drops={"a.egress": 3}), False, False),
            (hosts(drops={"a.qdisc": 0}), False, False),
            (hosts(drops={}, TcpExt__TCPRcvQDrop=1), None, True),
            (hosts(drops={}, TcpExt__TCPRetransFail=1), False, False),
            (hosts(), None, False),
            (hosts(calls=(Call("a", 1, "wire loses: tcp", "0"),)), None, True),
            (hosts(calls=(Call("b", 1, "wire loses: tcp", "0"),)), False, True),
        ],
    )
    def test_a_sidecar_tells_what_was_lost(self, setup: Setup, lossy: bool | None, exact: bool) -> None:
        a, _ = places(handshake(30, 30), setup)
        assert a.lossy is lossy
        assert a.exact is exact


def left_open(s: Segment) -> Segment:
    """The frame as a device that computes checksums is given it: with the pseudo-header's sum."""
    total = sum(int.from_bytes(x, "big") for x in (A[:2], A[2:], B[:2], B[2:])) + 6 + s.payload_at - s.l4 + s.len
    field = (total & 0xFFFF) + (total >> 16)
    return s.changed(data=s.data[: s.l4 + 16] + field.to_bytes(2, "big") + s.data[s.l4 + 18 :])


STRANGERS = Setup(kernel="6.12", extra={"told": False})


def opening(window: int, mss: int = 1460, ws: int | None = 7, setup: Setup = STRANGERS) -> Stack:
    """What a SYN with that window tells of its sender."""
    return stack(Tap().frame(0, SYN, 1, window=window, options=syn_options(mss=mss, ws=ws)), setup=setup)


class TestAge:
    """Whether a host that looks like Linux is shown to be a kernel that is modelled."""

    @pytest.mark.parametrize(
        ("window", "mss"), [(64_240, 1460), (65_160, 1460), (65_495, 65_495), (65_483, 65_495), (64_800, 1440)]
    )
    def test_the_default_window_since_4_20_shows_one(self, window: int, mss: int) -> None:
        assert opening(window, mss).linux
        assert opening(window, mss).sure

    @pytest.mark.parametrize(
        ("window", "mss"), [(5_840, 1460), (14_600, 1460), (14_480, 1460), (29_200, 1460), (26_880, 8_960),
                            (43_690, 65_495)]
    )  # fmt: skip
    def test_the_default_windows_before_show_an_older_one(self, window: int, mss: int) -> None:
        found = opening(window, mss)
        assert not found.linux
        assert "before Linux 4.20" in found.why_not

    @pytest.mark.parametrize(("window", "ws"), [(65_535, 8), (29_200, 0), (2_920, 0), (43_800, 7)])
    def test_other_windows_tell_nothing_of_it(self, window: int, ws: int) -> None:
        found = opening(window, ws=ws)
        assert found.linux
        assert not found.sure
        assert any("no default of a kernel" in x for x in found.evidence)

    def test_who_names_the_profile_says_that_it_is_one(self) -> None:
        told = Setup(kernel="6.12", extra={"told": True})
        assert opening(29_200, setup=told).linux
        assert opening(29_200, setup=told).sure

    def test_no_buffer_is_so_small_as_a_scanners_window(self) -> None:
        assert not opening(1_024, ws=None).linux

    @pytest.mark.parametrize(
        ("step", "ticks", "linux"), [(1, 20, True), (1, 5, False), (777, 20, False), (0, 20, False)]
    )
    def test_ids_that_count_and_a_clock_in_ms_show_one_without_a_handshake(
        self, step: int, ticks: int, linux: bool
    ) -> None:
        tap = Tap()
        own = [
            tap.frame(0, ACK, 1 + k, 9, payload=b"x", ip_id=100 + step * k, options=ts(5 + ticks * k, 7), after=20_000)
            for k in range(12)
        ]
        assert shows(own, 1460) is linux

    def test_resets_without_a_socket_have_their_form(self) -> None:
        tap = Tap()
        assert shows([tap.frame(0, RST | ACK, 0, 2, window=0)], 0)
        assert not shows([tap.frame(0, RST | ACK, 0, 2, window=0, ip_id=7)], 0)
        assert not shows([tap.frame(0, RST | ACK, 0, 2, window=0, ttl=63)], 0)
