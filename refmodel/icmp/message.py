"""An ICMP message on its way."""


class Message:
    """An ICMP or ICMPv6 message between IP and ICMP, in either direction.

    `un` is the header's second word, `len` how many bytes follow it; `tos` and `ttl` are of its IP header. `by` names
    the function that sent it, `time` when (us), `tap` how many packets had arrived then.
    """

    __slots__ = ("by", "code", "daddr", "len", "saddr", "tap", "time", "tos", "ttl", "type", "un")

    def __init__(
        self, saddr: bytes, daddr: bytes, type: int, code: int, un: int = 0, len: int = 0, tos: int = 0
    ) -> None:
        self.saddr = saddr
        self.daddr = daddr
        self.type = type
        self.code = code
        self.un = un
        self.len = len
        self.tos = tos
        self.ttl = 64
        self.by = ""
        self.time = 0
        self.tap = 0
