"""Sends packets that can be told from all others, receives them, and sees them pass on a node's devices.

Every packet of ours ends in eight bytes that are a run's alone, so the kernel's own filter finds it, whatever it is inside of: a tunnel
puts headers before a packet and nothing behind it. A UDP packet holds the token of its stream and its number, TCP segments hold those
eight bytes over and over. What is encrypted has no such end: packets that look like WireGuard, ESP or AH are counted by their lengths.

Operations and their parameters (tokens and `mark` are hexadecimal):

- ``receive``: ``address``, ``udp`` and ``tcp`` (how many sockets), ``streams`` (token to number of packets), ``max_s``; gives ``id``, the
  ports of both and ``links`` (indices of the devices at the other end of this namespace's)
- ``received``: ``id``; ends it and gives what arrived, and whether it was ``told`` to end before its time was over
- ``capture``: ``uplink_ip``, ``links`` (indices of further devices), ``streams``, ``tcp`` (address and port of each connection), ``mark``,
  ``max_s``, ``kept`` (packets of each kind that are kept as they are, at most); gives ``id`` and ``devices``
- ``captured``: ``id``; ends it and gives what was seen
- ``send``: ``mark``, ``rate_pps``, ``streams`` (address, ports, token, count, and from how many ports: sources), ``tcp`` (address, port,
  bytes)

What receives and captures is a child that ends by itself: when it is asked for what it has, after ``max_s``, and with the agent.
"""

# zip(strict=...) is younger than Python 3.7.
# ruff: noqa: B905, PTH110, PTH112, PTH208, SIM105

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import time

from pytest_k8snet.agent.agent import (
    ANY_ERROR,
    Failed,
    connect_to,
    conntrack_counters,
    device_counters,
    find_uplink,
    heartbeat,
    output,
    physical_devices,
    read_number,
    read_or_none,
    softnet,
    write_all,
)

TYPE_CHECKING = False  # typing is not imported on nodes: starting fast matters there
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

PREFIX = b"k8snet\x00\x01"
PAYLOAD_BYTES = 100  # of a UDP packet: prefix, token, number, filling, mark
TOKEN_BYTES = 8
NUMBER_AT = len(PREFIX) + TOKEN_BYTES
MARK_BYTES = 4  # two of them end a packet

RECEIVE_BUFFER_BYTES = 4 << 20
CAPTURE_BUFFER_BYTES = 32 << 20
LONGEST_BYTES = 66000  # datagrams that a device has merged
KEPT_BYTES = 192  # of a packet that is kept
PAUSE_S = 0.01  # packets are taken several at a time: waking up for each would keep a small node busy
MOST_SEGMENTS = 20000
MOST_ADDRESSES = 16
MOST_CIPHER_KINDS = 512  # of device, kind, addresses and length
MOST_CIPHER_BYTES = 400  # longer packets are no tokens of ours

SO_RCVBUFFORCE = 33
SO_ATTACH_FILTER = 26
SO_MEMINFO = 55
MEMINFO_DROPS = 8
SOL_PACKET = 263
PACKET_STATISTICS = 6
ETH_P_ALL = 3

#: Of /proc/net/snmp, snmp6 and netstat what counts packets that are thrown away.
KEPT_COUNTERS = frozenset(
    {
        *("Ip.InHdrErrors", "Ip.InAddrErrors", "Ip.InUnknownProtos", "Ip.InDiscards", "Ip.OutDiscards", "Ip.OutNoRoutes", "Ip.ReasmFails"),
        *("Ip.FragFails", "Udp.NoPorts", "Udp.InErrors", "Udp.RcvbufErrors", "Udp.SndbufErrors", "Udp.InCsumErrors", "Udp.MemErrors"),
        *(
            "Ip6InHdrErrors",
            "Ip6InAddrErrors",
            "Ip6InUnknownProtos",
            "Ip6InDiscards",
            "Ip6InNoRoutes",
            "Ip6InTooBigErrors",
            "Ip6OutDiscards",
        ),
        *("Ip6OutNoRoutes", "Ip6ReasmFails", "Ip6FragFails", "Udp6NoPorts", "Udp6InErrors", "Udp6RcvbufErrors", "Udp6SndbufErrors"),
        *("IpExt.InNoRoutes", "IpExt.InTruncatedPkts", "IpExt.InCsumErrors", "TcpExt.IPReversePathFilter", "TcpExt.TCPBacklogDrop"),
    }
)
KEPT_CONNTRACK = ("drop", "early_drop", "insert_failed", "invalid")

children: dict[int, tuple[int, int]] = {}  # process id to its pipes: what it reads, what it writes


# ---- children


