"""Readiness, sleepers and epoll, with the values of fs/select.c and fs/eventpoll.c."""

import errno

from refmodel.tcp.whole import calls, epoll, poll
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.poll import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLNVAL, EPOLLOUT, File, WaitEntry

ADD, DEL, MOD = 1, 2, 3


class Events(File):
    """A file whose events a test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.mask = 0

    def poll(self) -> int:
        return self.mask

    def happen(self, mask: int) -> None:
        self.mask |= mask
        poll.wake_up(self.wq, mask)


def process() -> calls.Process:
    return calls.Process(Net(WholeParams(hz=1000)))


def watched(events: int) -> tuple[calls.Process, int, int, Events]:
    proc = process()
    file = Events()
    fd = proc.install(file)
    epfd = proc.start(calls.sys_epoll_create(proc)).ret.value
    assert proc.start(calls.sys_epoll_ctl(proc, epfd, ADD, fd, events, 7)).ret.value == 0
    return proc, epfd, fd, file


def wait(proc: calls.Process, epfd: int, timeout: int = 0) -> list[tuple[int, int]]:
    return list(proc.start(calls.sys_epoll_wait(proc, epfd, 10, timeout)).ret.data)


def test_a_level_triggered_item_is_told_again_as_long_as_its_event_lasts() -> None:
    proc, epfd, _, file = watched(EPOLLIN)
    assert wait(proc, epfd) == []
    file.happen(EPOLLIN)
    assert wait(proc, epfd) == [(EPOLLIN, 7)]
    assert wait(proc, epfd) == [(EPOLLIN, 7)]
    file.mask = 0
    assert wait(proc, epfd) == []


def test_an_edge_triggered_item_is_told_once_for_each_wakeup() -> None:
    proc, epfd, _, file = watched(EPOLLIN | epoll.EPOLLET)
    file.happen(EPOLLIN)
    assert wait(proc, epfd) == [(EPOLLIN, 7)]
    assert wait(proc, epfd) == []
    file.happen(EPOLLIN)
    assert wait(proc, epfd) == [(EPOLLIN, 7)]


def test_a_one_shot_item_is_silent_until_it_is_modified() -> None:
    proc, epfd, fd, file = watched(EPOLLIN | epoll.EPOLLONESHOT)
    file.happen(EPOLLIN)
    assert wait(proc, epfd) == [(EPOLLIN, 7)]
    file.happen(EPOLLIN | EPOLLHUP)
    assert wait(proc, epfd) == []
    assert proc.start(calls.sys_epoll_ctl(proc, epfd, MOD, fd, EPOLLIN, 8)).ret.value == 0
    assert wait(proc, epfd) == [(EPOLLIN | EPOLLHUP, 8)]


def test_a_wakeup_with_another_event_makes_no_item_ready_but_errors_always_do() -> None:
    proc, epfd, _, file = watched(EPOLLIN | epoll.EPOLLET)
    file.happen(EPOLLOUT)
    assert wait(proc, epfd) == []
    file.happen(EPOLLERR)
    assert wait(proc, epfd) == [(EPOLLERR, 7)]


def test_a_closed_file_is_watched_by_nobody() -> None:
    proc, epfd, fd, file = watched(EPOLLIN)
    file.happen(EPOLLIN)
    proc.start(calls.sys_close(proc, fd))
    assert wait(proc, epfd) == []
    assert file.wq == []


def test_epoll_ctl_says_what_is_wrong() -> None:
    proc, epfd, fd, _ = watched(EPOLLIN)

    def ctl(ep: int, op: int, which: int, events: int = EPOLLIN) -> int:
        return proc.start(calls.sys_epoll_ctl(proc, ep, op, which, events, 0)).ret.value

    assert ctl(epfd, ADD, fd) == -errno.EEXIST
    assert ctl(99, ADD, fd) == -errno.EBADF
    assert ctl(epfd, ADD, 99) == -errno.EBADF
    assert ctl(epfd, ADD, epfd) == -errno.EINVAL
    assert ctl(fd, ADD, epfd) == -errno.EINVAL
    assert ctl(epfd, MOD, fd, EPOLLIN | epoll.EPOLLEXCLUSIVE) == -errno.EINVAL
    assert ctl(epfd, DEL, fd) == 0
    assert ctl(epfd, DEL, fd) == -errno.ENOENT
    assert ctl(epfd, MOD, fd) == -errno.ENOENT
    assert ctl(epfd, ADD, fd, EPOLLIN | epoll.EPOLLEXCLUSIVE | epoll.EPOLLONESHOT) == -errno.EINVAL
    assert proc.start(calls.sys_epoll_wait(proc, epfd, 0, 0)).ret.value == -errno.EINVAL
    assert proc.start(calls.sys_epoll_wait(proc, fd, 1, 0)).ret.value == -errno.EINVAL


def test_epolls_do_not_watch_each_other_in_a_circle() -> None:
    proc = process()
    a = proc.start(calls.sys_epoll_create(proc)).ret.value
    b = proc.start(calls.sys_epoll_create(proc)).ret.value
    assert proc.start(calls.sys_epoll_ctl(proc, a, ADD, b, EPOLLIN, 0)).ret.value == 0
    assert proc.start(calls.sys_epoll_ctl(proc, b, ADD, a, EPOLLIN, 0)).ret.value == -errno.ELOOP


def test_of_exclusive_epolls_one_is_woken() -> None:
    proc = process()
    file = Events()
    fd = proc.install(file)
    epfds = [proc.start(calls.sys_epoll_create(proc)).ret.value for _ in range(2)]
    for epfd in epfds:
        proc.start(calls.sys_epoll_ctl(proc, epfd, ADD, fd, EPOLLIN | epoll.EPOLLEXCLUSIVE, 0))
    tasks = [proc.start(calls.sys_epoll_wait(proc, epfd, 1, -1)) for epfd in epfds]
    file.happen(EPOLLIN)
    proc.settle()
    assert [task.done for task in tasks] == [True, False]


def test_epoll_wait_sleeps_until_its_microsecond() -> None:
    proc, epfd, _, _ = watched(EPOLLIN)
    net = proc.net
    began = net.now
    task = proc.start(calls.sys_epoll_wait(proc, epfd, 1, 15))
    net.advance(began + 14_999)
    proc.settle()
    assert not task.done
    net.advance(began + 15_000)
    proc.settle()
    assert task.done
    assert task.ret.value == 0
    assert task.returned == began + 15_000


def test_poll_gives_errors_unasked_and_names_what_is_no_descriptor() -> None:
    proc = process()
    file = Events()
    fd = proc.install(file)
    file.mask = EPOLLIN | EPOLLHUP
    ret = proc.start(calls.sys_poll(proc, [(fd, EPOLLOUT), (-1, EPOLLIN), (77, EPOLLIN)], -1)).ret
    assert (ret.value, ret.data) == (2, [EPOLLHUP, 0, EPOLLNVAL])


def test_poll_sleeps_until_an_event_that_it_asks_for() -> None:
    proc = process()
    file = Events()
    fd = proc.install(file)
    task = proc.start(calls.sys_poll(proc, [(fd, EPOLLIN)], -1))
    file.happen(EPOLLOUT)
    proc.settle()
    assert not task.done
    file.happen(EPOLLIN)
    proc.settle()
    assert task.done
    assert task.ret.data == [EPOLLIN]
    assert file.wq == []


def test_an_exclusive_sleeper_is_woken_after_the_others_and_alone() -> None:
    woken = []

    def note(entry: WaitEntry, key: int) -> bool:
        woken.append(entry.owner)
        return True

    wq: list[WaitEntry] = []
    for name, exclusive in (("first", True), ("second", True), ("plain", False)):
        poll.add_wait_queue(wq, WaitEntry(note, name, exclusive))
    poll.wake_up(wq, EPOLLIN)
    assert woken == ["plain", "first"]
    woken.clear()
    poll.wake_up(wq, 0, 0)
    assert woken == ["plain", "first", "second"]
