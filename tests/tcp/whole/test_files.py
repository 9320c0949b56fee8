"""Pipes, ordinary files and their calls, as fs/pipe.c, fs/fcntl.c and fs/splice.c have them."""

import errno

import pytest

from refmodel.tcp.whole import calls, files, poll, splice
from refmodel.tcp.whole.calls import Call, Process, Ret, Task
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.skb import Skb


def process() -> Process:
    return Process(Net(WholeParams()))


def ret(proc: Process, call: Call) -> Ret:
    task = proc.start(call)
    assert task.done
    return task.ret


def pipe(proc: Process) -> tuple[int, int]:
    made = ret(proc, calls.sys_pipe(proc))
    assert made.value == 0
    reading, writing = made.data
    return reading, writing


def test_a_pipe_has_sixteen_pages() -> None:
    proc = process()
    reading, writing = pipe(proc)
    assert ret(proc, calls.sys_fcntl(proc, writing, files.F_SETFL, poll.O_NONBLOCK)).value == 0
    assert ret(proc, calls.sys_write(proc, writing, 100_000)).value == 65536
    assert ret(proc, calls.sys_write(proc, writing, 1)).value == -errno.EAGAIN
    assert ret(proc, calls.sys_read(proc, reading, 1)).value == 1
    assert ret(proc, calls.sys_write(proc, writing, 1)).value == -errno.EAGAIN
    assert ret(proc, calls.sys_read(proc, reading, 4095)).value == 4095
    assert ret(proc, calls.sys_write(proc, writing, 1)).value == 1


def test_a_reader_sleeps_until_something_is_written_or_the_writer_is_gone() -> None:
    proc = process()
    reading, writing = pipe(proc)
    task: Task = proc.start(calls.sys_read(proc, reading, 10))
    assert not task.done
    assert ret(proc, calls.sys_write(proc, writing, 3)).value == 3
    proc.settle()
    assert task.done
    assert task.ret.value == 3
    task = proc.start(calls.sys_read(proc, reading, 10))
    assert ret(proc, calls.sys_close(proc, writing)).value == 0
    proc.settle()
    assert task.done
    assert task.ret.value == 0
    assert proc.fds[reading].poll() == poll.EPOLLHUP


def test_writing_without_a_reader_fails() -> None:
    proc = process()
    reading, writing = pipe(proc)
    assert ret(proc, calls.sys_close(proc, reading)).value == 0
    assert ret(proc, calls.sys_write(proc, writing, 3)).value == -errno.EPIPE


@pytest.mark.parametrize(("size", "got"), [(1, 4096), (5000, 8192), (65536, 65536), (-1, -errno.EINVAL)])
def test_a_pipes_size_is_a_power_of_two_pages(size: int, got: int) -> None:
    proc = process()
    reading, _ = pipe(proc)
    assert ret(proc, calls.sys_fcntl(proc, reading, files.F_SETPIPE_SZ, size)).value == got


def test_a_file_is_read_to_its_end() -> None:
    proc = process()
    proc.files["/tmp/x"] = 100
    assert ret(proc, calls.sys_open(proc, "/tmp/y", 0)).value == -errno.ENOENT
    fd = ret(proc, calls.sys_open(proc, "/tmp/x", 0)).value
    assert [ret(proc, calls.sys_read(proc, fd, 60)).value for _ in range(3)] == [60, 40, 0]
    assert ret(proc, calls.sys_write(proc, fd, 1)).value == -errno.EBADF


def test_pieces_are_the_head_and_the_fragments() -> None:
    skb = Skb(0, 3000, 3000)
    skb.linear = 3000
    assert splice.skb_pieces(skb, 0, 5000) == [3000]
    skb.linear, skb.frags = 1000, 2
    assert splice.skb_pieces(skb, 0, 5000) == [1000, 1000, 1000]
    assert splice.skb_pieces(skb, 1500, 700) == [500, 200]
