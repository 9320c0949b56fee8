"""The queueing discipline fq: each packet leaves when its time has come, each flow in its turn (net/sched/sch_fq.c).

The law: a packet that is stamped with a departure time waits for it, no longer than the horizon; one without a stamp
waits as its socket's rate and the flow's credit demand. Between flows whose time has come turns are taken by bytes. A
packet whose time has come, while nothing waits before it, leaves at once. All priorities share one band. Times are ns.
"""

import heapq
from collections import deque
from typing import Final

from refmodel.rule import cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import transmit
from refmodel.tcp.whole.const import SK_PACING_FQ
from refmodel.tcp.whole.net import Net, Timer
from refmodel.tcp.whole.skb import Packet
from refmodel.tcp.whole.sock import Sock

NSEC_PER_SEC: Final = 1_000_000_000
NEVER: Final = 2**64 - 1
RATE_MAX: Final = 2**64 - 1
LIMIT: Final = 10_000  # packets
FLOW_PLIMIT: Final = 100  # packets
HORIZON: Final = 10 * NSEC_PER_SEC
TIMER_SLACK: Final = 10_000
LOW_RATE_THRESHOLD: Final = 550_000 // 8  # bytes a second
FLOW_REFILL_DELAY_MS: Final = 40
FASTPATH_LIMIT: Final = 8
NET_XMIT_SUCCESS: Final = 0
NET_XMIT_DROP: Final = 1

Key = Sock | tuple[bytes, int, bytes, int]


class Flow:
    """struct fq_flow: a socket's packets, or those that no socket owns."""

    __slots__ = ("age", "credit", "detached", "packets", "throttled", "time_next_packet")

    def __init__(self, credit: int) -> None:
        self.credit = credit  # bytes
        self.packets: list[tuple[int, int, Packet]] = []  # a heap by (time to send, order of arrival)
        self.time_next_packet = 0
        self.age = 0  # jiffies
        self.detached = True
        self.throttled = False


def qdisc_pkt_len(packet: Packet) -> int:
    """Bytes on the wire, each segment with its own header; source net/core/dev.c:qdisc_pkt_len_init."""
    o = packet.opts
    options = (4 if o.mss is not None else 0) + (12 if o.tsval is not None else 0) + (4 if o.wscale is not None else 0)
    options += 4 + 8 * len(o.sacks) if o.sacks else 0
    header = (20 if len(packet.saddr) == 4 else 40) + 20 + options
    return packet.len + header * max(packet.gso_segs, 1)


