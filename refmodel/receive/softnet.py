"""Each processor's softnet_data: the backlog of netif_rx, the poll list, and who polls it.

The law: a packet of a device without NAPI waits in the processor's backlog, which is polled as a device of its own;
more than netdev_max_backlog packets don't wait. A poll list that is not empty has NET_RX raised, or is being worked on.
"""

from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from refmodel.context import Contexts, Task
from refmodel.dropreason import Reason
from refmodel.netdevice import NetDevice
from refmodel.nic.napi import Listed, Napi
from refmodel.receive.backlog import Room, counts, room
from refmodel.receive.core import NET_RX_DROP, NET_RX_SUCCESS, Tap, netif_receive_skb_here
from refmodel.receive.env import Env
from refmodel.receive.params import ReceiveParams
from refmodel.receive.rfs import FlowTables, RpsDevFlow, moves
from refmodel.rule import cited
from refmodel.skbuff import SkBuff
from refmodel.softirq import Vector

FLOW_LIMIT_HISTORY: Final = 128
GRO_HASH_BUCKETS: Final = 8


class NapiStruct:
    """struct napi_struct.

    `poll(budget)` is the driver's and returns its work. `state` are the bits and counters that the proved machine of
    refmodel.nic.napi has. `thread` is the kernel thread that polls it if it is threaded.
    """

    def __init__(
        self, rx: "Receive", dev: NetDevice | None, poll: Callable[["NapiStruct", int], int], weight: int = 64
    ) -> None:
        self.rx = rx
        self.dev = dev
        self.poll = poll
        self.weight = weight
        self.state = Napi()
        self.gro_hash: list[list[SkBuff]] = [[] for _ in range(GRO_HASH_BUCKETS)]
        self.rx_list: list[SkBuff] = []
        self.rx_count = 0
        self.gro_flush_timeout = 0
        self.defer_hard_irqs = 0
        self.thread: Task | None = None
        self.watchdog: Callable[[int], None] | None = None

    @property
    def gro_bitmask(self) -> bool:
        """GRO holds something."""
        return any(self.gro_hash)

    @property
    def name(self) -> str:
        """The device's name; the backlog has none."""
        return self.dev.name if self.dev is not None else "backlog"


class FlowLimit:
    """struct sd_flow_limit: of which flows the last 128 packets were that came to a half full backlog."""

    def __init__(self, num_buckets: int) -> None:
        self.num_buckets = num_buckets
        self.buckets: Counter[int] = Counter()
        self.history: deque[int] = deque([0] * FLOW_LIMIT_HISTORY)
        self.count = 0


class SoftnetData:
    """struct softnet_data of one processor.

    `processed`, `dropped`, `time_squeeze`, `received_rps` are columns of /proc/net/softnet_stat; `flow_limit_count` is
    another. `list`, `repoll`: what the run of net_rx_action that goes on has yet to poll.
    """

    def __init__(self, rx: "Receive", cpu: int) -> None:
        self.cpu = cpu
        self.input_pkt_queue: deque[SkBuff] = deque()
        self.process_queue: deque[SkBuff] = deque()
        self.poll_list: deque[NapiStruct] = deque()
        self.backlog = NapiStruct(rx, None, lambda n, quota: rx.process_backlog(self, n, quota))
        self.rps_ipi_list: list[SoftnetData] = []
        self.in_net_rx_action = False
        self.in_napi_threaded_poll = False
        self.processed = 0
        self.dropped = 0
        self.time_squeeze = 0
        self.received_rps = 0
        self.flow_limit: FlowLimit | None = None
        self.input_queue_head = 0
        self.input_queue_tail = 0

    def softnet_stat(self) -> tuple[int, ...]:
        """The columns of /proc/net/softnet_stat that are modelled: processed, dropped, time_squeeze, received_rps..."""
        return self.processed, self.dropped, self.time_squeeze, self.received_rps, self.flow_limit_count

    @property
    def flow_limit_count(self) -> int:
        """Packets that the flow limit refused."""
        return self.flow_limit.count if self.flow_limit is not None else 0


