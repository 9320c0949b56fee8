"""Random workloads: what a seed means, what the relay does to frames, and what a recording promises."""

import gzip
import struct
from collections import Counter
from ipaddress import ip_address
from pathlib import Path

import pytest

from conformance.frames import Frame
from conformance.live import workload_run
from conformance.live.corpus import BULK, SEEDS, choose, features, index, missing
from conformance.live.errors import LabUnavailable
from conformance.live.lab import require_lab
from conformance.live.relay import VNET_HDR, Direction, Fate, mark, netem
from conformance.live.sidecar import Sidecar, dump, parse, read
from conformance.live.workload import Impairment, Plan, plan, without_netem
from conformance.live.workload_flows import KINDS
from conformance.live.workload_run import pcapng, record_random
from conformance.pcap import Reader
from tests.cli import told

SPACE = [plan(seed) for seed in range(400)]


# ---- plans --------------------------------------------------------------------------------------------------------


def test_a_seed_means_one_plan() -> None:
    assert [plan(seed) for seed in range(20)] == SPACE[:20]
    assert len({p.says for p in SPACE}) == len(SPACE)


def test_the_plans_cover_what_they_are_drawn_from() -> None:
    assert {f.kind for p in SPACE for f in p.flows} == set(KINDS)
    assert {p.topology for p in SPACE} == {"pair", "relay", "router", "loopback"}
    assert {p.tap for p in SPACE} == {"a", "b", "both", "middle", "middle-both"}
    assert {p.nat for p in SPACE} == {"", "masquerade", "dnat"}
    assert {p.snaplen for p in SPACE} == {0, 96, 128}
    assert {i.place.split(".")[1] for p in SPACE for i in p.impairments} == {
        *("ingress", "input", "egress", "output", "forward", "qdisc")
    }
    for values in (
        Counter(p.congestion for p in SPACE),
        Counter(p.family for p in SPACE),
        Counter(p.offloads["tso"] for p in SPACE),
        Counter(p.start for p in SPACE),
    ):
        assert min(values.values()) >= 25


def test_a_connection_that_opens_fast_finds_the_sysctl_for_it() -> None:
    fast = [p for p in SPACE if any(f.fast_open for f in p.flows)]
    assert fast
    assert all(p.sysctls["*"]["net.ipv4.tcp_fastopen"] == 3 and p.start == "whole" for p in fast)


def test_frames_are_damaged_only_where_their_checksum_is_in_them() -> None:
    damaged = [p for p in SPACE if any(f.corrupt for f in p.fates)]
    assert damaged
    assert not any(p.offloads["tx-checksum"] for p in damaged)


def test_ipv6_never_runs_below_its_smallest_mtu() -> None:
    assert all(p.mtu >= 1280 and p.path_mtu in (0, 1300) for p in SPACE if p.family == 6)


def test_the_bulky_seeds_send_more_than_two_megabytes() -> None:
    for seed in BULK:
        flows = plan(seed).flows
        assert (
            sum(s.size for f in flows for lane in (*f.client, *f.server) for s in lane if s.call == "send") > 2_000_000
        )


def test_flows_have_ports_of_their_own() -> None:
    assert all(len({f.port for f in p.flows}) == len(p.flows) for p in SPACE)


def held_by_netem(rule: str, place: str = "a.qdisc") -> Plan:
    pair = next(p for p in SPACE if p.topology == "pair" and not p.impairments)
    return Plan(**{**vars(pair), "impairments": (Impairment(place, rule),)})


@pytest.mark.parametrize(
    ("rule", "fate"),
    [
        ("netem limit 40 delay 5ms 1ms loss 2%", Fate(delay=5, jitter=1, ordered=False, loss=0.02)),
        ("netem limit 40 delay 20ms 0ms duplicate 2%", Fate(delay=20, ordered=False, duplicate=0.02)),
        ("netem limit 40 delay 1ms 3ms reorder 97% 50%", Fate(delay=1, jitter=3, ordered=False, reorder=0.03)),
        ("netem limit 40 delay 1ms 0ms loss gemodel 1% 40%", Fate(delay=1, ordered=False, loss=0.01, burst=0.6)),
    ],
)
def test_without_netem_a_relay_does_the_same(rule: str, fate: Fate) -> None:
    p = without_netem(held_by_netem(rule))
    assert p.topology == "relay"
    assert p.fates[0] == fate
    assert not p.impairments
    assert without_netem(held_by_netem(rule, "b.qdisc")).fates[1] == fate


