"""The listening sockets: made once, before any worker, and with a message that names what was asked for."""

import errno
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["BACKLOG", "Address", "CannotListen", "address_text", "bind", "bind_sockets", "inherited_sockets"]

type Address = tuple[str, int] | Path
"""Host and port, or the path of a Unix socket."""

BACKLOG: Final = 1024
_FIRST_INHERITED: Final = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)


class CannotListen(Exception):
    """An address that cannot be had, and why."""


def address_text(address: Sequence[object]) -> str:
    """`HOST:PORT`, with IPv6 addresses in brackets."""
    host, port, *_ = address
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def bind_sockets(host: str, port: int) -> list[socket.socket]:
    """Bind a socket for each address of a host, all to one port; an empty host is every address of the machine.

    They do not listen yet: clients are refused until somebody is there to answer.

    Raises:
        CannotListen: in one line.
    """
    wanted = address_text((host, port))
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise CannotListen(f"cannot listen on {wanted}: {getattr(error, 'strerror', None) or error}") from None
    bound: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        try:
            each = socket.socket(family, kind, protocol)
        except OSError:
            continue  # the machine has no IPv6, though its names do
        bound.append(each)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            # Any port, for several addresses: the one that the first of them got.
            each.bind((address[0], port or bound[0].getsockname()[1], *address[2:]))
        except OSError as error:
            each.close()
            bound.pop()
            if error.errno == errno.EADDRNOTAVAIL and len(found) > 1:
                continue  # such as ::1 on a machine that has IPv6 switched off
            for other in bound:
                other.close()
            raise CannotListen(f"cannot listen on {wanted}: {error.strerror}") from None
    if not bound:
        raise CannotListen(f"cannot listen on {wanted}: {os.strerror(errno.EADDRNOTAVAIL)}")
    return bound


def bind(address: Address, mode: int = 0o660) -> list[socket.socket]:
    """As `bind_sockets`, also for a Unix socket, which gets the `mode`; one that nobody listens on is replaced.

    Raises:
        CannotListen: in one line.
    """
    if not isinstance(address, Path):
        return bind_sockets(*address)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError, ConnectionRefusedError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(address))
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        if address.is_socket():
            address.unlink()
        mask = os.umask(0o777 & ~mode)
        try:
            made.bind(str(address))
        finally:
            os.umask(mask)
    except OSError as error:
        made.close()
        hint = " (make its folder first)" if isinstance(error, FileNotFoundError) else ""
        raise CannotListen(f"cannot listen on unix:{address}: {error.strerror or error}{hint}") from None
    return [made]


def inherited_sockets() -> list[socket.socket]:
    """The listening sockets that systemd handed over (socket activation), if any; the variables are taken away."""
    process, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()) or not count.isdigit():
        return []
    handed = [socket.socket(fileno=number) for number in range(_FIRST_INHERITED, _FIRST_INHERITED + int(count))]
    for each in handed:
        each.set_inheritable(False)
    return [each for each in handed if each.type == socket.SOCK_STREAM]