def start_child(function: Callable[[int], Any], keep: Iterable[int], max_s: float) -> int:
    """Start a child that calls `function` with a descriptor that tells it to end, and answers with its JSON value."""
    theirs, ours = os.pipe()
    result, answer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(theirs)
        os.close(answer)
        children[pid] = (ours, result)
        return pid
    try:
        signal.alarm(int(max_s) + 60)  # nobody takes the answer
        os.dup2(os.open("/dev/null", os.O_RDWR), 0)
        os.dup2(0, 1)
        spared = {theirs, answer, *keep}
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) not in spared:
                try:
                    os.close(int(name))
                except OSError:
                    pass
        try:
            text = {"result": function(theirs)}
        except ANY_ERROR as error:
            text = {"error": repr(error)}
        write_all(answer, json.dumps(text).encode())
    finally:
        os._exit(0)


def end_child(pid: int) -> Any:
    """Tell a child to end and return what it answers."""
    ours, result = children.pop(pid, (None, None))
    if ours is None or result is None:
        raise Failed("failed", f"{pid} is not, or no longer, at work here")
    os.close(ours)
    data = b""
    until = time.monotonic() + 20.0
    try:
        while True:
            if not select.select([result], [], [], max(0.0, until - time.monotonic()))[0]:
                raise Failed("timeout", "what receives or captures did not end within 20 s")
            chunk = os.read(result, 1 << 16)
            if not chunk:
                break
            data += chunk
    finally:
        os.close(result)
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
        os.waitpid(pid, 0)
    answer = json.loads(data.decode()) if data else {"error": "ended without an answer"}
    if "error" in answer:
        raise Failed("failed", answer["error"])
    return answer["result"]


# ---- numbers that arrived


class Numbers:
    """Which packets of a stream there were."""

    def __init__(self, count: int) -> None:
        self.bits = bytearray((count + 7) // 8)
        self.count = count
        self.different = 0
        self.again = 0

    def add(self, number: int) -> None:
        """Note one."""
        if number >= self.count:
            return
        place, bit = number >> 3, 1 << (number & 7)
        if self.bits[place] & bit:
            self.again += 1
        else:
            self.bits[place] |= bit
            self.different += 1

    def to_json(self) -> dict[str, Any]:
        """Return them as they are answered: the lowest bit of the first byte is the first packet."""
        return {"bits": bytes(self.bits).hex(), "different": self.different, "again": self.again}


def counted_in(payload: bytes, streams: Mapping[bytes, int]) -> list[tuple[bytes, int]]:
    """Return token and number of every packet of ours in the payload of one datagram: a device may have merged several."""
    found = []
    for at in range(0, len(payload) - PAYLOAD_BYTES + 1, PAYLOAD_BYTES):
        if payload[at : at + len(PREFIX)] != PREFIX:
            break
        token = payload[at + len(PREFIX) : at + NUMBER_AT]
        if token in streams:
            found.append((token, int.from_bytes(payload[at + NUMBER_AT : at + NUMBER_AT + 4], "big")))
    return found


def by_token(streams: Mapping[str, int]) -> dict[bytes, int]:
    """Return the number of packets by token."""
    return {bytes.fromhex(token): int(count) for token, count in streams.items()}


# ---- receiving


def receive(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``receive``."""
    address, streams, max_s = params["address"], by_token(params["streams"]), float(params["max_s"])
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sockets = []
    for _ in range(int(params["udp"])):
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sockets.append(sock)
        enlarge(sock, RECEIVE_BUFFER_BYTES)
        sock.bind((address, 0))
        sock.setblocking(False)
    listeners = []
    for _ in range(int(params["tcp"])):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listeners.append(listener)
        listener.bind((address, 0))
        listener.listen(4)
        listener.setblocking(False)
    before = kernel_counters(())
    every = [*sockets, *listeners]
    number = start_child(lambda end: receiving(sockets, listeners, streams, before, end, max_s), [sock.fileno() for sock in every], max_s)
    ports = {"udp": [sock.getsockname()[1] for sock in sockets], "tcp": [sock.getsockname()[1] for sock in listeners]}
    for sock in every:
        sock.close()
    return dict(ports, id=number, links=far_ends())


def enlarge(sock: socket.socket, size: int) -> None:
    """Give a socket a large receive buffer: by privilege, else as large as it may be."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def far_ends() -> list[int]:
    """Return the indices of devices in another namespace that this one's are tied to."""
    found = []
    for name in os.listdir("/sys/class/net"):
        own, link = (read_number(f"/sys/class/net/{name}/{file}") for file in ("ifindex", "iflink"))
        if own is not None and link is not None and own != link:
            found.append(link)
    return found


def receiving(
    sockets: Sequence[socket.socket],
    listeners: Sequence[socket.socket],
    streams: Mapping[bytes, int],
    before: Mapping[str, int],
    end: int,
    max_s: float,
) -> dict[str, Any]:
    """Receive until told to end."""
    arrived = {token: Numbers(count) for token, count in streams.items()}
    senders: dict[bytes, dict[str, int]] = {token: {} for token in streams}
    connections: dict[int, list[Any]] = {}  # descriptor to socket, our port, peer, bytes
    poll = select.poll()
    poll.register(end, select.POLLIN | select.POLLHUP)
    by_descriptor = {sock.fileno(): sock for sock in sockets}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLIN)
    listening = {sock.fileno(): sock for sock in listeners}
    for descriptor in listening:
        poll.register(descriptor, select.POLLIN)
    until = time.monotonic() + max_s
    told = False
    while not told and time.monotonic() < until:
        for descriptor, _ in poll.poll(500):
            if descriptor == end:
                told = True
            elif descriptor in by_descriptor:
                take_datagrams(by_descriptor[descriptor], streams, arrived, senders)
            elif descriptor in listening:
                accept(listening[descriptor], connections, poll)
            elif descriptor in connections:
                take_bytes(descriptor, connections, poll)
        time.sleep(PAUSE_S)
    for sock in sockets:  # what is there still
        take_datagrams(sock, streams, arrived, senders)
    after = kernel_counters(())
    return {
        "streams": {token.hex(): dict(arrived[token].to_json(), senders=senders[token]) for token in streams},
        "overflow": sum(overflow(sock) for sock in sockets),
        "tcp": [{"port": port, "peer": peer, "bytes": count} for _, port, peer, count in connections.values()],
        "counters": growth(before, after),
        "told": told,
    }


def take_datagrams(
    sock: socket.socket, streams: Mapping[bytes, int], arrived: Mapping[bytes, Numbers], senders: Mapping[bytes, dict[str, int]]
) -> None:
    """Take what a socket has received."""
    for _ in range(1000):
        try:
            payload, sender = sock.recvfrom(LONGEST_BYTES)
        except OSError:
            return
        for token, number in counted_in(payload, streams):
            arrived[token].add(number)
            counts = senders[token]
            if sender[0] in counts or len(counts) < MOST_ADDRESSES:
                counts[sender[0]] = counts.get(sender[0], 0) + 1


def accept(listener: socket.socket, connections: dict[int, list[Any]], poll: Any) -> None:
    """Take a connection."""
    try:
        connection, peer = listener.accept()
    except OSError:
        return
    connection.setblocking(False)
    connections[connection.fileno()] = [connection, listener.getsockname()[1], peer[0], 0]
    poll.register(connection.fileno(), select.POLLIN)


def take_bytes(descriptor: int, connections: dict[int, list[Any]], poll: Any) -> None:
    """Take what a connection has received; at its end close ours, which tells the other side that all of it came."""
    item = connections[descriptor]
    try:
        data = item[0].recv(1 << 16)
    except BlockingIOError:
        return
    except OSError:
        data = b""
    item[3] += len(data)
    if not data:
        poll.unregister(descriptor)
        try:
            item[0].shutdown(socket.SHUT_WR)
        except OSError:
            pass


def overflow(sock: socket.socket) -> int:
    """Return how many packets had no room in a socket's buffer."""
    try:
        info = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * 9)
    except OSError:  # before Linux 4.12
        return 0
    return int(struct.unpack("=9I", info)[MEMINFO_DROPS]) if len(info) >= 36 else 0