class Fq:
    """struct fq_sched_data and its functions; `mtu` is the device's."""

    def __init__(self, net: Net, mtu: int = 1500) -> None:
        self.net = net
        self.quantum = 2 * mtu
        self.initial_quantum = 10 * mtu
        self.flow_max_rate = RATE_MAX
        self.horizon_drop = True
        self.flows: dict[Key, Flow] = {}
        self.new_flows: deque[Flow] = deque()
        self.old_flows: deque[Flow] = deque()
        self.delayed: list[tuple[int, int, Flow]] = []
        self.internal: deque[Packet] = deque()
        self.time_next_delayed_flow = NEVER
        self.qlen = 0
        self.busy_flows = 0  # that have packets
        self.throttled_flows = 0
        self.watchdog = Timer(net, "fq", Fq.run, self)
        self._order = 0
        self._running = False

    @cited("net/sched/sch_fq.c:fq_fastpath_check")
    def fastpath_check(self, time_to_send: int, now: int) -> bool:
        """Nothing waits for its turn before the packet, and its own time has come."""
        if time_to_send > now:
            return False
        if self.qlen:
            if self.busy_flows > self.throttled_flows or len(self.internal) >= FASTPATH_LIMIT:
                return False
            if self.time_next_delayed_flow <= now:
                return False
        return self.flow_max_rate == RATE_MAX

    @cited("net/sched/sch_fq.c:fq_classify")
    def classify(self, packet: Packet, time_to_send: int, now: int) -> Flow | None:
        """The packet's flow, None for the fast path. The socket learns that it needn't pace by itself."""
        sk: Sock | None = packet.sk
        if sk is not None and sk.sk_state in (St.LISTEN, St.CLOSE):
            sk = None
        if self.fastpath_check(time_to_send, now):
            if sk is not None:
                sk.sk_pacing_status = SK_PACING_FQ
            return None
        key: Key = (packet.saddr, packet.sport, packet.daddr, packet.dport) if sk is None else sk
        flow = self.flows.get(key)
        if flow is None:
            flow = self.flows[key] = Flow(self.initial_quantum)
            if sk is not None:
                sk.sk_pacing_status = SK_PACING_FQ
        return flow

    @cited("net/sched/sch_fq.c:fq_enqueue")
    def enqueue(self, packet: Packet) -> int:
        """A packet comes from above: it waits, leaves, or is dropped because too many wait or its time is too far."""
        now = self.net.now * 1000
        if self.qlen - len(self.internal) >= LIMIT:
            return self.drop(packet)
        if packet.tstamp > now + HORIZON:
            if self.horizon_drop:
                return self.drop(packet)
            packet.tstamp = now + HORIZON
        time_to_send = packet.tstamp or now
        flow = self.classify(packet, time_to_send, now)
        if flow is None:
            self.internal.append(packet)
        else:
            if len(flow.packets) >= FLOW_PLIMIT:
                return self.drop(packet)
            if flow.detached:
                self.new_flows.append(flow)
                flow.detached = False
                if self.net.jiffies > flow.age + self.net.msecs_to_jiffies(FLOW_REFILL_DELAY_MS):
                    flow.credit = max(flow.credit, self.quantum)
            if not flow.packets:
                self.busy_flows += 1
            self._order += 1
            heapq.heappush(flow.packets, (time_to_send, self._order, packet))
        self.qlen += 1
        self.run()
        return NET_XMIT_SUCCESS

    def drop(self, packet: Packet) -> int:
        """The packet is gone, and its memory free."""
        transmit.tcp_wfree(packet)
        return NET_XMIT_DROP

    def run(self) -> None:
        """Lets leave what may leave now; source net/sched/sch_generic.c:__qdisc_run."""
        if self._running:
            return
        self._running = True
        while (packet := self.dequeue()) is not None:
            packet.time = self.net.now
            packet.tap = self.net.tap_rx
            self.net.out.append(packet)
            transmit.tcp_wfree(packet)
        self._running = False

    @cited("net/sched/sch_fq.c:fq_check_throttled")
    def check_throttled(self, now: int) -> None:
        """Flows whose time has come take turns again."""
        if self.time_next_delayed_flow > now:
            return
        self.time_next_delayed_flow = NEVER
        while self.delayed:
            when, _, flow = self.delayed[0]
            if when > now:
                self.time_next_delayed_flow = when
                break
            heapq.heappop(self.delayed)
            flow.throttled = False
            self.throttled_flows -= 1
            self.old_flows.append(flow)

    @cited("net/sched/sch_fq.c:fq_dequeue")
    def dequeue(self) -> Packet | None:
        """The next packet that may leave now; None sets the watchdog for the first that may later."""
        if not self.qlen:
            return None
        if self.internal:
            self.qlen -= 1
            return self.internal.popleft()
        now = self.net.now * 1000
        self.check_throttled(now)
        while True:
            head = self.new_flows or self.old_flows
            if not head:
                if self.time_next_delayed_flow != NEVER:
                    self.watchdog.start_us(-(-(self.time_next_delayed_flow + TIMER_SLACK) // 1000))
                return None
            flow = head[0]
            if flow.credit <= 0:
                flow.credit += self.quantum
                head.popleft()
                self.old_flows.append(flow)
                continue
            if not flow.packets:
                new = head is self.new_flows
                head.popleft()
                if new:
                    self.old_flows.append(flow)
                else:
                    flow.detached = True
                    flow.age = self.net.jiffies
                continue
            when = max(flow.packets[0][0], flow.time_next_packet)
            if now < when:
                head.popleft()
                flow.time_next_packet = when
                flow.throttled = True
                self.throttled_flows += 1
                self._order += 1
                heapq.heappush(self.delayed, (when, self._order, flow))
                self.time_next_delayed_flow = min(self.time_next_delayed_flow, when)
                continue
            packet = heapq.heappop(flow.packets)[2]
            self.qlen -= 1
            if not flow.packets:
                self.busy_flows -= 1
            self.charge(flow, packet, now)
            return packet

    def charge(self, flow: Flow, packet: Packet, now: int) -> None:
        """What leaves uses up credit; without a stamp the socket's rate says when the next may; tail of fq_dequeue."""
        plen = qdisc_pkt_len(packet)
        flow.credit -= plen
        rate = self.flow_max_rate
        if not packet.tstamp:
            if packet.sk is not None:
                rate = min(packet.sk.sk_pacing_rate, rate)
            if rate <= LOW_RATE_THRESHOLD:
                flow.credit = 0
            else:
                plen = max(plen, self.quantum)
                if flow.credit > 0:
                    return
        if rate == RATE_MAX:
            return
        length = plen * NSEC_PER_SEC
        if rate:
            length //= rate
        length = min(length, NSEC_PER_SEC)
        if flow.time_next_packet:
            length -= min(length // 2, now - flow.time_next_packet)
        flow.time_next_packet = now + length
