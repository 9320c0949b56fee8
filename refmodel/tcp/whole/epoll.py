"""epoll: many descriptors watched at once (fs/eventpoll.c).

The law: an item joins the ready list when its file wakes it with an event that it asks for. epoll_wait looks again at
each item of the list: with no event left it drops out, level-triggered it goes back to the end, edge-triggered it is
gone until it is woken anew, one-shot it is disabled until it is modified.
"""

import errno
from collections.abc import Generator
from typing import TYPE_CHECKING, Final

from refmodel.rule import cited
from refmodel.tcp.whole.net import Wait
from refmodel.tcp.whole.poll import (
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDNORM,
    O_RDWR,
    Blocking,
    File,
    WaitEntry,
    add_wait_queue,
    remove_wait_queue,
    wake_up,
)

if TYPE_CHECKING:
    from refmodel.tcp.whole.calls import Process

EPOLL_CTL_ADD: Final = 1
EPOLL_CTL_DEL: Final = 2
EPOLL_CTL_MOD: Final = 3
EPOLLEXCLUSIVE: Final = 1 << 28
EPOLLWAKEUP: Final = 1 << 29
EPOLLONESHOT: Final = 1 << 30
EPOLLET: Final = 1 << 31
EP_PRIVATE_BITS: Final = EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE
EPOLLINOUT_BITS: Final = EPOLLIN | EPOLLOUT
EPOLLEXCLUSIVE_OK_BITS: Final = EPOLLINOUT_BITS | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE
EP_MAX_NESTS: Final = 4


class Epitem:
    """struct epitem: one watched descriptor, the events asked for and the application's data."""

    __slots__ = ("data", "ep", "events", "fd", "file", "linked", "wait", "wq")

    def __init__(self, ep: "EventPoll", file: File, fd: int, events: int, data: int) -> None:
        self.ep = ep
        self.file = file
        self.fd = fd
        self.events = events
        self.data = data
        self.linked = False  # in the ready list
        self.wait = WaitEntry(ep_poll_callback, self, bool(events & EPOLLEXCLUSIVE))
        self.wq: list[WaitEntry] = []


class EventPoll(File):
    """struct eventpoll: the items and the ready list. `wq` are its pollers; `sleepers` those in epoll_wait."""

    def __init__(self, proc: "Process") -> None:
        super().__init__(O_RDWR)
        self.proc = proc
        self.rbr: dict[tuple[int, int], Epitem] = {}  # by (file, descriptor)
        self.rdllist: list[Epitem] = []
        self.sleepers: list[WaitEntry] = []

    @cited("fs/eventpoll.c:__ep_eventpoll_poll")
    def poll(self) -> int:
        """Readable while one of its items has an event."""
        for epi in tuple(self.rdllist):
            if ep_item_poll(epi):
                return EPOLLIN | EPOLLRDNORM
            _unlink(epi)
        return 0

    @cited("fs/eventpoll.c:ep_clear_and_put")
    def release(self, proc: "Process") -> Blocking:
        """Its last descriptor is closed: it watches nothing any more."""
        for epi in tuple(self.rbr.values()):
            ep_remove(epi)
        return 0
        yield


def _link(epi: Epitem) -> None:
    if not epi.linked:
        epi.linked = True
        epi.ep.rdllist.append(epi)


def _unlink(epi: Epitem) -> None:
    if epi.linked:
        epi.linked = False
        epi.ep.rdllist.remove(epi)


def ep_item_poll(epi: Epitem) -> int:
    """The item's events now, of those asked for; source fs/eventpoll.c:ep_item_poll."""
    return epi.file.poll() & epi.events


def _notify(ep: EventPoll, pollflags: int = 0) -> None:
    if ep.sleepers:
        wake_up(ep.sleepers)
    if ep.wq:
        wake_up(ep.wq, EPOLLIN | pollflags)


@cited("fs/eventpoll.c:ep_poll_callback")
def ep_poll_callback(wait: WaitEntry, key: int) -> bool:
    """The file wakes its item: with an event that it asks for it is ready. True if it took the event."""
    epi: Epitem = wait.owner
    ewake = False
    if epi.events & ~EP_PRIVATE_BITS and not (key and not key & epi.events):
        _link(epi)
        if epi.ep.sleepers and epi.events & EPOLLEXCLUSIVE:
            inout = key & EPOLLINOUT_BITS
            if inout == EPOLLIN:
                ewake = bool(epi.events & EPOLLIN)
            elif inout == EPOLLOUT:
                ewake = bool(epi.events & EPOLLOUT)
            elif inout == 0:
                ewake = True
        _notify(epi.ep)
    return ewake or not epi.events & EPOLLEXCLUSIVE


@cited("fs/eventpoll.c:ep_insert")
def ep_insert(ep: EventPoll, events: int, data: int, file: File, fd: int) -> int:
    """Watches a descriptor; what is ready already is told at once."""
    epi = Epitem(ep, file, fd, events, data)
    ep.rbr[id(file), fd] = epi
    file.f_ep.append(epi)
    epi.wq = file.wait_queue()
    add_wait_queue(epi.wq, epi.wait)
    if ep_item_poll(epi) and not epi.linked:
        _link(epi)
        _notify(ep)
    return 0


