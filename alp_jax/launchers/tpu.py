"""Runs on Cloud TPU VMs through queued resources, started again when they are preempted."""

import dataclasses
import pathlib
import shlex
import time
from collections.abc import Sequence

from alp_jax.core.errors import ChildFailed, Preempted, UserError
from alp_jax.core.progress import say
from alp_jax.launchers.call import call, must, need, stream
from alp_jax.launchers.names import check, for_cluster
from alp_jax.launchers.record import new_folder, submitted, write_record

_ABSENT = "NOT_FOUND"
_GONE = {"SUSPENDED", "SUSPENDING", "PREEMPTED", "TERMINATED", "FAILED", "DELETING", _ABSENT}
_LOST = 255  # exit code of ssh when the machine went away


@dataclasses.dataclass(frozen=True)
class TpuVm:
    """A queued resource with one node of the same name.

    Attributes:
      accelerator: its type, v5litepod-64 for instance.
      repository, revision: what is installed on the machines.
    """

    name: str
    project: str
    zone: str
    accelerator: str
    runtime: str
    repository: str
    revision: str = "main"
    spot: bool = False

    def checked(self) -> "TpuVm":
        """The same request; a UserError names the flag whose value is not possible."""
        for flag in ("name", "project", "zone", "accelerator", "runtime", "repository", "revision"):
            check(flag, getattr(self, flag))
        return self

    @property
    def _where(self) -> list[str]:
        return [f"--project={self.project}", f"--zone={self.zone}"]


def launch(vm: TpuVm, command: list[str], *, retries: int, dry_run: bool) -> tuple[dict, str]:
    """Runs a command on a TPU VM to its end; the result, and lines to print: with ``dry_run`` the calls of gcloud.

    Raises:
      UserError: a request that is not possible, or gcloud is not installed.
      ChildFailed: the command failed.
    """
    if retries < 0:
        raise UserError(f"--retries {retries} cannot be negative")
    if dry_run:
        calls = [create_argv("gcloud", vm), run_argv("gcloud", vm, command), delete_argv("gcloud", vm)]
        return {"kind": "tpu", "argv": calls}, "\n".join(map(str, calls))
    gcloud = need("gcloud", "install the Google Cloud SDK")
    folder = new_folder(command)
    write_record(folder, "tpu", [command], dataclasses.asdict(vm), {})
    code = run(gcloud, vm, command, folder, retries=retries)
    if code:
        raise ChildFailed(f"the run on {vm.name} ended with exit code {code}", code)
    return submitted(folder, "tpu", f"{vm.name} is done")


def create_argv(gcloud: str, vm: TpuVm) -> list[str]:
    """The call that requests the resource, which is queued until there is room."""
    argv = [gcloud, "compute", "tpus", "queued-resources", "create", vm.name, f"--node-id={vm.name}", *vm._where]
    argv += [f"--accelerator-type={vm.accelerator}", f"--runtime-version={vm.runtime}", "--quiet"]
    return [*argv, "--spot"] if vm.spot else argv


def delete_argv(gcloud: str, vm: TpuVm) -> list[str]:
    """The call that deletes the resource and its machines."""
    return [gcloud, "compute", "tpus", "queued-resources", "delete", vm.name, *vm._where, "--force", "--quiet"]


def run_argv(gcloud: str, vm: TpuVm, command: Sequence[str]) -> list[str]:
    """The call that runs a command on all workers; gcloud passes a line to their shell, so its arguments are quoted."""
    folder = "alp_jax"
    install = [
        f"if ! test -d {folder}; then git clone --quiet {shlex.quote(vm.repository)} {folder}; fi",
        f"cd {folder}",
        f"git fetch --quiet && git checkout --quiet {shlex.quote(vm.revision)}",
        "bash launch/setup.sh tpu",
        shlex.join([".venv/bin/alp", *for_cluster(command, "tpu")]),
    ]
    line = " && ".join(install)
    return [gcloud, "compute", "tpus", "tpu-vm", "ssh", vm.name, *vm._where, "--worker=all", f"--command={line}"]


def run(
    gcloud: str, vm: TpuVm, command: Sequence[str], record: pathlib.Path, *, retries: int, poll_s: float = 30.0
) -> int:
    """Creates the resource, runs the command and deletes the resource, always; a preempted one is made again.

    Args:
      retries: how often it is created again after a preemption or a stop from which the run can go on (exit code 42).
      poll_s: seconds between looks at a resource that waits for room.

    Returns:
      The exit code of the command.

    Raises:
      UserError: there is a resource of that name already.
      Preempted: there were too many preemptions.
      AlpError: gcloud fails.
    """
    vm = vm.checked()
    if (state := _state(gcloud, vm, record)) != _ABSENT:
        raise UserError(
            f"--name {vm.name}: a resource of that name exists ({state}) and is left alone: choose another name, "
            f"or delete it: {shlex.join(delete_argv('gcloud', vm))}"
        )
    code = Preempted.exit_code
    for attempt in range(retries + 1):
        try:
            must(create_argv(gcloud, vm), record)
            if _wait_for_room(gcloud, vm, record, poll_s):
                code = stream(run_argv(gcloud, vm, command), record)
                # a failure only counts if the machines are still there: preempted ones fail in many ways
                if code not in (Preempted.exit_code, _LOST) and (
                    code in (0, UserError.exit_code) or _state(gcloud, vm, record) not in _GONE
                ):
                    return code
                _say(f"{vm.name} was preempted or stopped (exit code {code})")
        finally:  # whatever happens, Ctrl-C included: idle machines cost money
            _delete(gcloud, vm, record)
        if attempt < retries:
            _say(f"{vm.name} is being requested again, at most {retries - attempt} more times")
    raise Preempted(f"{vm.name} was preempted {retries + 1} times; run it again to resume, or raise --retries")


def _state(gcloud: str, vm: TpuVm, record: pathlib.Path) -> str:
    argv = [gcloud, "compute", "tpus", "queued-resources", "describe", vm.name, *vm._where]
    code, output = call([*argv, "--format=value(state.state)"], record)
    return output.splitlines()[-1].strip() if output and not code else _ABSENT


def _wait_for_room(gcloud: str, vm: TpuVm, record: pathlib.Path, poll_s: float) -> bool:
    """Whether the resource became active, and not gone before that."""
    while (state := _state(gcloud, vm, record)) != "ACTIVE":
        if state in _GONE:
            _say(f"{vm.name} is {state}")
            return False
        _say(f"{vm.name} is {state}")
        time.sleep(poll_s)
    return True


def _delete(gcloud: str, vm: TpuVm, record: pathlib.Path) -> None:
    code, output = call(delete_argv(gcloud, vm), record, timeout_s=900.0)
    if code:
        _say(f"{vm.name} was not deleted and may cost money: {shlex.join(delete_argv('gcloud', vm))}: {output[-300:]}")


def _say(text: str) -> None:
    say(f"alp launch: {text}")
