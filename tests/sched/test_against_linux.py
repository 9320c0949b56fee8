"""Disciplines against the running kernel: the same packets, statistics, order and drops."""

import fcntl
import os
import struct
import time

import pytest

from conformance.differential.qdisc_model import QdiscEnv
from conformance.live.errors import LabUnavailable
from conformance.live.walk_trace import TraceError
from refmodel.netdevice import ARPHRD_NONE, NetDevice
from refmodel.sched.attach import dev_activate, dev_deactivate
from refmodel.sched.xmit import dev_queue_xmit
from refmodel.skbuff import SkBuff

TUNSETCARRIER = 0x400454E2

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces, tun and tracepoints need root"),
]


def test_disciplines_on_a_tun_device_do_what_linux_does() -> None:
    from conformance.differential.qdisc import compare

    try:
        done = compare(20, 11)
    except (LabUnavailable, TraceError) as e:
        pytest.skip(str(e))
    assert done.packets > 400
    assert done.differences == [], done.differences[0].text()


def test_disciplines_before_a_stopped_queue_do_what_linux_does() -> None:
    from conformance.differential.qdisc_veth import compare

    try:
        done = compare(12, 5)
    except (LabUnavailable, TraceError) as e:
        pytest.skip(str(e))
    assert done.requeues > 0
    assert done.differences == [], done.differences[0].text()


def test_packets_leave_tbf_when_its_buckets_allow_it() -> None:
    from conformance.differential.qdisc_tbf import compare

    try:
        done = compare(5, 3)
    except (LabUnavailable, TraceError) as e:
        pytest.skip(str(e))
    assert done.waited > 50
    assert done.differences == []


def test_a_device_that_lost_its_carrier_drops_as_linux_does() -> None:
    from conformance.differential.qdisc import Tun, reasons, running
    from conformance.differential.qdisc_plan import Send
    from conformance.live.ktrace import follow

    try:
        tun = Tun()
        with tun.ns.inside(), follow({"net/net_dev_queue": f'name == "{tun.name}"', "skb/kfree_skb": ""}) as pipe:
            fcntl.ioctl(tun.fd, TUNSETCARRIER, struct.pack("i", 0))
            time.sleep(1.2)
            before = tun.dropped()
            there = [tun.send(Send(100), n) for n in (1, 2)]
            lost = (tun.dropped() - before, reasons(pipe.new(), set()), tun.read(9))
            fcntl.ioctl(tun.fd, TUNSETCARRIER, struct.pack("i", 1))
            time.sleep(1.2)
            there.append(tun.send(Send(100), 3))
            back = tun.read(9)
        tun.close()
    except (LabUnavailable, TraceError) as e:
        pytest.skip(str(e))

    env = QdiscEnv(running())
    dev = NetDevice("t", 2, type=ARPHRD_NONE, lltx=True)
    tfile = env.add_tun(dev)
    dev.carrier = False
    dev_deactivate(env, dev)
    here = [max(-dev_queue_xmit(env, SkBuff(bytes(100), dev=dev, mark=n)), 0) for n in (1, 2)]
    assert lost == (env.dropped, tuple(f"{skb.mark} {reason}" for skb, reason in env.drops), [])
    dev.carrier = True
    dev_activate(env, dev)
    here.append(dev_queue_xmit(env, SkBuff(bytes(100), dev=dev, mark=3)))
    assert (there, back) == (here, [skb.mark for skb in tfile.packets])