@cited("fs/eventpoll.c:ep_modify")
def ep_modify(epi: Epitem, events: int, data: int) -> int:
    """Asks for other events; what is ready already is told at once."""
    epi.events = events
    epi.data = data
    if ep_item_poll(epi) and not epi.linked:
        _link(epi)
        _notify(epi.ep)
    return 0


@cited("fs/eventpoll.c:ep_remove")
def ep_remove(epi: Epitem) -> None:
    """Watches a descriptor no longer."""
    remove_wait_queue(epi.wq, epi.wait)
    epi.file.f_ep.remove(epi)
    del epi.ep.rbr[id(epi.file), epi.fd]
    _unlink(epi)


@cited("fs/eventpoll.c:eventpoll_release_file")
def eventpoll_release_file(file: File) -> None:
    """A file that is released is watched by nobody."""
    for epi in tuple(file.f_ep):
        ep_remove(epi)


def _depth_down(ep: EventPoll, target: EventPoll, depth: int) -> int:
    """How deep epolls stand below `ep`; more than allowed if `target` is among them; source ep_loop_check_proc."""
    if ep is target or depth > EP_MAX_NESTS:
        return EP_MAX_NESTS + 1
    inner = [_depth_down(epi.file, target, depth + 1) + 1 for epi in ep.rbr.values() if isinstance(epi.file, EventPoll)]
    return max(inner, default=0)


def _depth_up(ep: EventPoll) -> int:
    return max((_depth_up(epi.ep) + 1 for epi in ep.f_ep), default=0)


@cited("fs/eventpoll.c:do_epoll_ctl")
def do_epoll_ctl(proc: "Process", epfd: int, op: int, fd: int, events: int, data: int) -> int:
    """Watches a descriptor, no longer watches it, or asks for other events: 0, or a negative errno."""
    ep = proc.fds.get(epfd)
    file = proc.fds.get(fd)
    if ep is None or file is None:
        return -errno.EBADF
    if not file.can_poll:
        return -errno.EPERM
    if ep is file or not isinstance(ep, EventPoll):
        return -errno.EINVAL
    if op != EPOLL_CTL_DEL and events & EPOLLEXCLUSIVE:
        if op == EPOLL_CTL_MOD:
            return -errno.EINVAL
        if op == EPOLL_CTL_ADD and (isinstance(file, EventPoll) or events & ~EPOLLEXCLUSIVE_OK_BITS):
            return -errno.EINVAL
    nested = op == EPOLL_CTL_ADD and isinstance(file, EventPoll)
    if nested and isinstance(file, EventPoll) and _depth_down(file, ep, 0) + 1 + _depth_up(ep) > EP_MAX_NESTS:
        return -errno.ELOOP
    epi = ep.rbr.get((id(file), fd))
    if op == EPOLL_CTL_ADD:
        if epi is not None:
            return -errno.EEXIST
        return ep_insert(ep, events | EPOLLERR | EPOLLHUP, data, file, fd)
    if op == EPOLL_CTL_DEL:
        if epi is None:
            return -errno.ENOENT
        ep_remove(epi)
        return 0
    if op == EPOLL_CTL_MOD:
        if epi is None:
            return -errno.ENOENT
        if epi.events & EPOLLEXCLUSIVE:
            return -errno.EINVAL
        return ep_modify(epi, events | EPOLLERR | EPOLLHUP, data)
    return -errno.EINVAL


@cited("fs/eventpoll.c:ep_send_events", "fs/eventpoll.c:ep_deliver_event")
def ep_send_events(ep: EventPoll, maxevents: int) -> list[tuple[int, int]]:
    """Takes up to `maxevents` events from the ready list."""
    out: list[tuple[int, int]] = []
    batch = ep.rdllist
    ep.rdllist = requeued = []
    n = 0
    for epi in batch:
        if len(out) >= maxevents:
            break
        n += 1
        epi.linked = False
        revents = ep_item_poll(epi)
        if not revents:
            continue
        out.append((revents, epi.data))
        if epi.events & EPOLLONESHOT:
            epi.events &= EP_PRIVATE_BITS
        elif not epi.events & EPOLLET:
            epi.linked = True
            requeued.append(epi)
    ep.rdllist = batch[n:] + requeued
    if ep.rdllist and ep.sleepers:
        wake_up(ep.sleepers)
    return out


def _autoremove(entry: WaitEntry, key: int) -> bool:
    entry.woken = True
    remove_wait_queue(entry.owner.sleepers, entry)
    return True


@cited("fs/eventpoll.c:ep_poll")
def ep_poll(ep: EventPoll, maxevents: int, timeout_ms: int) -> Generator[Wait, bool, list[tuple[int, int]]]:
    """Waits for events: as many as there are, none when the time (ms, negative: for ever) is over."""
    net = ep.proc.net
    timed_out = timeout_ms == 0
    expires = net.now + timeout_ms * 1000
    eavail = bool(ep.rdllist)
    while True:
        if eavail:
            events = ep_send_events(ep, maxevents)
            if events:
                return events
        if timed_out:
            return []
        eavail = bool(ep.rdllist)
        if eavail:
            continue
        entry = WaitEntry(_autoremove, ep, True)
        add_wait_queue(ep.sleepers, entry)
        left = None if timeout_ms < 0 else max(0, expires - net.now)
        timed_out = not (yield Wait(lambda e=entry: e.woken, left, hr=True))  # type: ignore[misc]
        eavail = entry.woken or not timed_out
        remove_wait_queue(ep.sleepers, entry)
