"""Sidecars: what is written is read back, and what is wrong is named."""

import string
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.live import sidecar
from conformance.live.sidecar import (
    Call,
    Expected,
    HostInfo,
    Kernel,
    Notification,
    NotModelled,
    Sidecar,
    SidecarError,
    Vantage,
)

GOOD = """
case = "tcp-refused"
scenario = "tcp_refused"
layer = "tcp"
says = "Nobody listens."

[kernel]
release = "6.18.1-x"
profile = "6.18"
hz = 250

[vantage]
host = "a"
interface = "a0"
kind = "near"

[offloads]
tso = false
gso = true

[[hosts]]
name = "a"
linux = true
addresses = ["10.9.0.1", "fd09::1"]
mac = "02:00:00:00:00:01"
sysctls = { "net.ipv4.tcp_syn_retries" = 2, "net.ipv4.tcp_congestion_control" = "reno" }

[hosts.mib_before]
"Tcp.ActiveOpens" = 0

[hosts.mib_after]
"Tcp.ActiveOpens" = 1

[[hosts]]
name = "b"
linux = false
addresses = []
mac = "02:00:00:00:00:02"

[[calls]]
host = "a"
time = 1234.5
call = "connect(3, 10.9.0.2:8080)"
result = "-1 ECONNREFUSED"

[[notifications]]
host = "a"
time = 1234.25
event = "NEWNEIGH"
dst = "10.9.0.2"
state = "REACHABLE"
lladdr = "02:00:00:00:00:02"
probes = 4

[expected]
verdict = "conforms"

[[expected.not_modelled]]
class = "loss recovery"
reason = "later"
"""


def test_a_sidecar_says_what_its_text_says() -> None:
    s = sidecar.parse(GOOD)
    assert s.case == "tcp-refused"
    assert s.kernel == Kernel("6.18.1-x", "6.18", 250)
    assert s.vantage == Vantage("a", "a0", "near")
    assert s.offloads == {"tso": False, "gso": True}
    assert s.host("a").sysctls == {"net.ipv4.tcp_syn_retries": 2, "net.ipv4.tcp_congestion_control": "reno"}
    assert s.host("a").mib_after == {"Tcp.ActiveOpens": 1}
    assert not s.host("b").linux
    assert s.calls == [Call("a", 1234.5, "connect(3, 10.9.0.2:8080)", "-1 ECONNREFUSED", 1234.5)]
    assert s.notifications[0].probes == 4
    assert s.expected == Expected("conforms", [NotModelled("loss recovery", "later")])


def test_a_call_without_its_return_returned_at_once() -> None:
    assert sidecar.parse(GOOD).calls[0].returned == 1234.5


def test_tables_of_other_layers_are_kept() -> None:
    assert sidecar.parse(GOOD + "\n[rings]\ntx = 256\n").extra == {"rings": {"tx": 256}}


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('layer = "tcp"', 'layer = "udp"', "layer = 'udp': one of tcp, neigh, nic"),
        ('case = "tcp-refused"\n', "", "case is missing"),
        ("hz = 250", 'hz = "250"', "[kernel]: hz = '250': int was expected"),
        ("hz = 250", "hz = true", "[kernel]: hz = True: a number was expected"),
        ("tso = false", "tso = 0", "[offloads]: tso = 0: bool was expected"),
        ("linux = true", "", "[[hosts]] 1: linux is missing"),
        ("linux = true", "linux = true\nshoe_size = 43", "[[hosts]] 1: shoe_size is not a key that is known here"),
        ('host = "a"\ntime = 1234.5', 'host = "z"\ntime = 1234.5', "[[calls]] names host 'z'"),
        ('host = "a"\ninterface', 'host = "z"\ninterface', "[vantage] names host 'z', which is not among a, b"),
        (
            'event = "NEWNEIGH"',
            'event = "OLDNEIGH"',
            "[[notifications]] 1: event = 'OLDNEIGH': one of NEWNEIGH, DELNEIGH",
        ),
        ('verdict = "conforms"', 'verdict = "fine"', "[expected]: verdict = 'fine': one of"),
        ('[expected]\nverdict = "conforms"', "", "verdict is missing"),
        ("[kernel]", "kernel = 3\n[other]", "[kernel]"),
        ('"Tcp.ActiveOpens" = 1', '"Tcp.ActiveOpens" = "one"', "[mib_after]: Tcp.ActiveOpens = 'one'"),
        ("[vantage]", "[vantage", "not TOML"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, named: str) -> None:
    assert old in GOOD
    with pytest.raises(SidecarError) as e:
        sidecar.parse(GOOD.replace(old, new, 1), "x.toml")
    assert str(e.value).startswith("x.toml: ")
    if named != "[kernel]":
        assert named in str(e.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SidecarError, match=r"x\.toml: not UTF-8"):
        sidecar.read(path)


def test_a_missing_file_stays_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sidecar.read(tmp_path / "none.toml")


def test_a_host_that_is_not_there_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        sidecar.parse(GOOD).host("q")


words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12) | st.sampled_from(
    ['a "quoted" word', "\\", "\t"]
)
names = st.text(string.ascii_lowercase, min_size=1, max_size=4)
keys = st.text(string.ascii_letters + "._-", min_size=1, max_size=20)
counters = st.dictionaries(keys, st.integers(0, 2**63 - 1), max_size=3)
times = st.integers(0, 2_000_000_000_000_000).map(lambda us: round(us / 1_000_000, 6))


@st.composite
def sidecars(draw: st.DrawFn) -> Sidecar:
    hosts = [
        HostInfo(
            name,
            draw(st.booleans()),
            draw(st.lists(words, max_size=2)),
            draw(words),
            draw(st.dictionaries(keys, st.integers(-1, 10**9) | words | st.booleans(), max_size=3)),
            draw(counters),
            draw(counters),
        )
        for name in draw(st.lists(names, min_size=1, max_size=3, unique=True))
    ]
    host = st.sampled_from([h.name for h in hosts])
    return Sidecar(
        *(draw(words), draw(words), draw(st.sampled_from(sidecar.LAYERS)), draw(words)),
        Kernel(draw(words), draw(words), draw(st.integers(1, 1000))),
        Vantage(draw(host), draw(words), draw(st.sampled_from(sidecar.KINDS))),
        draw(st.dictionaries(st.sampled_from(["tso", "gso", "gro", "tx-checksum"]), st.booleans())),
        hosts,
        [Call(draw(host), draw(times), draw(words), draw(words), draw(times)) for _ in range(draw(st.integers(0, 2)))],
        [
            Notification(
                draw(host),
                draw(times),
                draw(st.sampled_from(["NEWNEIGH", "DELNEIGH"])),
                draw(words),
                draw(words),
                draw(words),
                draw(st.integers(0, 9)),
                draw(st.integers(0, 255)),
            )
            for _ in range(draw(st.integers(0, 2)))
        ],
        Expected(
            draw(st.sampled_from(sidecar.VERDICTS)), draw(st.lists(st.builds(NotModelled, words, words), max_size=2))
        ),
    )


@settings(max_examples=60, deadline=None)
@given(sidecars())
def test_what_is_written_is_read_back(s: Sidecar) -> None:
    back = sidecar.parse(sidecar.dump(s))
    rounded = [replace(c, time=float(f"{c.time:.6f}"), returned=float(f"{c.returned:.6f}")) for c in s.calls]
    heard = [replace(n, time=float(f"{n.time:.6f}")) for n in s.notifications]
    assert back == replace(s, calls=rounded, notifications=heard)
