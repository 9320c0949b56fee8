"""Handshake, states, resets: what an end's TCP state machine makes of its inputs, and the frames that it alone sends.

The law: the state moves with what was processed, not with what was stamped; so a frame that only a later state sends
proves that the inputs before it were processed. Which state an end's application has left it in (listening, closed,
linger) is hidden; each frame narrows it. A SYN-ACK sent again takes back an ACK that seemed to complete the handshake.
"""

from collections import deque
from typing import ClassVar, Final

from conformance.check.known import Known, known
from conformance.check.setup import Setup
from conformance.oracle import handshake, resets, timewait
from conformance.oracle.constraint import Constraint
from conformance.oracle.end import End, Excuse, Label, Refusal, us
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, FIN, RST, SYN
from refmodel.tcp.state import St
from refmodel.types import H32, M32, after

PAWS_CHALLENGES: Final = (6, 12)  # before it a SYN with an old timestamp gets a duplicate ACK, with its DSACK
CHALLENGES: Final = ("tcp_send_challenge_ack", "tcp_v4_reqsk_send_ack")
CHALLENGED: Final = "TcpExt.TCPChallengeACK"
CLOSERS: Final = 4
SOON: Final = 100_000  # us: an input that was not processed after that was rather dropped
REPEATS: Final = frozenset(
    (
        "tcp_retransmit_timer",
        "tcp_send_loss_probe",
        "tcp_send_probe0",
        "tcp_keepalive_timer",
        "tcp_xmit_retransmit_queue",
    )
)
HEARD: Final = 64  # inputs that an RST may answer
FAR: Final = 512
RATELIMIT: Final = 500_000  # us, tcp_invalid_ratelimit
FRESH: Final = (St.CLOSE, St.LISTEN)
SYNCED: Final = (
    St.ESTABLISHED, St.FIN_WAIT1, St.FIN_WAIT2, St.CLOSE_WAIT, St.CLOSING, St.LAST_ACK, St.SYN_RECV,
)  # fmt: skip
AFTER_FIN: Final = (St.CLOSE_WAIT, St.LAST_ACK, St.CLOSING)

CONSTRAINTS: Final[tuple[Constraint, ...]] = (
    *handshake.CONSTRAINTS,
    *resets.CONSTRAINTS,
    *timewait.CONSTRAINTS,
    Constraint(
        "not-open",
        "A socket that is not open sends nothing but SYNs, SYN-ACKs, RSTs and the ACKs of TIME_WAIT.",
        ("net/ipv4/tcp.c:tcp_sendmsg_locked", "net/ipv4/tcp_input.c:tcp_rcv_state_process", "RFC 9293 3.10"),
        rfc=True,
    ),
    Constraint(
        "closed",
        "A socket that was reset, that reset its peer, or whose FIN was acknowledged behind the peer's sends no more.",
        ("net/ipv4/tcp_input.c:tcp_reset", "net/ipv4/tcp.c:tcp_done", "RFC 9293 3.6"),
        rfc=True,
    ),
)