def received(params: Mapping[str, Any]) -> Any:
    """Operations ``received`` and ``captured``."""
    return end_child(int(params["id"]))


# ---- sending


def send(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``send``: the connections first, then the numbered packets of all streams in turn, as fast as they may be and no faster."""
    mark = bytes.fromhex(params["mark"])
    connections = [converse(item, mark) for item in params.get("tcp", ())]
    started = time.monotonic()
    streams = [Stream(item, mark) for item in params["streams"]]
    every_s = 1.0 / float(params["rate_pps"])
    due = alive = time.monotonic()
    for step in range(max((stream.count for stream in streams), default=0)):
        for stream in streams:
            if step >= stream.count:
                continue
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            elif wait < -0.02:  # what was missed is not made up for
                due -= wait
            due += every_s
            stream.send(step)
        if time.monotonic() - alive > 10.0:
            heartbeat()
            alive = time.monotonic()
    for stream in streams:
        stream.close()
    return {"streams": [stream.to_json() for stream in streams], "tcp": connections, "seconds": round(time.monotonic() - started, 3)}


class Stream:
    """Numbered packets to one address, from several ports to several ports in turn."""

    def __init__(self, item: Mapping[str, Any], mark: bytes) -> None:
        self._to = [(item["address"], int(port)) for port in item["ports"]]
        self.count = int(item["count"])
        self.errors: dict[str, int] = {}
        self.sent = Numbers(self.count)
        self._head = PREFIX + bytes.fromhex(item["token"])
        self._tail = bytes(PAYLOAD_BYTES - NUMBER_AT - 4 - 2 * MARK_BYTES) + mark + mark
        family = socket.AF_INET6 if ":" in item["address"] else socket.AF_INET
        self._sockets = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(int(item["sources"]))]

    def send(self, number: int) -> None:
        """Send one."""
        sock = self._sockets[number % len(self._sockets)]
        try:
            sock.sendto(self._head + number.to_bytes(4, "big") + self._tail, self._to[number % len(self._to)])
        except OSError as error:
            reason = error.strerror or str(error)
            self.errors[reason] = self.errors.get(reason, 0) + 1
        else:
            self.sent.add(number)

    def close(self) -> None:
        """Close its sockets."""
        for sock in self._sockets:
            sock.close()

    def to_json(self) -> dict[str, Any]:
        """Return what was sent."""
        return dict(self.sent.to_json(), errors=self.errors)


def converse(item: Mapping[str, Any], mark: bytes) -> dict[str, Any]:
    """Send bytes over one connection and wait until the other side has closed it."""
    size = int(item["bytes"])
    answer: dict[str, Any] = {"sent": 0, "error": None, "mss": None}
    try:
        with connect_to(item["address"], int(item["port"]), 6.0) as sock:
            answer["mss"] = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
            sock.sendall(mark * (size // len(mark)))
            answer["sent"] = size // len(mark) * len(mark)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(4096):
                pass
    except OSError as error:
        answer["error"] = error.strerror or str(error)
    return answer


# ---- seeing


def capture(params: Mapping[str, Any]) -> dict[str, Any]:
    """Operation ``capture``."""
    devices = find_devices(params["uplink_ip"], params.get("links", ()))
    if not devices["wire"]:
        raise Failed("failed", "no device of this node has the address " + str(params["uplink_ip"]))
    mark, max_s = bytes.fromhex(params["mark"]), float(params["max_s"])
    wire = [devices["indices"][name] for name in devices["wire"]]
    plain = packet_socket(mark_filter(mark, devices["indices"].values()))
    hidden = packet_socket(cipher_filter(wire))
    watched = [*devices["wire"], *devices["pod"]]
    before = kernel_counters(watched)
    seeing = Seeing(by_token(params["streams"]), [(address, int(port)) for address, port in params["tcp"]], int(params["kept"]))
    number = start_child(
        lambda end: capturing(plain, hidden, seeing, watched, before, end, max_s), [plain.fileno(), hidden.fileno()], max_s
    )
    plain.close()
    hidden.close()
    return {"id": number, "devices": devices}


def find_devices(uplink_ip: str, links: Iterable[int]) -> dict[str, Any]:
    """Return which devices lead to other nodes (the uplink, what it consists of, other hardware) and which to the pod."""
    uplink = find_uplink(uplink_ip)
    indices = {name: index for index, name in socket.if_nameindex()}
    wire: list[str] = []
    todo = [uplink] if uplink is not None else []
    while todo:
        name = todo.pop()
        if name in indices and name not in wire:
            wire.append(name)
            todo += parts_of(name)
    if uplink is not None and not is_tunnel(uplink):
        wire += [name for name in physical_devices(uplink) if name in indices and name not in wire]
    by_index = {index: name for name, index in indices.items()}
    pod = [by_index[index] for index in links if index in by_index and by_index[index] not in wire]
    return {"uplink": uplink, "wire": wire, "pod": pod, "indices": {name: indices[name] for name in [*wire, *pod]}}


def parts_of(name: str) -> list[str]:
    """Return the devices below a bond, team or VLAN, and the ports of a bridge that are no pods'."""
    try:
        files = os.listdir("/sys/class/net/" + name)
    except OSError:
        return []
    below = [file[len("lower_") :] for file in files if file.startswith("lower_")]
    return [part for part in below if not (os.path.isdir(f"/sys/class/net/{name}/bridge") and is_pods(part))]


def is_pods(name: str) -> bool:
    """Whether a port of a bridge is a pod's or a virtual machine's end, or a tunnel's."""
    return is_tunnel(name) or not (os.path.exists(f"/sys/class/net/{name}/device") or parts_of(name))


def is_tunnel(name: str) -> bool:
    """Whether a device puts packets into others: one that says so, or that has no Ethernet address."""
    kinds = ("vxlan", "geneve", "wireguard", "gre", "ipip", "sit", "tun")
    text = read_or_none(f"/sys/class/net/{name}/uevent") or ""
    if any("DEVTYPE=" + kind in text for kind in kinds):
        return True
    return read_number(f"/sys/class/net/{name}/type") in (768, 769, 776, 778, 823, 65534)  # ARPHRD_ of tunnels, and none at all


def packet_socket(program: Sequence[tuple[int, int, int, int]]) -> socket.socket:
    """Return a socket that gets what passes any device and the filter, from the network header on."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
    enlarge(sock, CAPTURE_BUFFER_BYTES)
    attach(sock, program)
    sock.setblocking(False)
    drain(sock, bytearray(64), lambda *_: None)  # what came before the filter was there
    dropped(sock)  # reading sets it to zero
    return sock


def attach(sock: socket.socket, program: Sequence[tuple[int, int, int, int]]) -> None:
    """Attach a classic BPF program."""
    import array

    code = array.array("B", b"".join(struct.pack("=HBBI", *line) for line in program))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(program), code.buffer_info()[0]))


# Classic BPF (linux/filter.h).
LOAD_WORD, LOAD_HALF, LOAD_BYTE = 0x20, 0x28, 0x30
LOAD_WORD_X, LOAD_HALF_X = 0x40, 0x48
LOAD_LENGTH, INDEX_HEADER, TO_INDEX = 0x80, 0xB1, 0x07
SUBTRACT, AND = 0x14, 0x54
IF_EQUAL, IF_GREATER, IF_AT_LEAST, JUMP, RETURN = 0x15, 0x25, 0x35, 0x05, 0x06
IFINDEX = 0xFFFFF000 + 8
ALL_OF_IT = 0x40000


def assemble(lines: Sequence[tuple[Any, ...]]) -> list[tuple[int, int, int, int]]:
    """Return a program of ``(label,)`` and ``(code, value)`` or ``(code, value, label if so)``."""
    places: dict[str, int] = {}
    code: list[tuple[Any, ...]] = []
    for line in lines:
        if len(line) == 1:
            places[line[0]] = len(code)
        else:
            code.append(line)
    program = []
    for place, line in enumerate(code):
        if line[0] == JUMP:
            program.append((JUMP, 0, 0, places[line[1]] - place - 1))
        else:
            program.append((line[0], places[line[2]] - place - 1 if len(line) > 2 else 0, 0, line[1]))
    return program


def on_devices(indices: Iterable[int]) -> list[tuple[Any, ...]]:
    """Return the start of a program: packets on other devices are none."""
    return [(LOAD_WORD, IFINDEX), *[(IF_EQUAL, index, "here") for index in indices], (RETURN, 0), ("here",)]


def mark_filter(mark: bytes, indices: Iterable[int]) -> list[tuple[int, int, int, int]]:
    """Return the program for packets whose last eight bytes are `mark` twice, or that cut anywhere out of many of them."""
    turns = {int.from_bytes(mark[turn:] + mark[:turn], "big") for turn in range(MARK_BYTES)}
    lines = on_devices(indices)
    lines += [(LOAD_LENGTH, 0), (IF_AT_LEAST, 28, "long"), (RETURN, 0), ("long",)]
    for before, label in ((4, "last"), (8, "both")):
        lines += [(LOAD_LENGTH, 0), (SUBTRACT, before), (TO_INDEX, 0), (LOAD_WORD_X, 0)]
        lines += [*[(IF_EQUAL, turn, label) for turn in sorted(turns)], (RETURN, 0), (label,)]
    return assemble([*lines, (RETURN, ALL_OF_IT)])


def cipher_filter(indices: Iterable[int]) -> list[tuple[int, int, int, int]]:
    """Return the program for short packets of ESP, AH, ESP in UDP and WireGuard, over IPv4 and IPv6."""
    data = 0x04000000  # WireGuard's message of data: its type, little-endian, and three bytes of nothing
    return assemble(
        [
            *on_devices(indices),
            *[(LOAD_BYTE, 0), (AND, 0xF0), (IF_EQUAL, 0x40, "four"), (IF_EQUAL, 0x60, "six"), (RETURN, 0)],
            ("four",),
            *[(LOAD_HALF, 2), (IF_GREATER, MOST_CIPHER_BYTES, "no"), (LOAD_BYTE, 9), (IF_EQUAL, 50, "yes"), (IF_EQUAL, 51, "yes")],
            *[(IF_EQUAL, 17, "udp"), (RETURN, 0)],
            ("udp",),
            *[(INDEX_HEADER, 0), (LOAD_WORD_X, 8), (IF_EQUAL, data, "yes"), (LOAD_HALF_X, 0), (IF_EQUAL, 4500, "yes")],
            *[(LOAD_HALF_X, 2), (IF_EQUAL, 4500, "yes"), (RETURN, 0)],
            ("six",),
            *[(LOAD_HALF, 4), (IF_GREATER, MOST_CIPHER_BYTES, "no"), (LOAD_BYTE, 6), (IF_EQUAL, 50, "yes"), (IF_EQUAL, 51, "yes")],
            *[(IF_EQUAL, 17, "udp6"), (RETURN, 0)],
            ("udp6",),
            *[(LOAD_WORD, 48), (IF_EQUAL, data, "yes"), (LOAD_HALF, 40), (IF_EQUAL, 4500, "yes"), (LOAD_HALF, 42), (IF_EQUAL, 4500, "yes")],
            ("no",),
            (RETURN, 0),
            ("yes",),
            (RETURN, 96),
        ]
    )


def capturing(
    plain: socket.socket,
    hidden: socket.socket,
    seeing: Seeing,
    watched: Sequence[str],
    before: Mapping[str, int],
    end: int,
    max_s: float,
) -> dict[str, Any]:
    """See packets until told to end."""
    buffer = bytearray(LONGEST_BYTES)
    poll = select.poll()
    for descriptor in (end, plain.fileno(), hidden.fileno()):
        poll.register(descriptor, select.POLLIN | select.POLLHUP)
    until = time.monotonic() + max_s
    told = False
    while not told and time.monotonic() < until:
        told = any(descriptor == end for descriptor, _ in poll.poll(500))
        drain(plain, buffer, seeing.see)
        drain(hidden, buffer, seeing.see_cipher)
        if not told:
            time.sleep(PAUSE_S)
    after = kernel_counters(watched)
    return dict(
        seeing.to_json(),
        dropped=dropped(plain),
        cipher_dropped=dropped(hidden),
        counters=growth(before, after),
        told=told,
    )


def drain(sock: socket.socket, buffer: bytearray, see: Callable[[bytes, int, tuple[Any, ...]], None]) -> None:
    """Give away the packets that a socket has."""
    for _ in range(2000):
        try:
            length, where = sock.recvfrom_into(buffer, len(buffer), socket.MSG_TRUNC)
        except BlockingIOError:
            return
        except OSError:  # a device has gone down
            continue
        see(bytes(buffer[: min(length, len(buffer))]), length, where)


def dropped(sock: socket.socket) -> int:
    """Return how many packets a packet socket had no room for."""
    return int(struct.unpack("=II", sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1])


class Seeing:
    """What was seen of the streams and connections, by device and by what it was inside of."""

    def __init__(self, streams: Mapping[bytes, int], tcp: Iterable[tuple[str, int]], kept: int) -> None:
        self._streams = streams
        self._tcp = {(socket_bytes(address), port): f"{address} {port}" for address, port in tcp}
        self._kept = kept
        self._seen: dict[tuple[bytes, str, str], Numbers] = {}
        self._addresses: dict[tuple[bytes, str], dict[str, int]] = {}
        self._segments: dict[tuple[str, str, str], dict[int, int]] = {}
        self._cipher: dict[tuple[str, str, str, str, int], int] = {}
        self._frames: list[dict[str, Any]] = []
        self._frames_of: dict[tuple[Any, ...], int] = {}
        self._unread = 0
        self._cut = False

    def see(self, packet: bytes, length: int, where: tuple[Any, ...]) -> None:
        """Note a packet that ends as ours do."""
        found = dissect(packet, length, where[1])
        if found is None:
            self._unread += 1
            return
        form, source, target, protocol, at, size = found
        kind: Any
        if protocol == 17:
            counted = counted_in(packet[at : at + size], self._streams)
            if not counted:
                return  # another run's
            for token, number in counted:
                key = (token, where[0], form)
                if key not in self._seen:
                    self._seen[key] = Numbers(self._streams[token])
                self._seen[key].add(number)
                counts = self._addresses.setdefault((token, where[0]), {})
                sender = text_address(source)
                if sender in counts or len(counts) < MOST_ADDRESSES:
                    counts[sender] = counts.get(sender, 0) + 1
            kind = counted[0][0]
        else:
            header = (packet[at + 12] >> 4) * 4
            name = self._tcp.get((target, int.from_bytes(packet[at + 2 : at + 4], "big")))
            if name is None or size <= header:
                return
            segments = self._segments.setdefault((name, where[0], form), {})
            first = int.from_bytes(packet[at + 4 : at + 8], "big")
            if len(segments) < MOST_SEGMENTS:
                segments[first] = max(segments.get(first, 0), size - header)
            else:
                self._cut = True
            kind = name
        self._keep(packet, length, where, (kind, where[0], form))

    def see_cipher(self, packet: bytes, _: int, where: tuple[Any, ...]) -> None:
        """Count a packet that looks encrypted."""
        found = cipher(packet)
        if found is None:
            return
        kind, source, target, size = found
        key = (where[0], kind, text_address(source), text_address(target), size)
        if key in self._cipher or len(self._cipher) < MOST_CIPHER_KINDS:
            self._cipher[key] = self._cipher.get(key, 0) + 1
        else:
            self._cut = True

    def _keep(self, packet: bytes, length: int, where: tuple[Any, ...], kind: tuple[Any, ...]) -> None:
        kept = self._frames_of.get(kind, 0)
        if kept >= self._kept:
            return
        self._frames_of[kind] = kept + 1
        import base64

        self._frames.append(
            {
                "at_s": time.time(),
                "device": where[0],
                "protocol": where[1],
                "direction": where[2],
                "hardware": where[3],
                "length": length,
                "data": base64.b64encode(packet[:KEPT_BYTES]).decode(),
            }
        )

    def to_json(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "seen": [
                dict(numbers.to_json(), token=token.hex(), device=device, form=form)
                for (token, device, form), numbers in self._seen.items()
            ],
            "sources": [
                {"token": token.hex(), "device": device, "addresses": counts} for (token, device), counts in self._addresses.items()
            ],
            "tcp": [
                {"to": name, "device": device, "form": form, "bytes": covered(segments)}
                for (name, device, form), segments in self._segments.items()
            ],
            "cipher": [
                {"device": device, "kind": kind, "source": source, "target": target, "length": length, "count": count}
                for (device, kind, source, target, length), count in self._cipher.items()
            ],
            "unread": self._unread,
            "cut": self._cut,
            "frames": self._frames,
        }


def covered(segments: Mapping[int, int]) -> int:
    """Return how many bytes of a connection were seen, by first sequence number and length of its segments: none counts twice."""
    if not segments:
        return 0
    base = next(iter(segments))
    total = 0
    reached: int | None = None
    for first, size in sorted((((first - base + (1 << 31)) & 0xFFFFFFFF) - (1 << 31), size) for first, size in segments.items()):
        begin = first if reached is None or first > reached else reached
        total += max(0, first + size - begin)
        reached = max(first + size, begin)
    return total


def socket_bytes(address: str) -> bytes:
    """Return an address as packets hold it."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def text_address(address: bytes) -> str:
    """Return an address in words."""
    return socket.inet_ntop(socket.AF_INET6 if len(address) == 16 else socket.AF_INET, address)


# ---- what a packet is inside of

NATIVE = "native"
DEEPEST = 6  # headers in each other
UDP, TCP, IPIP, IPV6, GRE = 17, 6, 4, 41, 47


def dissect(packet: bytes, length: int, protocol: int) -> tuple[str, bytes, bytes, int, int, int] | None:
    """Return what a packet of ours is inside of, and its own headers; None for one that is not understood.

    Of those: source, target, protocol, where its UDP payload or TCP header is, and how many bytes there are from there on.

    The form is ``native`` or the tunnels from the outside in: ``vxlan/8472``, ``fou/5555``, ``ipip``, ``vxlan/8472+ipip``.
    """
    at = 0
    while protocol in (0x8100, 0x88A8) and packet[at] >> 4 not in (4, 6):  # a VLAN that the device puts in is still in the data
        at += 4
    found = in_ip(packet, at, length, 0)
    if found is None:
        return None
    forms, rest = found
    return ("+".join(forms) or NATIVE, *rest)


def in_ip(packet: bytes, at: int, end: int, depth: int) -> Any:
    """Look into an IP packet that begins at `at`."""
    if depth > DEEPEST or at + 20 > len(packet):
        return None
    version = packet[at] >> 4
    if version == 4:
        size = int.from_bytes(packet[at + 2 : at + 4], "big")
        if int.from_bytes(packet[at + 6 : at + 8], "big") & 0x1FFF:
            return None  # a later fragment: no header is in it
        protocol, source, target = packet[at + 9], packet[at + 12 : at + 16], packet[at + 16 : at + 20]
        inner = at + (packet[at] & 15) * 4
        if size:  # of segments that a device cuts itself the length may not be written
            end = min(end, at + size)
    elif version == 6 and at + 40 <= len(packet):
        size = int.from_bytes(packet[at + 4 : at + 6], "big")
        protocol, source, target = packet[at + 6], packet[at + 8 : at + 24], packet[at + 24 : at + 40]
        inner = at + 40
        if size:
            end = min(end, inner + size)
        while protocol in (0, 43, 60) and inner + 8 <= len(packet):  # hop-by-hop, routing, destination options
            protocol, inner = packet[inner], inner + 8 + packet[inner + 1] * 8
    else:
        return None
    if inner + 8 > len(packet):
        return None
    if protocol == TCP and inner + 20 <= len(packet):
        return [], (source, target, TCP, inner, end - inner)
    if protocol == UDP:
        if packet[inner + 8 : inner + 8 + len(PREFIX)] == PREFIX:
            return [], (source, target, UDP, inner + 8, end - inner - 8)
        return in_udp(packet, inner, end, depth)
    if protocol in (IPIP, IPV6):
        return inside("ipip", in_ip(packet, inner, end, depth + 1))
    if protocol == GRE:
        return inside("gre", in_gre(packet, inner, end, depth))
    return None


def inside(form: str, found: Any) -> Any:
    """Put a tunnel before what was found in it."""
    return None if found is None else ([form, *found[0]], found[1])


def in_udp(packet: bytes, at: int, end: int, depth: int) -> Any:
    """Look into a tunnel over UDP: which one it is is told by what makes sense, not by the port."""
    port = int.from_bytes(packet[at + 2 : at + 4], "big")
    at += 8
    flags = packet[at]
    kinds: list[tuple[str, Any]] = []
    if flags & 0x08 and at + 8 <= len(packet):  # VXLAN's I flag; GPE says by its P flag that no Ethernet header follows
        kinds.append(("vxlan", in_ip(packet, at + 8, end, depth + 1) if flags & 0x04 else in_ethernet(packet, at + 8, end, depth)))
    if flags >> 6 == 0:
        inner = at + 8 + (flags & 0x3F) * 4
        ethernet = packet[at + 2 : at + 4] == b"\x65\x58"
        kinds.append(("geneve", in_ethernet(packet, inner, end, depth) if ethernet else in_ip(packet, inner, end, depth + 1)))
    kinds.append(("fou", in_ip(packet, at, end, depth + 1)))
    if flags >> 5 == 0:  # GUE: version 0, no control message
        kinds.append(("gue", in_ip(packet, at + 4 + (flags & 0x1F) * 4, end, depth + 1)))
    for kind, found in kinds:
        if found is not None:
            return inside(f"{kind}/{port}", found)
    return None


def in_ethernet(packet: bytes, at: int, end: int, depth: int) -> Any:
    """Look into an Ethernet frame."""
    at += 12
    while packet[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    return in_ip(packet, at + 2, end, depth + 1) if packet[at : at + 2] in (b"\x08\x00", b"\x86\xdd") else None


def in_gre(packet: bytes, at: int, end: int, depth: int) -> Any:
    """Look into GRE: its optional fields are checksum, key and sequence number."""
    flags, kind = packet[at], packet[at + 2 : at + 4]
    at += 4 + (4 if flags & 0x80 else 0) + (4 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    if kind == b"\x65\x58":
        return in_ethernet(packet, at, end, depth)
    return in_ip(packet, at, end, depth + 1) if kind in (b"\x08\x00", b"\x86\xdd") else None


def cipher(packet: bytes) -> tuple[str, bytes, bytes, int] | None:
    """Return what an encrypted packet is, its addresses and its length as IP has it."""
    if len(packet) < 32:
        return None
    if packet[0] >> 4 == 4:
        protocol, source, target = packet[9], packet[12:16], packet[16:20]
        inner, size = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
    else:
        protocol, source, target = packet[6], packet[8:24], packet[24:40]
        inner, size = 40, 40 + int.from_bytes(packet[4:6], "big")
    if protocol == 50:
        return "esp", source, target, size
    if protocol == 51:
        return "ah", source, target, size
    payload = packet[inner + 8 : inner + 12]
    if payload == b"\x04\x00\x00\x00":
        return "wireguard", source, target, size
    # Four bytes of nothing are IKE's, one byte alone keeps a NAT open.
    return ("esp", source, target, size) if len(payload) == 4 and payload != bytes(4) else None


# ---- what the kernel counts


def kernel_counters(devices: Iterable[str]) -> dict[str, int]:
    """Return what counts lost packets in this network namespace, and of `devices` what their queueing disciplines dropped."""
    devices = list(devices)
    found = {name: value for name, value in named_counters(read_or_none("/proc/net/snmp") or "").items() if name in KEPT_COUNTERS}
    found.update((name, value) for name, value in named_counters(read_or_none("/proc/net/netstat") or "").items() if name in KEPT_COUNTERS)
    by_ipv6 = dict(line.split() for line in (read_or_none("/proc/net/snmp6") or "").splitlines())
    found.update((name, int(value)) for name, value in by_ipv6.items() if name in KEPT_COUNTERS)
    found.update(("softnet." + name, value) for name, value in (softnet(read_or_none("/proc/net/softnet_stat")) or {}).items())
    found.pop("softnet.processed", None)
    found.pop("softnet.time_squeeze", None)
    tracked = conntrack_counters(read_or_none("/proc/net/stat/nf_conntrack")) or {}
    found.update(("nf_conntrack." + name, tracked[name]) for name in KEPT_CONNTRACK if name in tracked)
    for device, counts in device_counters(read_or_none("/proc/net/dev") or "").items():
        if device in devices:
            found.update((f"{device}.{name}", value) for name, value in counts.items() if not name.endswith("_packets"))
    if devices:
        found.update(queue_drops(devices))
    return found


def named_counters(text: str) -> dict[str, int]:
    """Return the counters of /proc/net/snmp or netstat: a line of names, a line of values."""
    lines = text.splitlines()
    found: dict[str, int] = {}
    for names, values in zip(lines[::2], lines[1::2]):
        part = names.partition(":")[0]
        found.update((f"{part}.{name}", int(value)) for name, value in zip(names.split()[1:], values.split()[1:]))
    return found


def queue_drops(devices: Iterable[str]) -> dict[str, int]:
    """Return how many packets the queueing disciplines of devices have dropped."""
    try:
        listed = json.loads(output(["tc", "-s", "-j", "qdisc", "show"]) or "[]")
    except (*ANY_ERROR, Failed):
        return {}
    wanted = frozenset(devices)
    found: dict[str, int] = {}
    for item in listed:
        if item.get("dev") in wanted:
            name = f"{item['dev']}.qdisc.{item.get('kind')}.dropped"
            found[name] = found.get(name, 0) + int(item.get("drops", 0))
    return found


def growth(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """Return the counters that have grown, and by how much."""
    return {name: value - before[name] for name, value in sorted(after.items()) if value > before.get(name, value)}


OPERATIONS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "receive": receive,
    "received": received,
    "capture": capture,
    "captured": received,
    "send": send,
}
