"""A real Slurm of two nodes on this machine, up in a second and down without a trace: munged, slurmctld, two slurmd.

Each node has its own network, UTS and mount namespace: a host name, an address, its own view of the file system. No systemd,
no accounting. Root only. The nodes claim more CPUs than there are, so several jobs run at a time.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from speed import scaled

PACKAGES = "slurmctld slurmd slurm-client munge procps"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "pkill", "ip", "nsenter", "unshare")
CONTROLLER = "ctl"
NODES = ("node1", "node2")
ADDRESSES = {CONTROLLER: "10.77.0.1", "node1": "10.77.0.11", "node2": "10.77.0.12"}
FREEZER = Path("/sys/fs/cgroup/freezer")
SEARCHED = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"  # where Debian puts daemons

CONF = """\
ClusterName=lab
SlurmctldHost=ctl(10.77.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# a requeued job is held back until its former credential has run out, two minutes by default
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/{proctrack}
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
# the CPUs below are more than the machine has: do not drain the nodes for it
SlurmdParameters=config_overrides
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
KillWait={kill_wait}
# a node is given up this long after its last word
SlurmdTimeout=6
MessageTimeout=15
MinJobAge=900
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
NodeName=node1 NodeAddr=10.77.0.11 CPUs=8 RealMemory=1000
NodeName=node2 NodeAddr=10.77.0.12 CPUs=8 RealMemory=1000
PartitionName=main Nodes=node[1-2] Default=YES MaxTime=INFINITE State=UP
"""

# nsenter, since `ip netns exec` mounts /sys again and so hides the cgroups that slurmd wants. No DNS in there: torch would
# wait for answers. A separate freezer: else two clusters on one machine would end each other's jobs.
ENTER = """\
#!/bin/bash
host=$1; shift
exec nsenter --net=/run/netns/{prefix}-$host unshare --uts --mount bash -c '
    hostname "$0"
    mount --bind {folder}/hosts /etc/hosts
    mount --bind {folder}/nsswitch.conf /etc/nsswitch.conf
    if [ -d {freezer} ]; then mount --bind {freezer} /sys/fs/cgroup/freezer; fi
    exec "$@"' "$host" "$@"
"""


def missing() -> str | None:
    """Why there can be no cluster here, or None."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "a Slurm with network namespaces needs root"
    absent = [program for program in PROGRAMS if shutil.which(program, path=SEARCHED) is None]
    if absent:
        return (
            f"{', '.join(absent)} not installed (Debian: apt-get install --no-install-recommends {PACKAGES} iproute2)"
        )
    probe = f"probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", probe], capture_output=True)
    return None if made.returncode == 0 else f"no network namespaces here: {made.stderr.strip()}"


