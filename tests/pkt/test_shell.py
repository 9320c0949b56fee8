"""The shell vocabulary: each command of it is understood, nothing else is, and nothing runs."""

import pytest

from conformance.pkt.ast import Command
from conformance.pkt.look import Fields, Files, Lines, Look, Nstat, Ss
from conformance.pkt.parser import parse
from conformance.pkt.shell import interpret
from conformance.pkt.shell_actions import (
    DEFAULTS,
    Action,
    Defaults,
    Ethtool,
    Exit,
    FileOp,
    FlushMetrics,
    GrepProcNetTcp,
    Nothing,
    NstatCheck,
    NstatReset,
    Qdisc,
    ReadSysctl,
    RestoreSysctls,
    RouteChange,
    RouteMetric,
    SetModuleParameter,
    SetMtu,
    SetSysctl,
    Sleep,
)
from conformance.pkt.source import ScriptError


def actions(text: str) -> list[Action]:
    return [step.action for step in interpret(Command(text=text))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("./defaults.sh", [Defaults("./defaults.sh")]),
        ("../../common/defaults.sh\n", [Defaults("../../common/defaults.sh")]),
        ("sysctl -q net.ipv4.tcp_ecn=1", [SetSysctl("net.ipv4.tcp_ecn", "1")]),
        ("sysctl -qw net/ipv4/tcp_ecn=1", [SetSysctl("net.ipv4.tcp_ecn", "1")]),
        ("sysctl -e -q net.ipv4.a=1 net.ipv4.b=2",
         [SetSysctl("net.ipv4.a", "1", ignore_missing=True), SetSysctl("net.ipv4.b", "2", ignore_missing=True)]),
        ('sysctl -q net.ipv4.tcp_rmem="4096\t540000 $((15*1024*1024))" > /dev/null 2>&1',
         [SetSysctl("net.ipv4.tcp_rmem", "4096 540000 15728640")]),
        ("sysctl net.ipv4.tcp_ecn", [ReadSysctl("net.ipv4.tcp_ecn")]),
        ("./set_sysctls.py /proc/sys/net/ipv4/a=5 \\\n  /proc/sys/net/ipv4/b='1 2'",
         [SetSysctl("net.ipv4.a", "5", restore=True), SetSysctl("net.ipv4.b", "1 2", restore=True)]),
        ("/tmp/sysctl_restore_${PPID}.sh", [RestoreSysctls()]),
        ("/tmp/sysctl_restore_$PPID.sh", [RestoreSysctls()]),
        ("echo 2 > /proc/sys/net/ipv4/tcp_ecn", [SetSysctl("net.ipv4.tcp_ecn", "2")]),
        ("cat /proc/sys/net/ipv4/tcp_ecn >/dev/null", [ReadSysctl("net.ipv4.tcp_ecn")]),
        ("echo 0 > /sys/module/tcp_cubic/parameters/hystart_detect",
         [SetModuleParameter("tcp_cubic", "hystart_detect", "0")]),
        ("echo hello", [Nothing()]),
        ("true", [Nothing()]),
        ("ip tcp_metrics flush all > /dev/null 2>&1", [FlushMetrics()]),
        ("ip tcp_metrics flush", [FlushMetrics()]),
        ("ip link set dev tun0 mtu 1300", [SetMtu("tun0", 1300)]),
        ("ip route change 192.0.2.0/24 via 192.168.0.1 dev tun0 advmss 1024",
         [RouteChange("change", 4, "192.0.2.0/24", "192.168.0.1", "tun0", metrics=(RouteMetric("advmss", 1024),))]),
        ("ip -6 route add fd3d:fa7b::/48 dev tun0 mtu lock 1300 rto_min 5ms features ecn",
         [RouteChange("add", 6, "fd3d:fa7b::/48", dev="tun0",
                      metrics=(RouteMetric("mtu", 1300, lock=True), RouteMetric("rto_min", 5000),
                               RouteMetric("features", "ecn")))]),
        ("tc qdisc add dev tun0 root pfifo", [Qdisc("add", "tun0", "pfifo")]),
        ("tc qdisc add dev tun0 root pfifo limit 1", [Qdisc("add", "tun0", "pfifo", (("limit", "1"),))]),
        ("tc qdisc replace dev tun0 root fq nopacing", [Qdisc("replace", "tun0", "fq", (("nopacing", None),))]),
        ("tc qdisc delete dev tun0 root", [Qdisc("del", "tun0")]),
        ("ethtool -K tun0 tso off gso on", [Ethtool("tun0", (("tso", False), ("gso", True)))]),
        ("nstat -n", [NstatReset()]),
        ("nstat > /dev/null", [NstatReset()]),
        ('nstat | grep TcpExtTCPTimeouts | grep -q " 1 "', [NstatCheck("TcpExtTCPTimeouts", 1)]),
        ('nstat -s | grep TcpExtTCPRcvQDrop|grep -q " 12 "', [NstatCheck("TcpExtTCPRcvQDrop", 12, update=False)]),
        ("nstat -sz TcpInErrs | grep -q TcpInErrs", [NstatCheck("TcpInErrs", None, update=False, zeros=True)]),
        ('nstat | grep -q "TcpExtTCPTimeouts  *3 "', [NstatCheck("TcpExtTCPTimeouts", 3)]),
        ('grep " 0A " /proc/net/tcp /proc/net/tcp6 | grep ":1F90"',
         [GrepProcNetTcp(("/proc/net/tcp", "/proc/net/tcp6"), 10, 8080)]),
        ("dd bs=1k count=5 if=/dev/zero of=/tmp/testfile status=none", [FileOp("create", "/tmp/testfile", 5120)]),
        ("rm -f /tmp/testfile", [FileOp("remove", "/tmp/testfile")]),
        ("", []),
        (" # nothing\n\n", []),
    ],
)  # fmt: skip
def test_the_vocabulary(text: str, expected: list[Action]) -> None:
    assert actions(text) == expected


