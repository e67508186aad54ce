#!/usr/bin/env python3
"""A process at the other end of larderd's sockets, polite or not. Prints what it was told; see each function."""
import os
import signal
import socket
import struct
import sys
import time

HELLO = struct.Struct("<QII48x")  # struct lrd_hello
WELCOME = struct.Struct("<QIIIiIIIIQQQQI52x")  # struct lrd_welcome


def connect(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(path)
    return s


def receive(s):
    data, fds, _, _ = socket.recv_fds(s, WELCOME.size, 8)
    if not data:
        return None, fds
    names = "magic version hash result error lane incarnation n_cells n_lanes segment_bytes reserve_bytes segment_id now_ns mark_bytes".split()
    return dict(zip(names, WELCOME.unpack(data))), fds


def peek(path):
    with connect(path + ".peek") as s:
        return receive(s)


def attach(path):
    """The answer to a correct hello, its descriptors, and the connection."""
    w, fds = peek(path)
    for fd in fds:
        os.close(fd)
    s = connect(path)
    s.send(HELLO.pack(w["magic"], w["version"], w["hash"]))
    return *receive(s), s


def say(answer, fds):
    print("closed" if answer is None else f"result {answer['result']} lane {answer['lane']} fds {len(fds)}", flush=True)


def cmd_attach(path, n="1"):
    """Attaches n times, and stays until standard input ends."""
    kept = []
    for _ in range(int(n)):
        answer, fds, s = attach(path)
        say(answer, fds)
        kept.append((fds, s))
    sys.stdin.read()


def cmd_marks(path, n="1"):
    """Attaches n times, says for each whether its lane has a mark map, and stays until standard input ends."""
    kept = []
    for _ in range(int(n)):
        answer, fds, s = attach(path)
        print("lane", answer["lane"], "marks", answer["mark_bytes"], "bytes", os.fstat(fds[1]).st_size, flush=True)
        kept.append((fds, s))
    sys.stdin.read()


def part(path, index):
    """Bytes of a part of the segment, by enum lrd_part_id."""
    answer, fds = peek(path)
    off, n = struct.unpack("<QQ", os.pread(fds[0], 16, 192 + index * 16))
    return os.pread(fds[0], n, off), answer


def cmd_namespaces(path):
    """What the segment says about them."""
    data, _ = part(path, 1)
    for i in range(64):
        epoch, state, ttl, policy, credit, name, _, least, most, every, _, _, _, by_client = struct.unpack_from("<IIQII32sQQQQQQQQ", data, i * 128)
        if state == 1:
            name = name.split(b"\0")[0].decode()
            print(i, name, f"policy {policy} credit {credit} blocks {least} {most} ttl {ttl} every {every} epoch {epoch} by_client {by_client}")


def cmd_lanes(path):
    """Of all lanes that are not free: rights of the client, and bytes of the mark map."""
    data, answer = part(path, 3)
    for i in range(answer["n_lanes"]):
        _, _, state, _, _, _, rights, marks = struct.unpack_from("<IIIIQQQQ", data, i * 128 + 64)
        if state != 0:
            print("lane", i, "rights", rights, "marks", marks)


def cmd_measured(path):
    """Measurements, and what the last said: segment, lanes, private, files; and the size of the segment."""
    data, answer = part(path, 0)
    n, _, segment, lanes, private, files = struct.unpack_from("<QQQQQQ", data, 576)
    print(n, segment, lanes, private, files, answer["segment_bytes"])


def cmd_stranger(path):
    """A client built from another layout."""
    w, _ = peek(path)
    s = connect(path)
    s.send(HELLO.pack(w["magic"], w["version"] + 1, w["hash"]))
    say(*receive(s))


def cmd_garbage(path, size="64"):
    s = connect(path)
    s.send(os.urandom(int(size)))
    say(*receive(s))


def cmd_babble(path):
    """Talks after it was answered."""
    answer, fds, s = attach(path)
    say(answer, fds)
    s.send(b"more")
    s.settimeout(5)
    try:
        print("hung up" if s.recv(1) == b"" else "answered")
    except ConnectionResetError:
        print("hung up")


def cmd_silent(path, n):
    """n connections without a word, until standard input ends."""
    kept = [connect(path) for _ in range(int(n))]
    print(len(kept), flush=True)
    sys.stdin.read()


def cmd_one_silent(path):
    """One connection without a word, until the daemon has enough."""
    s = connect(path)
    begin = time.monotonic()
    s.settimeout(20)
    s.recv(1)
    print(f"{time.monotonic() - begin:.0f}")


def cmd_widow(path):
    """Attaches, forks a child that keeps every descriptor, and dies. Prints the child's pid; it lives until it is killed."""
    answer, fds, _ = attach(path)
    say(answer, fds)
    child = os.fork()
    if child == 0:
        null = os.open("/dev/null", os.O_RDWR)
        for fd in 0, 1, 2:
            os.dup2(null, fd)  # who reads our output must not wait for us
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def cmd_peek(path):
    """What anybody gets, and what can be done with it."""
    import mmap

    answer, fds = peek(path)
    say(answer, fds)
    os.pread(fds[0], 8, 0)
    for what, how in (
        ("map", lambda: mmap.mmap(fds[0], answer["segment_bytes"], mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)),
        ("write", lambda: os.pwrite(fds[0], b"x", 0)),
        ("truncate", lambda: os.ftruncate(fds[0], 0)),
        ("reopen and write", lambda: os.pwrite(os.open(f"/proc/self/fd/{fds[0]}", os.O_RDWR), b"x", 0)),
    ):
        try:
            how()
            print(what, "works")
        except OSError:
            print(what, "refused")


if "PEER_UID" in os.environ:  # somebody else, who need not be able to read this file
    os.setgroups([])
    os.setgid(int(os.environ["PEER_UID"]))
    os.setuid(int(os.environ["PEER_UID"]))
globals()["cmd_" + sys.argv[2].replace("-", "_")](sys.argv[1], *sys.argv[3:])
