"""iptables-save text is read as iptables reads it, and refused with the line, what was found and what was expected."""

import pytest

from conformance.differential.netfilter_world import World
from refmodel.netfilter.restore_words import RestoreError
from refmodel.netfilter.tables import TableError

HEAD = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [3:120]\n:OUTPUT ACCEPT [0:0]\n:mine - [0:0]\n"


def restore(*rules: str, head: str = HEAD) -> World:
    world = World()
    world.nf.iptables_restore(head + "\n".join([*rules, "COMMIT", ""]))
    return world


def test_what_was_read_is_written_with_its_counters() -> None:
    text = restore("[7:300] -A FORWARD -s 10.0.1.0/24 -p tcp -m tcp --dport 80 -j mine", "-A mine -j RETURN").nf
    assert text.iptables_save() == (
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [3:120]\n:OUTPUT ACCEPT [0:0]\n:mine - [0:0]\n"
        "[7:300] -A FORWARD -s 10.0.1.0/24 -p tcp -m tcp --dport 80 -j mine\n[0:0] -A mine -j RETURN\nCOMMIT\n"
    )


@pytest.mark.parametrize(
    ("rule", "line", "found", "expected"),
    [
        ("-A FORWARD -s 10.0.0.300 -j ACCEPT", 6, "10.0.0.300", "IPv4 address"),
        ("-A FORWARD -p tcp -m tcp --dport 80:70 -j ACCEPT", 6, "80:70", "not above"),
        ("-A FORWARD -p tcp -m tcp --dport x -j ACCEPT", 6, "x", "a port, 0 to 65535"),
        ("-A FORWARD -m bpf -j ACCEPT", 6, "bpf", "a match that is modelled"),
        ("-A FORWARD -m conntrack --ctstate OLD -j ACCEPT", 6, "OLD", "INVALID, NEW"),
        ("-A FORWARD --dport 80 -j ACCEPT", 6, "--dport", "named with -m"),
        ("-A FORWARD -m multiport --ports 80 -j ACCEPT", 6, "-m multiport", "-p with a protocol"),
        ("-A FORWARD -p udp -j REJECT --reject-with tcp-reset", 6, "tcp-reset", "-p tcp"),
        ("-A FORWARD -s", 6, "the end of the line", "a source address"),
        ("-A nowhere -j ACCEPT", 6, "nowhere", "declared with :nowhere"),
        ('-A FORWARD -m comment --comment "open', 6, '-A FORWARD -m comment --comment "open', "quotes are closed"),
        ("FORWARD -j ACCEPT", 6, "FORWARD", "-A CHAIN"),
        (":mine DROP [0:0]", 6, "DROP", "a policy of chain mine: -"),
    ],
)
def test_error_names_line_and_what_was_expected(rule: str, line: int, found: str, expected: str) -> None:
    with pytest.raises(RestoreError) as e:
        restore(rule)
    assert (e.value.line, e.value.found) == (line, found)
    assert expected in str(e.value)


def test_text_without_commit_is_refused() -> None:
    with pytest.raises(RestoreError, match="COMMIT of table filter"):
        World().nf.iptables_restore(HEAD)


def test_unknown_table_is_refused() -> None:
    with pytest.raises(RestoreError, match="one of the tables"):
        World().nf.iptables_restore("*security\nCOMMIT\n")


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        (("-A FORWARD -j mine", "-A mine -j mine"), "comes back to itself"),
        (("-A FORWARD -j other",), "there is no chain other"),
        (("-A FORWARD -j MASQUERADE",), "only in table nat"),
        (("-A FORWARD -j CT --notrack",), "only in table raw"),
        (("-A OUTPUT -m mac --mac-source 02:00:00:00:00:01 -j DROP",), "known only of what comes in"),
        (("-A OUTPUT -j mine", "-A mine -m mac --mac-source 02:00:00:00:00:01 -j DROP"), "known only of what comes in"),
        (("-A FORWARD -m limit --limit 1/day --limit-burst 10000",), "overflows"),
    ],
)
def test_kernel_refuses_what_stands_where_it_may_not(rules: tuple[str, ...], why: str) -> None:
    with pytest.raises(TableError, match=why):
        restore(*rules)


def test_refused_ruleset_leaves_the_old_one() -> None:
    world = restore("-A FORWARD -j DROP")
    before = world.nf.iptables_save()
    with pytest.raises(TableError):
        world.nf.iptables_restore(HEAD + "-A INPUT -j mine\n-A mine -j mine\nCOMMIT\n")
    assert world.nf.iptables_save() == before


def test_unreachable_rule_may_be_anything_its_table_has() -> None:
    restore("-A mine -m mac --mac-source 02:00:00:00:00:01 -j DROP")


def test_loop_that_no_hook_reaches_is_taken() -> None:
    restore("-A mine -j mine")