class Cluster:
    """Brought up by `with`. Commands run as on the controller's host."""

    def __init__(self, *, kill_wait: int = 25):
        """`kill_wait`: seconds between the SIGTERM of a cancelled job and its SIGKILL."""
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.folder.chmod(0o755)  # munged wants every folder above its socket to be open to all
        self.prefix = f"qa{os.getpid()}"
        self.kill_wait = kill_wait
        own = FREEZER / self.prefix
        self.freezer = own if os.access(FREEZER / "tasks", os.W_OK) else None
        self.daemons: dict[str, subprocess.Popen] = {}
        self.environment = {"PATH": SEARCHED, "SLURM_CONF": str(self.folder / "slurm.conf"), "HOME": str(self.folder)}

    def __enter__(self) -> "Cluster":
        try:
            self._write_files()
            self._make_network()
            self._start_daemons()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(subprocess.SubprocessError, AssertionError):
            for job in self.run("squeue", "-h", "-o", "%A", limit=5).split():
                self.run("scancel", "-f", "-s", "KILL", job, limit=5)
                self.run("scancel", job, limit=5)
            self.wait_for(lambda: not self.run("squeue", "-h", limit=5), 20)
        for daemon in reversed(self.daemons.values()):
            _end(daemon, signal.SIGTERM)
        for host in (*NODES, CONTROLLER):
            for pid in _output("ip", "netns", "pids", f"{self.prefix}-{host}").split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            _output("ip", "netns", "del", f"{self.prefix}-{host}")
        if self.freezer is not None:
            for _ in range(50):  # a killed process leaves its cgroup in its own time
                for inner in [*sorted(self.freezer.rglob("*"), reverse=True), self.freezer]:
                    if inner.is_dir():
                        with contextlib.suppress(OSError):
                            inner.rmdir()
                if not self.freezer.exists():
                    break
                time.sleep(0.1)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write_files(self) -> None:
        if self.freezer is not None:
            self.freezer.mkdir()
        for name in ("state", "spool-node1", "spool-node2"):
            (self.folder / name).mkdir()
        tracking = "linuxproc" if self.freezer is None else "cgroup"
        conf = CONF.format(folder=self.folder, proctrack=tracking, kill_wait=self.kill_wait)
        (self.folder / "slurm.conf").write_text(conf)
        # it is read even where nothing uses it, and looking for the kind of cgroup by itself slurmd may end
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        (self.folder / "hosts").write_text(
            "127.0.0.1 localhost\n" + "".join(f"{address} {host}\n" for host, address in ADDRESSES.items())
        )
        (self.folder / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        enter = self.folder / "enter"
        freezer = self.freezer or "/nonexistent"
        enter.write_text(ENTER.format(prefix=self.prefix, folder=self.folder, freezer=freezer))
        enter.chmod(0o755)

    def _make_network(self) -> None:
        """A bridge in the controller's namespace, a cable from it to each node; nothing in the machine's own."""
        for host in ADDRESSES:
            _must("ip", "netns", "add", f"{self.prefix}-{host}")
            _must("ip", "-n", f"{self.prefix}-{host}", "link", "set", "lo", "up")
        controller = ("ip", "-n", f"{self.prefix}-{CONTROLLER}")
        _must(*controller, "link", "add", "bridge0", "type", "bridge")
        _must(*controller, "addr", "add", f"{ADDRESSES[CONTROLLER]}/24", "dev", "bridge0")
        _must(*controller, "link", "set", "bridge0", "up")
        for node in NODES:
            there = f"{self.prefix}-{node}"
            _must(*controller, "link", "add", f"to-{node}", "type", "veth", "peer", "name", "eth0", "netns", there)
            _must(*controller, "link", "set", f"to-{node}", "master", "bridge0", "up")
            _must("ip", "-n", there, "addr", "add", f"{ADDRESSES[node]}/24", "dev", "eth0")
            _must("ip", "-n", there, "link", "set", "eth0", "up")

    def _start_daemons(self) -> None:
        munged = ["munged", "--foreground", "--num-threads=2", f"--key-file={self.folder}/munge.key"]
        munged += [f"--{what}-file={self.folder}/munge.{what}" for what in ("pid", "log", "seed")]
        self._start("munged", *munged, f"--socket={self.folder}/munge.socket")
        self.wait_for((self.folder / "munge.socket").exists, 10)
        self._start("slurmctld", str(self.folder / "enter"), CONTROLLER, "slurmctld", "-D", "-c")
        for node in NODES:
            self.start_node(node)
        self.wait_for(lambda: self.states() == ["idle", "idle"], 30)

    def _start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as output:
            self.daemons[name] = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def start_node(self, node: str) -> None:
        """Switch it on: its cable, then its slurmd."""
        _must("ip", "-n", f"{self.prefix}-{node}", "link", "set", "eth0", "up")
        self._start(node, str(self.folder / "enter"), node, "slurmd", "-D", "-N", node)

    def cut_power(self, node: str) -> None:
        """Its network is gone at once and so is every process on it."""
        _must("ip", "-n", f"{self.prefix}-{node}", "link", "set", "eth0", "down")
        for pid in _output("ip", "netns", "pids", f"{self.prefix}-{node}").split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        self.daemons.pop(node).wait()

    def on(self, node: str, *command: str) -> str:
        """What a command prints that sees the files as the node's jobs see them."""
        return _must("nsenter", f"--mount=/proc/{self.daemons[node].pid}/ns/mnt", *command)

    def pids(self, node: str, words: str) -> list[int]:
        """Processes on a node whose command line holds these words."""
        found = []
        for pid in map(int, _output("ip", "netns", "pids", f"{self.prefix}-{node}").split()):
            with contextlib.suppress(OSError):
                if words in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "):
                    found.append(pid)
        return found

    def run(
        self, *command: str, cwd: Path | None = None, environment: dict[str, str] | None = None, limit: float = 30
    ) -> str:
        """What a command prints, run as on the controller's host. AssertionError with its words if it fails."""
        done = subprocess.run(
            [str(self.folder / "enter"), CONTROLLER, *command],
            env=self.environment | (environment or {}),
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=scaled(limit),
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def states(self) -> list[str]:
        try:
            return self.run("sinfo", "-h", "-N", "-o", "%t").split()
        except AssertionError:  # the controller does not answer yet
            return []

    def job(self, job: str) -> dict[str, str]:
        """`scontrol show job` as a mapping."""
        return dict(re.findall(r"(\w+)=(\S*)", self.run("scontrol", "show", "job", "-o", job)))

    def ended(self, job: str, limit: float) -> dict[str, str]:
        """Wait until the job, an array's tasks all, is out of the queue; how it ended."""
        self.wait_for(lambda: not self.run("squeue", "-h", "-j", job), limit, lambda: self.run("squeue"))
        return self.job(job)

    @staticmethod
    def wait_for(holds: Callable[[], Any], limit: float, else_say: Callable[[], str] = lambda: "") -> None:
        limit = scaled(limit)
        end = time.monotonic() + limit
        while not holds():
            assert time.monotonic() < end, f"not within {limit:.0f} s: {else_say()}"
            time.sleep(0.2)


def _output(*command: str) -> str:
    return subprocess.run(command, env={"PATH": SEARCHED}, capture_output=True, text=True).stdout


def _must(*command: str) -> str:
    done = subprocess.run(command, env={"PATH": SEARCHED}, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def _end(daemon: subprocess.Popen, number: int) -> None:
    if daemon.poll() is None:
        daemon.send_signal(number)
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