class Life:
    """Handshake, states, resets, TIME_WAIT.

    `opens`: the capture has the connection from its first SYN; `unseen`: from before it.
    """

    __slots__: ClassVar[tuple[str, ...]] = (
        "aborted", "alert", "answered", "asked", "asks", "closers", "closing", "confirmed", "doubled", "dues", "end",
        "far", "fin_end", "got", "half",
        "heard", "host", "hurry", "isn", "limited", "middle", "old", "opens", "owes_ack", "peer_fin", "repeats", "req",
        "role", "said", "setup", "since", "small", "spared", "syn", "syn_at", "syns", "tries", "tw_at", "used",
    )  # fmt: skip

    def __init__(self, end: End, setup: Setup, opens: bool, unseen: bool) -> None:
        self.end, self.setup, self.opens = end, setup, opens
        self.host: Known = known(setup, end.stack.host)
        self.middle = not opens and not unseen  # no handshake was seen: the first frames show the state
        self.role = ""  # "active", "passive"
        self.isn: int | None = None
        self.syn: Segment | None = None  # the last SYN or SYN-ACK that it sent
        self.syn_at = 0  # when its timer was armed last, us
        self.syns = 0  # SYNs or SYN-ACKs sent
        self.asked = 0  # when the handshake's last segment came to the request, us
        self.tries = 0  # timeouts of the SYN or SYN-ACK
        self.hurry = False  # a bad ACK to the SYN pulled its timer close
        self.asks: list[Segment] = []  # the peer's SYNs that were processed and not answered
        self.req: Segment | None = None  # the SYN that the SYN-ACK answered
        self.confirmed = True  # the handshake's end was seen in what this end sent
        self.answered = False  # it answered a SYN-ACK that came twice
        self.owes_ack: Segment | None = None  # the SYN-ACK that is to be acknowledged
        self.fin_end: int | None = None
        self.peer_fin: int | None = None
        self.closing = 0  # the input that closed it, or made it TIME_WAIT
        self.aborted = False
        self.tw_at = 0
        self.old: timewait.TimeWait | None = None  # what is left of the connection before
        self.got = False  # data came
        self.doubled = 0  # the last frame that is a SYN or SYN-ACK that was seen before
        self.said = "tcp_connect"  # what sent the last SYN or SYN-ACK
        self.small = False  # a time-wait socket is answering: its window is not the socket's
        self.spared = False  # an RST met TIME_WAIT, which tcp_rfc1337, of which nothing is known, may have spared
        self.half = False  # data came in FIN_WAIT2: the application reads on
        self.since: list[int] = []  # inputs with data behind an ACK that may have been dropped
        self.alert = False  # an RST or SYN waits to be processed
        # Inputs that an RST may answer, with the state in which they came. What an end far from the tap had got then is
        # not known: its inputs are remembered in every state.
        self.far = end.stack.near is not True
        self.heard: deque[tuple[Segment, St]] = deque(maxlen=FAR if self.far else HEARD)
        self.repeats = 0  # retransmissions and probes without anything else in between
        self.closers: list[tuple[int, int]] = []  # inputs that acknowledged its FIN, brought the peer's, or an RST
        self.used: dict[int, int] = {}  # inputs that RSTs answered, with how many
        # ACKs that unacceptable inputs ask for: by whom, the input, whether at most two a second.
        self.dues: list[tuple[str, int, bool, int]] = []  # and when the input came, us
        self.limited = -RATELIMIT  # when the last of them left

    def copy(self) -> "Life":
        """A copy that shares nothing that changes."""
        new = Life(self.end, self.setup, self.opens, False)
        for name in Life.__slots__:
            setattr(new, name, getattr(self, name))
        new.asks, new.dues, new.used, new.since = list(self.asks), list(self.dues), dict(self.used), list(self.since)
        new.heard, new.closers = deque(self.heard, self.heard.maxlen), list(self.closers)
        if self.old is not None:
            new.old = self.old.copy()
        return new

    def words(self) -> str:
        """The state in words."""
        parts = []
        if self.role:
            parts.append(f"{self.role} open")
        if self.middle:
            parts.append("seen from mid-connection on")
        if self.fin_end is not None:
            parts.append(f"FIN sent up to {self.fin_end}")
        if self.peer_fin is not None:
            parts.append(f"the peer's FIN up to {self.peer_fin}")
        return ", ".join(parts)

    # -- what others ask

    @property
    def tentative(self) -> bool:
        """Whether the ACK that completed the handshake may yet turn out to have been dropped."""
        return not self.confirmed

    def follows(self, old: End | None) -> None:
        """The connection takes the four-tuple of one that is over: `old` is this end there."""
        self.middle = False
        if old is not None and old.state == St.TIME_WAIT:
            self.old = timewait.left(old)

    def begins_anew(self, s: Segment) -> bool:
        """Whether a SYN that this end sends, with another number, starts a new connection on the same four-tuple."""
        if self.isn == s.seq and self.role == "active":
            return False
        if not self.syns and not self.middle:
            return False
        mine, other = self.end.copy(), self.end.peer.copy()
        mine.peer, other.peer = other, mine
        for e in (mine, other):
            e.decided = {}
            try:
                while e.pending:
                    e.process()
            except Refusal:
                return False
            e.life.moves()
        if mine.stack.linux and mine.stack.near is True and mine.state in SYNCED:
            return False
        return not other.stack.linux or not _keeps(other, s)

    def cause(self, s: Segment) -> Label | None:
        """The unacceptable input that a pure ACK answers, once; None if there is none."""
        now = us(s)
        sure = self.end.stack.given and self.end.stack.near is True
        while self.dues:
            by, number, limited, at = self.dues.pop(0)
            if sure and now - at > resets.ON_ITS_WAY:
                continue
            if limited:
                if now - self.limited < RATELIMIT - 2 * self.end.stack.jiffy and self.end.stack.given:
                    self.end.counts.add(CHALLENGED, 0, -(by in CHALLENGES))
                    continue
                self.limited = now
            if by in CHALLENGES:
                self.end.counts.add(CHALLENGED, self.end.stack.near is True, 0)
            return Label(by, f"answers frame {number}")
        return None

    def got_twice(self, s: Segment) -> bool:
        """Whether a far end may answer a SYN-ACK that came twice: once, while nothing else has come or left.

        Source: net/ipv4/tcp_input.c:tcp_validate_incoming, its challenge ACK.
        """
        tx, rx = self.end.tx, self.end.rx
        if self.role != "active" or self.answered or self.end.stack.doubles is False or s.sack:
            return False
        self.answered = tx.snd_nxt == s.seq == ((self.isn or 0) + 1) & M32 and rx.re.nxt == rx.wup and not self.got
        return self.answered

    @property
    def sure(self) -> int:
        """1 if what the tap shows this end of inputs reached it for certain, else 0: the least that one counts."""
        return int(self.end.stack.lossy is False)

    @property
    def idle(self) -> int:
        """1 if no FIN can be waiting to be sent, so that the state is what it seems; else 0."""
        tx = self.end.tx
        return int(tx.snd_una == tx.snd_nxt and tx.f.wnd > 0)

    def believed(self, s: Segment) -> None:
        """A SYN-ACK left that the tap saw damaged, and that the peer took all the same."""
        if s.flags & (SYN | ACK | RST) == SYN | ACK and self.end.stack.linux and self.role != "active":
            label = handshake.damaged(self, s)
            self.end.rx.sent(s, label)
            self.end.tx.sent(s, label)

    def double(self, s: Segment) -> Label:
        """The network or the tap doubled a SYN or SYN-ACK: it was sent as the one before."""
        self.doubled = s.number
        return Label(self.said, "the network doubled it")

    def repeated(self, first: bool) -> None:
        """Counts a SYN or SYN-ACK: the `first`, or one sent again; the last time-out sends none, some were not seen."""
        stack = self.end.stack
        unseen = 0 if stack.exact or (stack.near is True and not self.setup.extra.get("drops")) else 1
        self.end.counts.add("TcpExt.TCPSynRetrans", 0 if first else 1, unseen if first else 1 + unseen)
        self.end.counts.add("TcpExt.TCPTimeouts", 0, unseen + (self.tries == 1))

    # -- states

    def moves(self) -> None:
        """Takes the moves that acknowledged FINs make."""
        end = self.end
        st = end.state
        if self.fin_end is not None and end.tx.snd_una == self.fin_end:
            if st == St.FIN_WAIT1:
                st = end.state = St.FIN_WAIT2
            elif st == St.CLOSING:
                st = end.state = St.TIME_WAIT
            elif st == St.LAST_ACK:
                st = end.state = St.CLOSE
        if self.peer_fin is not None and end.rx.rcv_nxt == self.peer_fin:
            if st in (St.ESTABLISHED, St.SYN_RECV):
                end.state = St.CLOSE_WAIT
            elif st == St.FIN_WAIT1:
                end.state = St.CLOSING
            elif st == St.FIN_WAIT2:
                end.state = St.TIME_WAIT

    def takes(self, s: Segment) -> bool:
        """Processes an input as tcp_validate_incoming and the state machine do; False: the input ends there."""
        end = self.end
        st = end.state
        flags = s.flags
        if st is St.ESTABLISHED and not flags & (SYN | RST):
            if flags & FIN:
                self.peer_fin = s.end_seq
                self.closer(s)
            if 0 < (s.ack_seq - end.tx.snd_nxt) & M32 < H32 and self._unsent(s):
                return False
            if self.far:
                self.heard.append((s, st))
            if s.len:
                self.got = True
                if not self.confirmed:
                    self.since.append(s.number)
            return True
        self.moves()
        st = end.state
        if flags & (SYN | RST) or st not in SYNCED:
            return self._odd(s, st)
        if flags & FIN:
            self.peer_fin = s.end_seq
        if st == St.SYN_RECV and not self._completes(s):
            return False
        self.heard.append((s, st))
        if (s.ack_seq - end.tx.snd_nxt - 1) & M32 < H32 and self._unsent(s):
            return False
        self.half = self.half or (st == St.FIN_WAIT2 and s.len > 0)
        self.got = self.got or s.len > 0
        if flags & FIN or (self.fin_end is not None and s.ack_seq == self.fin_end):
            self.closer(s)
        self.tw_at = us(s)
        return True

    def _unsent(self, s: Segment) -> bool:
        """Drops an ACK of what was never sent, with its data; source net/ipv4/tcp_input.c:tcp_ack."""
        end = self.end
        rx = end.rx
        if end.stack.near is not True or not end.stack.linux or self.middle or not s.flags & ACK:
            return False
        if rx.known and rx.acceptable(s, rx.re.nxt, rx.ts_recent):
            return False
        self.due("tcp_send_challenge_ack", s)
        return True

    def _odd(self, s: Segment, st: St) -> bool:
        """A SYN or RST in any state, and every segment where there is no open socket."""
        self.heard.append((s, st))
        if s.flags & SYN:
            self.end.rx.astray.stamped(s.tsval)
        if st in FRESH:
            return self._unopened(s, st)
        if st == St.SYN_SENT:
            return handshake.syn_sent(self, s)
        if st == St.NEW_SYN_RECV:
            return self._request(s)
        if st == St.TIME_WAIT:
            timewait.takes(self, s)
            return False
        if s.flags & RST:
            self._reset(s, st)
            return False
        if st == St.SYN_RECV and s.flags & ACK and self.role == "active":
            return self._completes(s)
        rx = self.end.rx
        old = rx.ts_ok and s.tsval is not None and rx.ts_recent and after(rx.ts_recent, s.tsval)
        if old and self.req is not None and _release(self.end.stack.kernel) < PAWS_CHALLENGES:
            rx.refuses(s, "paws")
            return False
        self.end.counts.add("TcpExt.TCPSYNChallenge", 0, 1)
        if self.req is not None and s.seq == self.req.seq and not s.flags & ACK:
            self.asks.append(s)
        self.due("tcp_send_challenge_ack", s)
        return False

    def _unopened(self, s: Segment, st: St) -> bool:
        """There may be a listener, or nothing; or the capture starts in mid-connection."""
        f = s.flags & (SYN | ACK | RST | FIN)
        if f == SYN and not self.aborted:
            if self.syns and not self.middle:
                return False
            self.asks.append(s)
            self.end.state = St.LISTEN
            return True
        return self.middle and not self.syns and not s.flags & RST

    def _request(self, s: Segment) -> bool:
        """A segment meets a request. Source net/ipv4/tcp_minisocks.c:tcp_check_req."""
        req = self.req
        assert req is not None
        nxt = (req.seq + 1) & 0xFFFFFFFF
        if s.flags & (SYN | ACK | RST) == SYN and s.seq == req.seq:
            self.asks.append(s)
            return False
        if s.flags & RST:
            if s.seq == nxt:
                self.end.state = St.LISTEN
                self.closer(s)
                self.end.counts.add("Tcp.AttemptFails", self.sure, 1)
                self.end.counts.add("TcpExt.EmbryonicRsts", self.sure, 1)
            else:
                self.due("tcp_v4_reqsk_send_ack", s)
            return False
        if s.flags & SYN:
            self.due("tcp_check_req", s)
            if s.flags & ACK == 0:
                self.asks.append(s)
            return False
        if not s.flags & ACK:
            return False
        isn = self.isn
        if isn is not None and s.ack_seq != (isn + 1) & 0xFFFFFFFF and self.end.stack.linux:
            return False  # the listener answers it with an RST
        if after(s.seq, (nxt + 65535) & 0xFFFFFFFF):
            self.due("tcp_check_req", s)
            return False
        self._established(s)
        return True

    def _established(self, s: Segment) -> None:
        """The handshake's last segment reached a request, if the accept queue had room."""
        self.end.state = St.ESTABLISHED
        self.asked = self.asked or us(s)
        self.confirmed = False
        self.end.counts.add("Tcp.PassiveOpens", 0, 1)
        if s.flags & FIN:
            self.peer_fin = s.end_seq

    def _completes(self, s: Segment) -> bool:
        """An ACK for a full socket in SYN_RECV: of a crossed open, or of a fast open's child."""
        if not s.flags & ACK:
            return False
        isn = self.isn
        if isn is not None and not after(s.ack_seq, isn):
            return False
        self.end.state = St.ESTABLISHED
        if s.flags & FIN:
            self.peer_fin = s.end_seq
        return True

    def _reset(self, s: Segment, st: St) -> None:
        """An RST in a synchronised state. Source net/ipv4/tcp_input.c:tcp_validate_incoming, RFC 5961 3.2."""
        if resets.accepted(self, s, st):
            if st in (St.ESTABLISHED, St.CLOSE_WAIT):
                self.end.counts.add("Tcp.EstabResets", self.sure and self.idle, 1)
            elif st == St.SYN_RECV:
                self.end.counts.add("Tcp.AttemptFails", self.sure, 1)
            self.end.state = St.CLOSE
            self.closer(s)
            self.dues.clear()
        elif resets.in_window(self, s):
            self.due("tcp_send_challenge_ack", s)

    def due(self, by: str, s: Segment) -> None:
        """An unacceptable input asks for an ACK, unless one was sent a moment ago."""
        challenge = by in CHALLENGES
        self.end.counts.add(CHALLENGED, 0, challenge)
        self.dues.append((by, s.number, challenge or s.flags & SYN != 0 or not s.seg_len, us(s)))
        if len(self.dues) > HEARD:
            del self.dues[0]

    # -- outputs

    def explain(self, s: Segment) -> Label | None:
        """The label of a frame that the state machine alone sends; None where the other parts decide."""
        end = self.end
        flags = s.flags
        if end.state is St.ESTABLISHED and not flags & (SYN | RST):
            if self.owes_ack is not None:
                return handshake.third(self, s)
            if self.alert:
                self._resets(s)
            return None
        self.moves()
        if flags & SYN:
            return handshake.synack(self, s) if flags & ACK else handshake.first(self, s)
        if flags & RST:
            return resets.explain(self, s)
        st = end.state
        if self.fin_end is not None and not s.len and not flags & FIN and timewait.small(self, s):
            return timewait.answers(self, s)
        if st in SYNCED:
            if self.alert:
                self._resets(s)
            return None
        return self._unexpected(s)

    def _resets(self, s: Segment) -> None:
        """Processes inputs up to an RST or SYN that waits and resets nothing: the output may be its challenge ACK."""
        end = self.end
        self.alert = any(p.flags & (RST | SYN) for p in end.pending)
        limit = us(s) - end.stack.base
        while self.alert and us(end.pending[0]) <= limit and not end.held(end.pending[0], s.number):
            p = end.pending[0]
            if p.flags & RST and (resets.accepted(self, p, end.state) or end.state not in SYNCED):
                return
            end.process()
            self.moves()
            self.alert = any(x.flags & (RST | SYN) for x in end.pending)

    def _unexpected(self, s: Segment) -> Label | None:
        """A frame of neither SYN nor RST of an end that seems not to be open: what waits must open it first."""
        end = self.end
        while end.state not in SYNCED and end.pending and not end.held(end.pending[0], s.number):
            if end.state in (St.TIME_WAIT, St.NEW_SYN_RECV) and self.dues:
                break
            if us(end.pending[0]) > us(s):
                break
            end.process()
            self.moves()
            timewait.revives(self, s)
        st = end.state
        if st == St.ESTABLISHED and self.owes_ack is not None:
            return handshake.third(self, s)
        if st in SYNCED:
            return None
        pure = not s.len and not s.flags & FIN
        if st == St.TIME_WAIT:
            return timewait.explain(self, s)
        if st == St.NEW_SYN_RECV and pure and self.dues:
            label = self.cause(s)
            if label is not None:
                if self.isn is not None and s.seq != (self.isn + 1) & M32 and end.stack.linux:
                    raise Refusal("empty-sequence", f"seq {s.seq} of a request, whose SYN-ACK had {self.isn}")
                end.rx.echo_advances(s)
                end.tx.classify(s)
                return label
        if not end.stack.linux or self._adopts():
            end.state = St.ESTABLISHED
            self.middle = True
            return None
        if self.overtaken(s):
            return None
        if self.closing and not self.aborted:
            raise self._closed(s)
        if st == St.CLOSE and self.syns:
            raise self._closed(s)
        raise Refusal("not-open", f"a segment of a socket in {st.name}", ("tcp_connect", "tcp_v4_send_reset"))

    def _adopts(self) -> bool:
        """Whether this end may be open without that the capture shows how."""
        if self.middle and not self.syns:
            return True
        return self.end.state != St.CLOSE and self.end.stack.near is not True

    def _closed(self, s: Segment) -> Refusal:
        """The socket is closed by an input; unless that was dropped, or processed after this frame."""
        what = f"a segment of a socket that frame {self.closing} closed"
        return Refusal("closed", what, ("tcp_v4_send_reset",), (), () if self.aborted else self.undone(s))

    def overtaken(self, s: Segment) -> bool:
        """Whether a frame may have left before others that the tap saw earlier, in another state of its end."""
        end = self.end
        if self.aborted and end.ident.steps_since_last(s) is not None:
            return False  # its own RST has an id of the same socket
        return not end.stack.exact and (self.far or bool(end.ident.overtaken(s)) or end.ident.clock.back(s) > 0)

    def undone(self, s: Segment) -> list[Excuse]:
        """What excuses a frame of an end that seems closed: inputs that closed it were late, or never arrived."""
        excuses = []
        for n, at in self.closers:
            why = self.end.decided.get(n)
            if why is None or why.kind != "dropped":
                evidence = f"frame {s.number} was sent as if frame {n} had not come"
                soon = us(s) - at <= SOON
                if us(s) - at <= self.end.stack.late:
                    excuses.append(Excuse("late", n, evidence, s.number, cost=1 if soon else 4))
                if self.end.stack.lossy is not False:
                    excuses.append(Excuse("dropped", n, evidence, cost=2 if soon else 1))
        return excuses

    def closer(self, s: Segment) -> None:
        """An input acknowledged the FIN, or brought the peer's, or an RST."""
        self.closing = s.number
        self.closers.insert(0, (s.number, us(s)))
        del self.closers[CLOSERS:]

    def sent(self, s: Segment, label: Label) -> None:
        """The output left: a SYN, RST or FIN moves the state."""
        flags = s.flags
        self.repeats = self.repeats + 1 if label.by in REPEATS else 0
        if not flags & (FIN | SYN | RST):
            if not self.confirmed:
                self._confirm()
            return
        end = self.end
        if flags & RST:
            return
        if flags & SYN:
            self.said = label.by
        if flags & FIN:
            if not self.confirmed:
                self._confirm()
            if self.fin_end is None:
                self.fin_end = s.end_seq
                if end.state in (St.ESTABLISHED, St.SYN_RECV):
                    end.state = St.FIN_WAIT1
                elif end.state == St.CLOSE_WAIT:
                    end.state = St.LAST_ACK

    def _confirm(self) -> None:
        handshake.unrepeated(self)
        self.confirmed = True
        self.asks.clear()
        self.since.clear()
        self.end.counts.add("Tcp.PassiveOpens", 1, 0)

    def overdue(self, now: int) -> None:
        """Raises Refusal if the handshake's ACK, which nothing withholds, did not show."""
        if self.owes_ack is not None:
            handshake.overdue(self, now)
        if self.end.ident.ids.holes:
            self.end.ident.overdue(now)


def _keeps(end: End, s: Segment) -> bool:
    """Whether what stands at an end answers a new SYN itself: an open socket, a request, an old TIME_WAIT."""
    if end.state == St.TIME_WAIT:
        rcv_nxt, last = end.rx.rcv_nxt, end.last_sent
        recent = last.tsecr if last is not None else None
        stamped = s.tsval is not None and recent is not None
        if stamped and s.tsval != recent and after(recent or 0, s.tsval or 0):
            return True
        return not after(s.seq, rcv_nxt) and not (stamped and s.tsval != recent)
    if end.stack.near is not True and not end.stack.given:
        return False
    return end.state in SYNCED or (end.state == St.NEW_SYN_RECV and not end.life.middle)


def _release(kernel: str) -> tuple[int, ...]:
    return tuple(int(n) for n in kernel.split(".")[:2] if n.isdigit())
