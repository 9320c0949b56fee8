"""The kernel's own scripts, where REFMODEL_SELFTESTS names its folder tools/testing/selftests/net."""

import os
from pathlib import Path

import pytest

from conformance.pkt import printer
from conformance.pkt.ast import Code, Command, bare
from conformance.pkt.expr import compile_code
from conformance.pkt.parser import load, parse
from conformance.pkt.shell import interpret

ROOT = Path(os.environ.get("REFMODEL_SELFTESTS", "/nowhere"))
TCP = sorted(ROOT.glob("packetdrill/*.pkt"))
NETFILTER = sorted(ROOT.glob("netfilter/packetdrill/*.pkt"))
DEFINES = {
    "ipv4": {"CMSG_LEVEL_IP": "SOL_IP", "CMSG_TYPE_RECVERR": "IP_RECVERR"},
    "ipv6": {"CMSG_LEVEL_IP": "SOL_IPV6", "CMSG_TYPE_RECVERR": "IPV6_RECVERR"},
}

pytestmark = pytest.mark.skipif(not TCP, reason="REFMODEL_SELFTESTS names no folder of the kernel's net selftests")


@pytest.mark.parametrize("variant", sorted(DEFINES))
@pytest.mark.parametrize("path", [*TCP, *NETFILTER], ids=lambda p: p.stem)
def test_a_script_reads_and_prints(path: Path, variant: str) -> None:
    script = load(path, DEFINES[variant])
    assert len(script.events) > 5
    assert bare(parse(printer.script(script))) == bare(script)


@pytest.mark.parametrize("path", TCP, ids=lambda p: p.stem)
def test_a_tcp_scripts_shell_and_code_are_understood(path: Path) -> None:
    script = load(path, DEFINES["ipv4"])
    for node in (script.init, script.cleanup, *(event.action for event in script.events)):
        if isinstance(node, Command):
            assert interpret(node, script.source)
        if isinstance(node, Code):
            assert compile_code(node, script.source).wanted
