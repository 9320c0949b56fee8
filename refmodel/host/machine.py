"""A machine: processors with their execution contexts, and the namespaces that share them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from refmodel.context import Contexts
from refmodel.sched.env import Softnet
from refmodel.softirq import Vector
from refmodel.walk import Place, Recorder

if TYPE_CHECKING:
    from refmodel.host.namespace import Namespace


class Machine:
    """Processors and namespaces. `current` is the namespace in which something runs, `recorder` whoever watches.

    One machine has one clock, the first namespace's; all namespaces of a network are moved together.
    """

    def __init__(self, name: str, kernel: str = "6.12", hz: int = 250, cpus: int = 1) -> None:
        self.name = name
        self.profile = kernel
        self.hz = hz
        major, minor = kernel.split(".")
        self.kernel = int(major) * 100 + int(minor)
        self.now = 0
        self.namespaces: list[Namespace] = []
        self.current: Namespace | None = None
        self.entered = 0  # counts how often something began to run
        self.recorder: Recorder | None = None
        self.contexts = Contexts(self, cpus)
        self.softnets = [Softnet(i) for i in range(cpus)]
        self.contexts.open_softirq(Vector.NET_RX, self._net_rx)
        self.contexts.open_softirq(Vector.NET_TX, self._net_tx)

    @property
    def jiffies(self) -> int:
        """The tick that it is."""
        return self.now * self.hz // 1_000_000

    def note(self, fn: str, detail: str = "") -> None:
        """A decision of a context's."""
        if self.recorder is not None:
            self.recorder.note(fn, detail)

    @property
    def softnet(self) -> Softnet:
        """What this processor keeps for transmission."""
        return self.softnets[self.contexts.cpu.number]

    def place(self) -> Place:
        """Where something runs now."""
        host = self.current.name if self.current is not None else self.name
        return Place(self.now, host, self.contexts.context)

    def within(self, ns: "Namespace", work: Callable[[], None]) -> None:
        """Runs `work` in a namespace, then comes back to the one before."""
        before, self.current = self.current, ns
        self.entered += 1
        try:
            work()
        finally:
            self.current = before

    def process(self, ns: "Namespace", work: Callable[[], None], name: str = "process") -> None:
        """A process of a namespace runs, and behind it whatever it woke."""
        self.within(ns, lambda: self.contexts.on(0, name, work))
        self.contexts.settle()

    def _net_rx(self) -> None:
        for ns in self.namespaces:
            if ns.rx.sd.poll_list or ns.rx.sd.rps_ipi_list:
                self.within(ns, ns.net_rx_action)

    def _net_tx(self) -> None:
        for ns in self.namespaces:
            self.within(ns, ns.net_tx_action)
            break  # the queues are the processor's, not the namespace's