def test_commands_are_joined() -> None:
    steps = interpret(Command(text="nstat -n;true && true ||\n true\n# end\nsysctl -q net.a=1 net.b=2 || true"))
    assert [step.then for step in steps] == [";", "&&", "||", ";", "&&", "||", ""]


def test_defaults_pin_what_the_suites_pin() -> None:
    pinned = {a.name: a.value for a in DEFAULTS if isinstance(a, SetSysctl)}
    assert pinned["net.ipv4.tcp_rmem"] == "4096 540000 15728640"
    assert pinned["net.ipv4.tcp_fastopen"] == "0x70403"
    assert DEFAULTS[0] == FlushMetrics()
    assert DEFAULTS[-1] == Qdisc("add", "tun0", "pfifo")


@pytest.mark.parametrize(
    ("text", "what", "column"),
    [
        ("reboot", "shell command 'reboot' is not interpreted", 1),
        ("true; defaults.sh", "shell command 'defaults.sh' is not interpreted", 7),
        ("$xtables -A INPUT", "'$' in a shell command is not interpreted", 1),
        ("true $(id)", "'$' in a shell command is not interpreted", 6),
        ("true `id`", "'`' in a shell command is not interpreted", 6),
        ("echo \"`id`\"", "'`' in a shell command is not interpreted", 7),
        ("true &", "'&' in a shell command is not interpreted", 6),
        ("(true)", "'(' in a shell command is not interpreted", 1),
        ("rm /tmp/*", "'*' in a shell command is not interpreted", 9),
        ("rm -rf /tmp/x", "rm: '-rf' is not interpreted", 4),
        ("rm /etc/passwd", "rm: '/etc/passwd' is not interpreted", 4),
        ("rm /tmp/../etc/passwd", "rm: '/tmp/../etc/passwd' is not interpreted", 4),
        ("echo x > /etc/passwd", "echo to '/etc/passwd' is not interpreted", 8),
        ("echo 1 > /proc/sys/../x", "echo to '/proc/sys/../x' is not interpreted", 8),
        ("echo 1 >> /proc/sys/net/a", "echo to '/proc/sys/net/a' is not interpreted", 8),
        ("sysctl -p /x", "sysctl: '-p' is not interpreted", 8),
        ("sysctl x=1", "sysctl: 'x=1' is not interpreted", 8),
        ("sysctl -q", "sysctl ends too early", 8),
        ("sysctl -q net.a=1 > /x", "output to '/x' is not interpreted", 19),
        ("cat /etc/passwd", "cat: '/etc/passwd' is not interpreted", 5),
        ("dd if=/dev/sda of=/tmp/x count=1", "dd: 'if=/dev/sda' is not interpreted", 4),
        ("dd of=/tmp/x bs=1M count=9999", "dd without of= or count=, or with too much", 1),
        ("ip netns add x", "ip: 'netns' is not interpreted", 4),
        ("ip link set tun0 up", "ip: 'up' is not interpreted", 18),
        ("ip link set tun0 mtu 99999", "ip: '99999' is not interpreted", 22),
        ("ip route add x", "ip: 'x' is not interpreted", 14),
        ("ip route add 1.2.3.4 rto_min 5", "ip: '5' is not interpreted", 30),
        ("tc qdisc add dev tun0 root netem", "tc: 'netem' is not interpreted", 28),
        ("ethtool -K tun0 tso maybe", "ethtool: 'maybe' is not interpreted", 21),
        ("nstat | awk x", "'awk' is not interpreted", 9),
        ("true | true", "shell command 'true' is not interpreted", 8),
        ("grep root /etc/passwd", "'/etc/passwd' is not interpreted", 11),
        ("grep x /proc/sys/net/../../kmsg", "'/proc/sys/net/../../kmsg' is not interpreted", 8),
        ("cat /proc/net/arp | grep x", "'/proc/net/arp' is not interpreted", 5),
        ("cat /proc/net/tcp | xargs rm", "'xargs' is not interpreted", 21),
        ("ss -K", "'-K' is not interpreted", 4),
        ("ss -t | grep '\\(a\\)*b'", "'\\\\(a\\\\)*b' is not interpreted", 14),
        ("ss -t | awk '{system(\"id\")}'", "'awk' is not interpreted", 9),
        ("exit 256", "exit: '256' is not interpreted", 6),
        ("sleep forever", "sleep: 'forever' is not interpreted", 7),
        ("sleep 2h", "sleep: '2h' is not interpreted", 7),
        ("true &&", "a command is missing here", 8),
        ("| true", "a command is missing here", 1),
        ("true ;; true", "a command is missing here", 7),
        ("true 'a", "a quote that is not closed", 6),
        ('true "a', "a quote that is not closed", 6),
        ("true >", "> without a file", 7),
        ("> /dev/null", "a redirection without a command", 1),
        ("true $((2**9**9))", "cannot be computed: a number of more than 512 bits", 9),
        ("true $((1+))", "the code block is no Python: invalid syntax", 11),
    ],
)  # fmt: skip
def test_everything_else_is_refused_with_its_place(text: str, what: str, column: int) -> None:
    with pytest.raises(ScriptError) as why:
        interpret(Command(text=text))
    assert why.value.what == what
    assert (why.value.at.line, why.value.at.column) == (1, column)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sleep 1.5", Sleep(1_500_000)),
        ("sleep .25s", Sleep(250_000)),
        ("sleep 1m", Sleep(60_000_000)),
        ("exit", Exit(0)),
        ("exit 4", Exit(4)),
        ("false", Nothing(fails=True)),
        (":", Nothing()),
    ],
)  # fmt: skip
def test_what_ends_a_text_and_what_takes_time(text: str, expected: Action) -> None:
    assert actions(text) == [expected]


