"""A namespace with lo and three devices for tests of routing: time that passes, neighbours that are set."""

from refmodel.fib.devinet import inet_rtm_deladdr, inet_rtm_newaddr, netdevice_event
from refmodel.fib.frontend import inet_rtm_delroute, inet_rtm_newroute
from refmodel.fib.getroute import Message, Query, fib_table_dump, inet_rtm_getroute
from refmodel.fib.net import Fib
from refmodel.fib.params import FibParams
from refmodel.fib.types import RT_SCOPE_LINK, RTN, FibConfig, Flow4, NetdevEvent, dotted, inet_make_mask, ip4
from refmodel.netdevice import IFF_UP, NetDevice, loopback
from refmodel.skbuff import SkBuff
from tests.bare import Bare

UP, DOWN, CHANGE, REGISTER = NetdevEvent.UP, NetdevEvent.DOWN, NetdevEvent.CHANGE, NetdevEvent.REGISTER


class Surroundings(Bare):
    """What routing asks of its surroundings: `neighbours` are nud_states by address."""

    def __init__(self) -> None:
        super().__init__()
        self.neighbours: dict[int, int] = {}
        self.asked: list[int] = []
        self.flags: dict[int, int] = {}

    def neigh_nud_state(self, dev: NetDevice, gw: int) -> int | None:
        return self.neighbours.get(gw)

    def neigh_event_send(self, dev: NetDevice, gw: int) -> None:
        self.asked.append(gw)

    def arp_ifdown(self, dev: NetDevice) -> None:
        self.neighbours.clear()

    def arp_invalidate(self, dev: NetDevice, addr: int) -> None:
        self.neighbours.pop(addr, None)

    def ipcb_flags(self, skb: SkBuff, flags: int) -> int:
        self.flags[id(skb)] = self.flags.get(id(skb), 0) | flags
        return self.flags[id(skb)]


class Lab:
    """A Fib with lo and a0, a1, a2 (ifindex 2, 3, 4), all up."""

    def __init__(self, params: FibParams | None = None) -> None:
        self.env = Surroundings()
        self.net = Fib(self.env, params)
        self.devs = {"lo": loopback()}
        for i, name in enumerate(("a0", "a1", "a2")):
            self.devs[name] = NetDevice(name, i + 2, bytes((2, 0, 0, 0, 0, i)))
        for dev in self.devs.values():
            netdevice_event(self.net, dev, REGISTER)
            netdevice_event(self.net, dev, UP)

    def addr(self, name: str, text: str, **more: int) -> int:
        """ip addr add TEXT dev NAME."""
        local, plen = text.split("/")
        brd = ip4(local) | ~inet_make_mask(int(plen)) & 0xFFFFFFFF
        return inet_rtm_newaddr(self.net, self.devs[name].ifindex, ip4(local), int(plen), broadcast=brd, **more)

    def deladdr(self, name: str, text: str) -> int:
        """ip addr del TEXT dev NAME."""
        local, plen = text.split("/")
        return inet_rtm_deladdr(self.net, self.devs[name].ifindex, ip4(local), (ip4(local), int(plen)))

    @staticmethod
    def config(text: str, dev: int = 0, via: str = "", **more: object) -> FibConfig:
        dst, plen = text.split("/")
        scope = 0 if via or "mp" in more or int(more.get("type", 1)) > RTN.MULTICAST else RT_SCOPE_LINK  # type: ignore[call-overload]
        more.setdefault("scope", scope)
        return FibConfig(ip4(dst), int(plen), oif=dev, gw=ip4(via) if via else 0, **more)  # type: ignore[arg-type]

    def route(self, text: str, dev: str = "", via: str = "", **more: object) -> int:
        """ip route add TEXT via VIA dev DEV."""
        return inet_rtm_newroute(self.net, self.config(text, self.devs[dev].ifindex if dev else 0, via, **more))

    def delroute(self, text: str, **more: object) -> int:
        """ip route del TEXT."""
        more.setdefault("scope", 255)
        more.setdefault("type", 0)
        more.setdefault("protocol", 0)
        return inet_rtm_delroute(self.net, self.config(text, **more))  # type: ignore[arg-type]

    def link(self, name: str, up: bool) -> None:
        """ip link set NAME up or down."""
        dev = self.devs[name]
        if dev.up != up:
            dev.flags ^= IFF_UP
            dev.carrier = up or dev.loopback
            netdevice_event(self.net, dev, UP if up else DOWN)

    def carrier(self, name: str, on: bool) -> None:
        """The link of NAME comes or goes."""
        self.devs[name].carrier = on
        netdevice_event(self.net, self.devs[name], CHANGE)

    def get(self, dst: str, src: str = "", **more: int) -> Message | int:
        """ip route get DST from SRC ..."""
        return inet_rtm_getroute(self.net, Query(ip4(dst), ip4(src) if src else 0, **more))  # type: ignore[arg-type]

    def way(self, dst: str, src: str = "", **more: int) -> str | int:
        """The same in short: 'via GATEWAY dev OIF from SOURCE', or an errno."""
        m = self.get(dst, src, **more)
        if isinstance(m, int):
            return m
        via = f"via {dotted(m['gateway'])} " if "gateway" in m else ""
        source = m.get("prefsrc", m.get("src", 0))
        return f"{RTN(m['type']).name.lower()} {via}dev {self.net.devs[m['oif']].name} from {dotted(source)}"

    def table(self, tb_id: int = 254) -> list[str]:
        """The routes of a table: 'type prefix/len'."""
        return [
            f"{RTN(m['type']).name.lower()} {dotted(m.get('dst', 0))}/{m['dst_len']}"
            for m in fib_table_dump(self.net, tb_id)
        ]

    @staticmethod
    def flow(dst: str, src: str = "", **more: int) -> Flow4:
        return Flow4(ip4(dst), ip4(src) if src else 0, **more)