def test_without_netem_other_plans_stay_as_they_are() -> None:
    assert all(without_netem(p) == p for p in SPACE if not any("netem" in i.rule for i in p.impairments))


# ---- the relay ----------------------------------------------------------------------------------------------------


def ipv4(tos: int = 0, payload: bytes = bytes(40)) -> bytes:
    """A frame as the relay holds it; the checksum of its header is right."""
    head = bytearray(
        struct.pack(">BBHHHBBH4s4s", 0x45, tos, 20 + len(payload), 7, 0, 64, 6, 0, b"\x0a\0\0\1", b"\x0a\0\0\2")
    )
    head[10:12] = (complement(bytes(head))).to_bytes(2, "big")
    return bytes(VNET_HDR) + bytes(12) + b"\x08\x00" + bytes(head) + payload


def complement(head: bytes) -> int:
    """RFC 1071's checksum."""
    total = sum(struct.unpack(f">{len(head) // 2}H", head))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def ipv6(traffic_class: int) -> bytes:
    word = struct.pack(">I", 6 << 28 | traffic_class << 20 | 0xABCDE)
    return bytes(VNET_HDR) + bytes(12) + b"\x86\xdd" + word + bytes(60)


ARP = bytes(VNET_HDR) + bytes(12) + b"\x08\x06" + bytes(28)


@pytest.mark.parametrize("tos", [1, 2, 0x29])
def test_a_marked_datagram_has_ce_and_a_right_checksum(tos: int) -> None:
    head = mark(ipv4(tos))[VNET_HDR + 14 : VNET_HDR + 34]
    assert head[1] == tos | 3
    assert complement(head) == 0


def test_ipv6_is_marked_in_its_traffic_class_alone() -> None:
    was, now = ipv6(0xB2), mark(ipv6(0xB2))
    assert now[VNET_HDR + 14 :] == struct.pack(">I", 6 << 28 | 0xB3 << 20 | 0xABCDE) + was[VNET_HDR + 18 :]


@pytest.mark.parametrize("frame", [ipv4(0), ipv4(3), ipv6(0), ipv6(3)])
def test_what_is_not_capable_of_ecn_or_marked_already_stays(frame: bytes) -> None:
    assert mark(frame) == frame


def test_arp_is_delayed_and_nothing_else_happens_to_it() -> None:
    d = Direction(Fate(loss=1.0, delay=20, corrupt=1.0, duplicate=1.0), "x")
    assert d.leaves(ARP, 5.0) == [(5.02, ARP)]
    assert d.leaves(ipv4(), 5.0) == []
    assert d.counts["lost"] == 1


def test_a_burst_goes_on() -> None:
    d = Direction(Fate(loss=0.01, burst=1.0), "x")
    gone = [not d.leaves(ipv4(), 0.0) for _ in range(2000)]
    first = gone.index(True)
    assert all(gone[first:])


def test_ordered_jitter_keeps_the_order_and_other_jitter_does_not() -> None:
    def times(ordered: bool) -> list[float]:
        d = Direction(Fate(delay=10, jitter=10, ordered=ordered), "x")
        return [d.leaves(ipv4(), n / 1000)[0][0] for n in range(50)]

    assert times(True) == sorted(times(True))
    assert times(False) != sorted(times(False))
    assert all(0.01 <= t - n / 1000 <= 0.02 for n, t in enumerate(times(False)))


def test_a_repeated_frame_leaves_twice_and_a_damaged_one_differs_in_a_bit_behind_the_ip_header() -> None:
    twice = Direction(Fate(duplicate=1.0), "x").leaves(ipv4(), 0.0)
    assert [f for _, f in twice] == [ipv4(), ipv4()]
    ((_, damaged),) = Direction(Fate(corrupt=1.0), "x").leaves(ipv4(), 0.0)
    head = VNET_HDR + 14 + 20
    assert damaged[:head] == ipv4()[:head]
    assert sum((a ^ b).bit_count() for a, b in zip(damaged, ipv4(), strict=True)) == 1


def test_a_slow_wire_queues_and_then_drops_the_tail() -> None:
    d = Direction(Fate(rate=432, limit=3), "x")  # 54 bytes take 1 ms... a frame of 74 bytes takes 74/54 ms
    took = (len(ipv4()) - VNET_HDR) * 8 / 432_000
    left = [d.leaves(ipv4(), 0.0) for _ in range(5)]
    assert [round(x[0][0] / took, 6) for x in left[:3]] == [1, 2, 3]
    assert left[3:] == [[], []]
    assert d.counts["queue"] == 2


