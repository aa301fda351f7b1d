"""A roll call before JAX's own start-up, so that a process that waits in vain learns which one is missing.

JAX's distributed runtime ends a process by SIGABRT when a peer does not register in time, and does not say which one.
So process 0 first listens on the coordinator's own address until every process has reported its number over plain TCP,
tells all of them who is missing or what does not match, and leaves the port to JAX's coordinator.
"""

import json
import socket
import time

from alp_jax.core.errors import UserError

_LONGEST = 4096  # bytes of a line; whatever sends more is not one of our processes
_READ_S = 2.0
_GRACE_S = 5.0


def resolve_address(coordinator: str, timeout_s: float = 0.0, knob: str = "--coordinator") -> tuple[str, int]:
    """(numeric address, port) of ``HOST:PORT`` or ``[IPv6]:PORT``; names of new pods may take ``timeout_s`` to appear.

    Raises:
      UserError: not of that form, or a name that does not resolve.
    """
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"{knob} {coordinator!r}: expected HOST:PORT, the address of process 0")
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0][4]
            return str(address[0]), int(address[1])
        except OSError as error:
            if time.monotonic() >= deadline:
                raise UserError(f"{knob} {coordinator}: {error.strerror or error}") from None
        time.sleep(min(1.0, max(deadline - time.monotonic(), 0.0)))


def meet(address: tuple[str, int], ours: dict, timeout_s: float) -> None:
    """Returns once all ``ours["processes"]`` processes have reported to process 0, which listens at ``address``.

    Args:
      ours: ``process``, ``processes``, ``host`` and ``code``; ``processes`` and ``code`` must be the same everywhere.

    Raises:
      UserError: a process is missing, disagrees, or does not answer; all that are present raise the same line.
    """
    if ours["process"] == 0:
        _wait_for_all(address, ours, timeout_s)
    else:
        _report_to_primary(address, ours, timeout_s)


def _wait_for_all(address: tuple[str, int], ours: dict, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    present = {0: (ours, None)}
    with socket.socket(family, socket.SOCK_STREAM) as server:
        # a restarted run binds at once, although connections of the last one may still be in TIME_WAIT on this port
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(address)
        except OSError as error:
            raise UserError(
                f"process 0 on {ours['host']} cannot listen on {address[0]}:{address[1]} ({error.strerror}): "
                "--coordinator must be a free port of its own address"
            ) from None
        server.listen(1024)  # all processes of a large run may call at the same moment
        fault = None
        while fault is None and len(present) < ours["processes"]:
            fault = _accept(server, present, ours, deadline, timeout_s)
        for _, connection in present.values():
            if connection is not None:
                _dismiss(connection, fault)
    if fault:
        raise UserError(fault)


def _accept(server: socket.socket, present: dict, ours: dict, deadline: float, timeout_s: float) -> str | None:
    """Adds the next caller to ``present``; returns what is wrong, or None."""
    server.settimeout(max(deadline - time.monotonic(), 0.001))
    try:
        connection = server.accept()[0]
    except TimeoutError:
        missing = [str(i) for i in range(ours["processes"]) if i not in present]
        names = ", ".join(missing[:8]) + (" and more" if missing[8:] else "")
        return (
            f"process {names} of {ours['processes']} did not reach the coordinator on {ours['host']} within "
            f"{timeout_s:.3g} s: start it, or correct --num_processes"
        )
    caller = _read(connection)
    if caller is None:
        connection.close()
        return None
    process, other = caller["process"], present.get(caller["process"], (None,))[0]
    where = f"process {process} on {caller['host']}"
    fault = None
    for name, flag in (("processes", "--num_processes"), ("code", "code version")):
        if caller[name] != ours[name]:
            fault = f"{flag} is {ours[name]} in process 0 on {ours['host']} but {caller[name]} in {where}"
    if other is not None:
        fault = f"--process_id {process} is given to two processes, on {other['host']} and on {caller['host']}"
    elif not 0 <= process < ours["processes"]:
        fault = f"--process_id {process} on {caller['host']} is not below --num_processes {ours['processes']}"
    # the second of two under -1: the loop ends with this fault, and both are told of it
    present[process if other is None else -1] = (caller, connection)
    return fault


def _read(connection: socket.socket) -> dict | None:
    """A caller's JSON line, or None where it sends anything else."""
    connection.settimeout(_READ_S)
    try:
        line = b""
        while not line.endswith(b"\n") and len(line) < _LONGEST:
            part = connection.recv(_LONGEST)
            if not part:
                return None
            line += part
        caller = json.loads(line)
        fits = {"process": int, "processes": int, "host": str, "code": str}
        return caller if all(type(caller.get(name)) is kind for name, kind in fits.items()) else None
    except (OSError, ValueError, AttributeError):
        return None


def _dismiss(connection: socket.socket, fault: str | None) -> None:
    """Sends the outcome and lets the caller close first: the port must not be left in TIME_WAIT."""
    try:
        connection.sendall(json.dumps({"fault": fault}).encode() + b"\n")
        connection.recv(1)
    except OSError:
        pass
    finally:
        connection.close()


def _report_to_primary(address: tuple[str, int], ours: dict, timeout_s: float) -> None:
    began = time.monotonic()
    nobody = (
        f"process {ours['process']} on {ours['host']} got no answer from process 0 at {address[0]}:{address[1]} within "
        f"{timeout_s:.3g} s: start it there, or correct --coordinator"
    )
    while True:
        left = began + timeout_s - time.monotonic()
        if left <= 0:
            raise UserError(nobody)
        try:
            with socket.create_connection(address, timeout=left) as connection:
                connection.sendall(json.dumps(ours).encode() + b"\n")
                connection.settimeout(timeout_s + _GRACE_S)  # process 0 is up, and will say whom it waited for
                with connection.makefile("rb") as file:
                    answer = json.loads(file.readline(_LONGEST))
        except TimeoutError:
            raise UserError(nobody) from None
        except (OSError, ValueError):  # it does not listen yet, or something else answers at its port
            time.sleep(0.2)
            continue
        if answer["fault"]:
            raise UserError(answer["fault"])
        return