def test_a_pipe_is_a_text_and_what_it_goes_through() -> None:
    (found,) = actions("cat /proc/net/netstat | grep -v ^IpExt | head -n 2 | awk '{print $2, $0}' | wc -l")
    assert isinstance(found, Look)
    assert found.source == Files(("/proc/net/netstat",))
    assert found.filters[1:] == (Lines("head", 2), Fields((2, 0)), Lines("wc"))
    (nstat,) = actions("nstat -az 'TcpExtTCP*' | grep -c Loss")
    assert isinstance(nstat, Look)
    assert nstat.source == Nstat(("TcpExtTCP*",), zeros=True, absolute=True)
    (ss,) = actions("ss -tin -m --options | grep -q cwnd:10")
    assert isinstance(ss, Look)
    assert ss.source == Ss("imnot")


def test_places_are_those_of_the_script() -> None:
    script = parse("0 close(3) = 0\n  +0 `true\n   reboot`", "x.pkt")
    command = script.events[1].action
    assert isinstance(command, Command)
    with pytest.raises(ScriptError) as why:
        interpret(command, script.source)
    assert str(why.value).split("\n")[:3] == [
        "x.pkt:3:4: shell command 'reboot' is not interpreted",
        "    3 |    reboot`",
        "      |    ^",
    ]