class Receive:
    """The receive side of a host.

    `contexts` says which processor runs. `taps` are packet sockets in the order in which they were bound. `rps_maps`
    and `rps_hash` are receive packet steering: a device's processors, and its hash of a packet (0: none). `vlans` has a
    VLAN's device by (ifindex, protocol, id). `rfs`: receive flow steering, where it is configured.
    `dev_stats` counts by (device, "rx_dropped" or "rx_nohandler").
    """

    def __init__(self, env: Env, contexts: Contexts, params: ReceiveParams | None = None) -> None:
        self.env = env
        self.contexts = contexts
        self.params = params if params is not None else ReceiveParams()
        self.softnet = [SoftnetData(self, c.number) for c in contexts.cpus]
        self.taps: list[Tap] = []
        self.vlans: dict[tuple[int, int, int], NetDevice] = {}
        self.rps_maps: dict[int, tuple[int, ...]] = {}
        self.rps_hash: Callable[[SkBuff], int] = lambda skb: skb.hash
        self.dev_stats: Counter[tuple[str, str]] = Counter()
        self.rfs: FlowTables | None = None
        self.rflow: RpsDevFlow | None = None
        for sd in self.softnet:
            if self.params.flow_limit_cpu_bitmap >> sd.cpu & 1:
                sd.flow_limit = FlowLimit(self.params.flow_limit_table_len)

    @property
    def sd(self) -> SoftnetData:
        """this_cpu_ptr(&softnet_data)."""
        return self.softnet[self.contexts.cpu.number]

    # --------------------------------------------------------------------------------------------------- netif_rx

    @cited("net/core/dev.c:netif_rx")
    def netif_rx(self, skb: SkBuff) -> int:
        """A device without NAPI hands a packet up, from any context; NET_RX_SUCCESS or NET_RX_DROP."""
        need_bh_off = not (self.contexts.in_hardirq() or self.contexts.in_interrupt())
        if need_bh_off:
            self.contexts.local_bh_disable()
        ret = self.netif_rx_internal(skb)
        if need_bh_off:
            self.contexts.local_bh_enable()
        return ret

    @cited("net/core/dev.c:__netif_rx")
    def netif_rx_in_interrupt(self, skb: SkBuff) -> int:
        """netif_rx for those who know that they run in an interrupt or with bottom halves disabled."""
        return self.netif_rx_internal(skb)

    @cited("net/core/dev.c:netif_rx_internal")
    def netif_rx_internal(self, skb: SkBuff) -> int:
        """The packet goes to the backlog of this processor, or of the one that packet steering chooses."""
        self.env.note("netif_rx_internal", f"{len(skb.data)} bytes from {skb.dev}")
        cpu = self.get_rps_cpu(skb)
        if cpu < 0:
            cpu = self.contexts.cpu.number
        return self.enqueue_to_backlog(skb, cpu)

    @cited("net/core/dev.c:get_rps_cpu")
    def get_rps_cpu(self, skb: SkBuff) -> int:
        """The processor that packet steering chooses by the flow's hash; -1 without a map or a hash."""
        self.rflow = None
        cpus = self.rps_maps.get(skb.dev.ifindex, ()) if skb.dev is not None else ()
        if skb.dev is None or not (cpus or self.rfs is not None):
            return -1
        skb.hash = skb.hash or self.rps_hash(skb)
        if skb.hash == 0:
            return -1
        wanted = self.rfs.wanted(skb.hash) if self.rfs is not None else None
        if self.rfs is not None and wanted is not None and wanted < len(self.softnet):
            return self.set_rps_cpu(self.rfs.flow(skb.dev.ifindex, skb.hash), wanted)
        if not cpus:
            return -1
        cpu = cpus[skb.hash * len(cpus) >> 32]
        self.env.note("get_rps_cpu", f"hash {skb.hash:#010x}: processor {cpu} of {cpus}")
        return cpu

    @cited("net/core/dev.c:set_rps_cpu", "net/core/dev.c:get_rps_cpu")
    def set_rps_cpu(self, rflow: RpsDevFlow, wanted: int) -> int:
        """The flow goes to its reader's processor once it has nothing left at the one before."""
        head = self.softnet[rflow.cpu].input_queue_head if rflow.cpu < len(self.softnet) else 0
        if moves(rflow.cpu, wanted, len(self.softnet), head, rflow.last_qtail):
            rflow.last_qtail = self.softnet[wanted].input_queue_head
            rflow.cpu = wanted
        self.rflow = rflow
        self.env.note("get_rps_cpu", f"its reader is on processor {wanted}, it goes to {rflow.cpu}")
        return rflow.cpu

    @cited("net/core/dev.c:enqueue_to_backlog")
    def enqueue_to_backlog(self, skb: SkBuff, cpu: int) -> int:
        """A packet waits in a processor's backlog, which is scheduled if it was empty; too many are dropped."""
        sd = self.softnet[cpu]
        qlen = len(sd.input_pkt_queue)
        running = skb.dev is not None and skb.dev.up
        found = room(qlen, self.params.netdev_max_backlog, running, self.params.kernel)
        asked = found in (Room.EMPTY, Room.SOME) or (found == Room.DOWN and self.params.kernel >= 612)
        if asked and self.skb_flow_limit(skb, qlen):
            found = Room.FULL
        if found in (Room.FULL, Room.DOWN):
            return self._refuse(sd, skb, found, qlen)
        if found == Room.EMPTY and not sd.backlog.state.sched:
            sd.backlog.state = replace(sd.backlog.state, sched=True)
            self.napi_schedule_rps(sd)
        sd.input_pkt_queue.append(skb)
        sd.input_queue_tail += 1
        if self.rflow is not None:
            self.rflow.last_qtail, self.rflow = sd.input_queue_tail, None
        self.env.note("enqueue_to_backlog", f"{qlen + 1} in the backlog of processor {cpu}")
        return NET_RX_SUCCESS

    def _refuse(self, sd: SoftnetData, skb: SkBuff, found: Room, qlen: int) -> int:
        sd.dropped += int(counts(found, self.params.kernel))
        if skb.dev is not None:
            self.dev_stats[skb.dev.name, "rx_dropped"] += 1
        self.env.note("enqueue_to_backlog", f"{qlen} wait: dropped" if found == Room.FULL else f"{skb.dev} is down")
        down = Reason.NOT_SPECIFIED if self.params.kernel < 612 else Reason.DEV_READY
        self.env.kfree_skb(skb, Reason.CPU_BACKLOG if found == Room.FULL else down)
        return NET_RX_DROP

    @cited("net/core/dev.c:skb_flow_limit")
    def skb_flow_limit(self, skb: SkBuff, qlen: int) -> bool:
        """In a half full backlog, a flow that sent more than half of the last 128 packets is refused."""
        fl = self.sd.flow_limit
        if qlen < self.params.netdev_max_backlog >> 1 or fl is None:
            return False
        skb.hash = skb.hash or self.rps_hash(skb)
        new, old = skb.hash & (fl.num_buckets - 1), fl.history.popleft()
        fl.history.append(new)
        if fl.buckets[old]:
            fl.buckets[old] -= 1
        fl.buckets[new] += 1
        if fl.buckets[new] > FLOW_LIMIT_HISTORY >> 1:
            fl.count += 1
            self.env.note("skb_flow_limit", f"{fl.buckets[new]} of the last {FLOW_LIMIT_HISTORY} are this flow's")
            return True
        return False

    @cited("net/core/dev.c:napi_schedule_rps", "net/core/dev.c:rps_trigger_softirq")
    def napi_schedule_rps(self, sd: SoftnetData) -> None:
        """This processor's backlog is scheduled; another's is noted, and kicked once net_rx_action has time."""
        mine = self.sd
        if sd is mine:
            self.napi_schedule_on(mine, sd.backlog)
            return
        mine.rps_ipi_list.append(sd)
        self.env.note("napi_schedule_rps", f"processor {sd.cpu} will be interrupted")
        if self.params.kernel < 612 or not (mine.in_net_rx_action or mine.in_napi_threaded_poll):
            self.contexts.raise_softirq_quietly(Vector.NET_RX)

    # ------------------------------------------------------------------------------------------------- its poll

    @cited("net/core/dev.c:process_backlog")
    def process_backlog(self, sd: SoftnetData, napi: NapiStruct, quota: int) -> int:
        """The backlog's poll: the whole input queue becomes the process queue, and up to `quota` packets go up."""
        if sd.rps_ipi_list:
            self.net_rps_action(sd)
        napi.weight = self.params.dev_rx_weight
        work = 0
        while True:
            while sd.process_queue:
                netif_receive_skb_here(self, sd.process_queue.popleft())
                work += 1
                if work >= quota:
                    sd.input_queue_head += work
                    self.env.note("process_backlog", f"{work} packets: the quota; {len(sd.process_queue)} wait")
                    return work
            if not sd.input_pkt_queue:
                napi.state = replace(napi.state, sched=False)
                sd.input_queue_head += work
                self.env.note("process_backlog", f"{work} packets: empty")
                return work
            sd.process_queue, sd.input_pkt_queue = sd.input_pkt_queue, deque()

    @cited("net/core/dev.c:net_rps_action_and_irq_enable", "net/core/dev.c:net_rps_send_ipi")
    def net_rps_action(self, sd: SoftnetData) -> None:
        """The processors whose backlogs got packets are interrupted."""
        waiting, sd.rps_ipi_list = sd.rps_ipi_list, []
        for other in waiting:
            self.contexts.smp_call_function(other.cpu, "rps_trigger_softirq", lambda o=other: self._kicked(o))  # type: ignore[misc]

    def _kicked(self, sd: SoftnetData) -> None:
        self.napi_schedule_on(sd, sd.backlog)
        sd.received_rps += 1

    @cited("net/core/dev.c:____napi_schedule")
    def napi_schedule_on(self, sd: SoftnetData, napi: NapiStruct) -> None:
        """An instance joins the poll list and NET_RX is raised, or its own thread is woken."""
        if napi.thread is not None:
            self.env.note("____napi_schedule", f"{napi.name}: its thread polls")
            self.contexts.wake_up_process(napi.thread)
            return
        sd.poll_list.append(napi)
        napi.state = replace(napi.state, listed=Listed.PENDING)
        raised = self.params.kernel < 612 or not sd.in_net_rx_action
        self.env.note(
            "____napi_schedule", f"{napi.name}: {'raises NET_RX' if raised else 'net_rx_action runs already'}"
        )
        if raised:
            self.contexts.raise_softirq(Vector.NET_RX)