def test_a_fate_is_written_as_netem_reads_it() -> None:
    fate = Fate(
        delay=0.5, jitter=0.1, loss=0.01, burst=0.6, duplicate=0.05, corrupt=0.01, reorder=0.05, rate=2000, limit=10
    )
    assert netem(fate) == (
        "netem limit 10 delay 0.5ms 0.1ms loss gemodel 1.000000% 40.000000% duplicate 5.000000% corrupt 1.000000% "
        "reorder 5.000000% rate 2000kbit"
    )


# ---- files --------------------------------------------------------------------------------------------------------


def classic(linktype: int, *records: tuple[int, bytes]) -> bytes:
    """A pcap as tcpdump writes it, with nanoseconds."""
    out = struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, linktype)
    for ns, data in records:
        out += struct.pack("=IIII", ns // 10**9, ns % 10**9, len(data), len(data) + 100) + data
    return out


def test_taps_are_merged_in_the_order_of_time_between_two_moments(tmp_path: Path) -> None:
    first = classic(1, (1_000, b"early"), (2_000, b"one"), (4_000, b"three"))
    second = classic(1, (3_000, b"two"), (5_000_000_001, b"late"))
    data, frames = pcapng([("a0", first), ("b0", second)], 2_000, 5_000_000_000, 96, "what happened")
    assert frames == 3
    path = tmp_path / "x.pcapng.gz"
    path.write_bytes(gzip.compress(data))
    with Reader(path) as reader:
        got = list(reader)
        assert [(i.name, i.snaplen, i.ticks) for i in reader.interfaces] == [("a0", 96, 10**9), ("b0", 96, 10**9)]
    assert [(f.time, f.interface, f.data, f.orig_len) for f in got] == [
        (2_000, 0, b"one", 103),
        (3_000, 1, b"two", 103),
        (4_000, 0, b"three", 105),
    ]


def test_the_profile_is_the_newest_that_the_kernel_has_reached() -> None:
    names = ("6.1.0-56-amd64", "6.12.117", "6.18.44-fc", "5.10", "7.0")
    assert [workload_run.profile_of(n) for n in names] == ["6.1", "6.12", "6.18", "6.1", "6.18"]


def test_what_is_recorded_already_is_not_recorded_again(tmp_path: Path) -> None:
    (tmp_path / "random-6.1-201.toml").touch()
    assert missing("6.1", [200, 201, 202], tmp_path) == [200, 202]


def test_the_corpus_is_of_three_kernels_and_three_hundred_seeds() -> None:
    assert sorted(SEEDS) == ["6.1", "6.12", "6.18"]
    assert sum(len(s) for s in SEEDS.values()) >= 300
    assert len({n for s in SEEDS.values() for n in s}) == sum(len(s) for s in SEEDS.values())


def test_keys_with_dots_survive_the_sidecar() -> None:
    s = shipped_sidecars()[0] if CASES else None
    if s is None:
        pytest.skip("no random workloads are shipped")
    assert parse(dump(s)).extra == s.extra


# ---- the shipped recordings ---------------------------------------------------------------------------------------

SHIPPED = Path(__file__).parent.parent / "captures" / "random"
CASES = sorted(p.name.removesuffix(".toml") for p in SHIPPED.glob("random-*.toml"))


def shipped_sidecars() -> list[Sidecar]:
    return [read(SHIPPED / f"{c}.toml") for c in CASES]


def frames_of(case: str) -> list[Frame]:
    with Reader(SHIPPED / f"{case}.pcapng.gz") as reader:
        return list(reader)


def tcp_addresses(frame: Frame) -> tuple[bytes, bytes] | None:
    """Source and destination of a TCP segment that is not a fragment's rest; None for other frames."""
    at = {1: 14, 276: 20}[frame.linktype]
    kind = frame.data[12:14] if frame.linktype == 1 else frame.data[:2]
    ip = frame.data[at:]
    if kind == b"\x08\x00" and ip[9] == 6 and not struct.unpack_from(">H", ip, 6)[0] & 0x1FFF:
        return ip[12:16], ip[16:20]
    if kind == b"\x86\xdd" and ip[6] == 6:
        return ip[8:24], ip[24:40]
    return None


def packed(addresses: list[str]) -> set[bytes]:
    return {ip_address(a).packed for a in addresses}


def test_a_hundred_small_recordings_of_three_kernels_are_shipped() -> None:
    sidecars = shipped_sidecars()
    assert len(sidecars) >= 100
    assert min(Counter(s.kernel.profile for s in sidecars).values()) >= 30
    files = [f for c in CASES for f in (SHIPPED / f"{c}.toml", SHIPPED / f"{c}.pcapng.gz")]
    assert max(f.stat().st_size for f in files) < 60_000
    assert sum(f.stat().st_size for f in files) < 4_000_000


def test_the_shipped_recordings_cover_the_space() -> None:
    sidecars = shipped_sidecars()
    assert {k for s in sidecars for k in s.extra["workload"]["kinds"]} == set(KINDS)
    assert {s.extra["workload"]["congestion"] for s in sidecars} == {"reno", "cubic", "bbr"}
    assert {s.extra["workload"]["topology"] for s in sidecars} == {"pair", "relay", "router", "loopback"}
    assert {s.extra["workload"]["nat"] for s in sidecars} == {"", "masquerade", "dnat"}
    assert {s.extra["taps"]["start"] for s in sidecars} == {"whole", "middle"}
    assert {s.extra["taps"]["snaplen"] for s in sidecars} == {0, 96, 128}
    assert {s.extra["workload"]["family"] for s in sidecars} == {4, 6}


@pytest.mark.parametrize("case", CASES)
def test_a_shipped_recording_is_of_its_seed_and_whole(case: str) -> None:
    s = read(SHIPPED / f"{case}.toml")
    seed = s.extra["workload"]["seed"]
    assert case == s.case == f"random-{s.kernel.profile}-{seed}"
    assert s.says in (plan(seed).says, without_netem(plan(seed)).says)
    assert s.extra["taps"]["dropped"] == 0
    frames = frames_of(case)
    assert len(frames) == s.extra["taps"]["frames"] > 0
    assert s.extra["taps"]["begins"] <= frames[0].time / 1e9 + 1e-5
    assert frames[-1].time / 1e9 <= s.extra["taps"]["ends"] + 1e-5


@pytest.mark.parametrize("case", CASES)
def test_every_frame_comes_from_an_interface_that_the_sidecar_names(case: str) -> None:
    known = {bytes.fromhex(mac.replace(":", "")) for mac in read(SHIPPED / f"{case}.toml").extra["links"].values()}
    sources = {f.data[6:12] for f in frames_of(case) if f.linktype == 1}
    assert sources <= (known or {bytes(6)})  # the loopback has no addresses


@pytest.mark.parametrize("case", CASES)
def test_a_host_counted_every_segment_that_its_tap_saw_come(case: str) -> None:
    """net/ipv4/tcp_ipv4.c:tcp_v4_rcv counts InSegs before it looks at the checksum; drops before it are said."""
    s = read(SHIPPED / f"{case}.toml")
    frames = frames_of(case)
    for number, name in enumerate(s.extra["taps"]["hosts"]):
        if s.extra["taps"]["kinds"][number] != "near":
            continue
        host = s.host(name)
        mine = packed(host.addresses)
        seen = sum(f.interface == number and (pair := tcp_addresses(f)) is not None and pair[1] in mine for f in frames)
        counted = host.mib_after.get("Tcp.InSegs", 0) - host.mib_before.get("Tcp.InSegs", 0)
        dropped = sum(s.extra["drops"].get(f"{name}.{hook}", 0) for hook in ("ingress", "input"))
        if s.extra["taps"]["start"] == "whole":
            assert counted == seen - dropped
        else:
            assert seen - dropped <= counted <= seen


def hides(s: Sidecar, name: str) -> bool:
    """Whether the tap on a host sees other segments leave than TCP counted: dropped, repeated or cut before the tap."""
    own = [i for i in s.extra["workload"]["impairments"] if i.startswith(f"{name}.qdisc")]
    dropped = sum(s.extra["drops"].get(f"{name}.{hook}", 0) for hook in ("output", "egress", "qdisc"))
    middle = s.extra["taps"]["start"] == "middle"
    return middle or s.offloads["gso"] or bool(dropped) or any("duplicate" in i for i in own)


@pytest.mark.parametrize("case", [c for c in CASES if not hides(read(SHIPPED / f"{c}.toml"), "a")])
def test_a_host_counted_every_segment_that_its_tap_saw_leave(case: str) -> None:
    """A SYN-ACK sent again counts in OutSegs and in RetransSegs (net/ipv4/tcp_output.c:tcp_rtx_synack)."""
    s = read(SHIPPED / f"{case}.toml")
    frames = frames_of(case)
    for number, name in enumerate(s.extra["taps"]["hosts"]):
        if s.extra["taps"]["kinds"][number] != "near" or hides(s, name):
            continue
        host = s.host(name)
        mine = packed(host.addresses)
        mib = {k: host.mib_after.get(k, 0) - host.mib_before.get(k, 0) for k in ("Tcp.OutSegs", "Tcp.RetransSegs")}
        left = [f for f in frames if f.interface == number and (pair := tcp_addresses(f)) and pair[0] in mine]
        opening = Counter(answers(f) for f in left if answers(f))
        again = sum(n - 1 for n in opening.values())
        assert sum(mib.values()) == len(left) + again


def answers(f: Frame) -> bytes:
    """Addresses, ports and sequence number of a SYN-ACK; nothing for other segments."""
    ip = f.data[{1: 14, 276: 20}[f.linktype] :]
    addresses, tcp = (ip[12:20], ip[(ip[0] & 15) * 4 :]) if ip[0] >> 4 == 4 else (ip[8:40], ip[40:])
    return addresses + tcp[:8] if tcp[13] & 0x12 == 0x12 else b""


def test_an_index_lists_every_recording(tmp_path: Path) -> None:
    for case in CASES[:3]:
        for end in ("toml", "pcapng.gz"):
            (tmp_path / f"{case}.{end}").write_bytes((SHIPPED / f"{case}.{end}").read_bytes())
    rows = index(tmp_path)
    assert [r["case"] for r in rows] == CASES[:3]
    assert all(r["frames"] > 0 and r["bytes"] > 0 for r in rows)


def row(kernel: str, n: int, **shows: object) -> dict[str, object]:
    """A line of an index: a recording that shows nothing in particular but what is given."""
    plain = {
        **{"case": f"random-{kernel}-{n}", "kernel": kernel, "bytes": 1000, "sidecar_bytes": 1000, "frames": 9},
        **{
            "topology": "pair",
            "congestion": "reno",
            "family": 4,
            "snaplen": 0,
            "start": "whole",
            "nat": "",
            "mtu": 1500,
        },
        **{
            "mtu": 1500,
            "path_mtu": 0,
            "kinds": ["push"],
            "interfaces": ["a0"],
            "offloads": ["none"],
            "sysctls": [],
            "drops": {},
        },
        **{"impairments": [], "cut": False},
    }
    return plain | shows


def test_what_shows_something_new_is_chosen_before_what_repeats() -> None:
    rows = [row("6.1", n) for n in range(5)] + [row("6.1", 5, kinds=["urgent"]), row("6.12", 6)]
    assert {r["case"] for r in choose(rows, 3)} >= {"random-6.1-5", "random-6.12-6"}


def test_what_is_too_big_or_empty_is_never_chosen() -> None:
    rows = [row("6.1", 1, bytes=60_000), row("6.1", 2, sidecar_bytes=60_000), row("6.1", 3, frames=0), row("6.1", 4)]
    assert [r["case"] for r in choose(rows, 4)] == ["random-6.1-4"]


def test_what_an_impairment_shows_is_its_words_without_its_numbers() -> None:
    shown = features(row("6.1", 1, impairments=["b.qdisc netem limit 40 delay 5ms 1ms loss 2%"], drops={"b.qdisc": 3}))
    assert {"b.qdisc netem limit delay loss", "drops b.qdisc"} <= shown


# ---- the command ---------------------------------------------------------------------------------------------------


def test_a_seed_and_a_scenario_exclude_each_other() -> None:
    assert "name no scenario" in told("record", "--random", "3", "tcp_active_open", status=2)


# ---- live ---------------------------------------------------------------------------------------------------------


@pytest.mark.live
@pytest.mark.parametrize("seed", [3, 12])
def test_a_workload_is_recorded_under_this_kernel(seed: int, tmp_path: Path) -> None:
    try:
        require_lab("nft", "tc")
    except LabUnavailable as e:
        pytest.skip(str(e))
    path = record_random(seed, tmp_path)
    s = read(tmp_path / path.name.replace(".pcapng.gz", ".toml"))
    with Reader(path) as reader:
        assert len(list(reader)) == s.extra["taps"]["frames"] > 0
    assert s.host("a").mib_after["Tcp.InSegs"] >= 1
