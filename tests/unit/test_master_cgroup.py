"""Groups in trees of files that look like cgroup v2; how the kernel keeps them is tests/guest's to show."""

from __future__ import annotations

import os

import pytest

from sandbox.policy import LEAST_CPUS, Limits
from supervisor.master.cgroup import Delegated, Groups, Leaf, LeafEvents, delegated, lacks_cpu
from supervisor.master.layers import unkept

MB = 1024 * 1024
UNIT = "system.slice/ox.service"


class Host:
    """A cgroup v2 with one service in it, and the /proc of one of its processes."""

    def __init__(self, place) -> None:
        self.groups, self.proc = place / "cgroup", place / "proc"
        (self.proc / "self").mkdir(parents=True)
        self.mount()
        self.live_in(f"/{UNIT}")
        self.unit = self.group(self.groups / UNIT)

    def mount(self, line="30 23 0:26 / {place} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"):
        other = "22 1 8:1 / / rw - ext4 /dev/root rw\n"
        (self.proc / "self/mountinfo").write_text(other + line.format(place=self.groups) + "\n")

    def live_in(self, path, more="1:name=systemd:/else\n"):
        (self.proc / "self/cgroup").write_text(f"{more}0::{path}\n")

    def group(self, path, controllers="cpu io memory pids", pids=()):
        path.mkdir(parents=True, exist_ok=True)
        for name in ("cgroup.subtree_control", "memory.max"):
            (path / name).write_text("")
        (path / "cgroup.controllers").write_text(controllers)
        (path / "cgroup.procs").write_text("\n".join(map(str, pids)))
        return path


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_a_delegated_group_is_found(host):
    assert delegated(host.proc) == Delegated(host.unit, frozenset({"cpu", "io", "memory", "pids"}))


def test_who_was_put_into_the_leaf_supervisor_has_the_group_above(host):
    """DelegateSubgroup=supervisor of systemd 254."""
    host.group(host.unit / "supervisor")
    host.live_in(f"/{UNIT}/supervisor")
    assert delegated(host.proc).root == host.unit


def test_a_group_of_which_only_a_part_is_mounted_is_found(host):
    host.mount("30 23 0:26 /system.slice {place} rw - cgroup2 cgroup rw")
    host.group(host.groups / "ox.service")
    assert delegated(host.proc).root == host.groups / "ox.service"


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda host: (host.proc / "self/cgroup").unlink(), "self/cgroup cannot be read"),
        (lambda host: (host.proc / "self/cgroup").write_text("4:memory:/x\n"), "no cgroup v2"),
        (
            lambda host: (host.proc / "self/mountinfo").write_text("1 1 8:1 / / rw - ext4 x rw\n"),
            "not mounted",
        ),
        (lambda host: host.mount("30 23 0:26 /other {place} rw - cgroup2 cgroup rw"), "not below /other"),
        (lambda host: host.group(host.unit, "cpu io"), "no controller for memory and pids"),
        (lambda host: host.group(host.unit, "cpu memory"), "no controller for pids"),
        (lambda host: (host.unit / "memory.max").unlink(), "the root of all groups"),
        (lambda host: (host.unit / "cgroup.controllers").unlink(), "cannot be read"),
    ],
)
def test_what_is_no_delegated_group_is_said(host, spoil, why):
    spoil(host)
    assert why in delegated(host.proc)
    assert why in Groups.find(host.proc, [])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_group_that_is_not_ours_to_write_was_not_delegated(host):
    (host.unit / "cgroup.procs").chmod(0o400)
    assert "not writable" in delegated(host.proc)


def test_taking_possession_moves_us_and_ours_into_a_leaf_and_switches_the_controllers_on(host, monkeypatch):
    host.group(host.unit, pids=[os.getpid(), 4_000_001])
    written = []
    monkeypatch.setattr("pathlib.Path.write_text", lambda path, text: written.append((path, text)))
    groups = Groups.find(host.proc, [4_000_001])
    assert groups.root == host.unit
    home = host.unit / "supervisor/cgroup.procs"
    switch = host.unit / "cgroup.subtree_control"
    assert written[:2] == [(home, str(pid)) for pid in sorted((os.getpid(), 4_000_001))]
    assert written[2:] == [(switch, "+memory"), (switch, "+pids"), (switch, "+cpu")]


def test_the_master_has_ten_times_the_share_of_a_runner(host):
    """Who renews the locks does not wait for those who compute."""
    home = host.group(host.unit / "supervisor")
    (home / "cpu.weight").write_text("100")
    assert isinstance(Groups.find(host.proc, []), Groups)
    assert (home / "cpu.weight").read_text() == "1000"


def test_a_group_with_strangers_in_it_is_left_alone(host):
    host.group(host.unit, pids=[os.getpid(), 4_000_001])
    why = Groups.find(host.proc, [])
    assert "process 4000001" in why
    assert not (host.unit / "supervisor").exists()


def test_what_a_killed_master_left_is_taken_away(host):
    (host.unit / "runner-77").mkdir()
    Groups.find(host.proc, [])
    assert not (host.unit / "runner-77").exists()


def test_a_refusal_of_the_kernel_is_a_sentence(host):
    (host.unit / "cgroup.subtree_control").unlink()
    (host.unit / "cgroup.subtree_control").mkdir()
    assert "Is a directory" in Groups.find(host.proc, [])


# --- a leaf -------------------------------------------------------------------------------------------------


@pytest.fixture
def leaf(host):
    """With what the kernel would have put into it."""
    made = Groups.find(host.proc, []).leaf("123")
    for name, text in {
        "memory.current": f"{3 * MB}\n",
        "memory.peak": f"{63 * MB}\n",
        "memory.max": "max\n",
        "memory.events": "low 0\nhigh 0\nmax 35\noom 1\noom_kill 2\noom_group_kill 1\n",
        "pids.events": "max 6\n",
        "pids.current": "8\n",
        "pids.max": "max\n",
        "cpu.stat": "usage_usec 1234567\nuser_usec 1\nsystem_usec 2\n",
        "cgroup.procs": "1\n2\n3\n",
    }.items():
        (made.path / name).write_text(text)
    return made


def test_a_leaf_is_killed_by_the_kernel_as_one(leaf):
    assert (leaf.path / "memory.oom.group").read_text() == "1"


def test_a_process_is_attached(leaf):
    leaf.attach(4711)
    assert (leaf.path / "cgroup.procs").read_text() == "4711"


def test_limits_are_set_and_taken_back(leaf):
    """What the runner used before its first job is not the job's."""
    leaf.ready()
    leaf.set(Limits(memory_bytes=60 * MB, processes=8))
    assert (leaf.path / "memory.max").read_text() == str(63 * MB)
    assert (leaf.path / "pids.max").read_text() == "8"
    leaf.set(Limits())
    assert (leaf.path / "memory.max").read_text() == (leaf.path / "pids.max").read_text() == "max"


def test_the_same_limits_are_not_written_twice(leaf):
    leaf.set(Limits(memory_bytes=60 * MB))
    (leaf.path / "memory.max").write_text("as it was")
    leaf.set(Limits(memory_bytes=60 * MB, cpu_ms=1))
    assert (leaf.path / "memory.max").read_text() == "as it was"


# --- shares of the CPU --------------------------------------------------------------------------------------


@pytest.fixture
def shared(host):
    """A leaf in a group that was given the CPU's controller."""
    (host.unit / "cpu.max").write_text("max 100000\n")
    groups = Groups.find(host.proc, [])
    assert groups.no_cpu == ""
    leaf = groups.leaf("123")
    for name, text in {"cpu.max": "max 100000\n", "cpu.weight": "100\n"}.items():
        (leaf.path / name).write_text(text)
    return leaf


def cpu_of(leaf):
    return (leaf.path / "cpu.max").read_text(), (leaf.path / "cpu.weight").read_text()


def test_a_quota_and_a_weight_are_set_and_taken_back(shared):
    shared.set(Limits(cpus=1.5, cpu_weight=50))
    assert cpu_of(shared) == ("150000 100000", "50")
    shared.set(Limits())
    assert cpu_of(shared) == ("max", "100")


def test_the_least_quota_is_one_that_the_kernel_takes(shared):
    shared.set(Limits(cpus=LEAST_CPUS))
    assert int(cpu_of(shared)[0].split()[0]) >= 1_000, "microseconds: less is refused with EINVAL"


def test_who_is_to_be_ended_does_not_wait_for_its_turn(shared):
    shared.set(Limits(cpus=0.02))
    shared.hurry()
    assert cpu_of(shared)[0] == "max"
    shared.set(Limits(cpus=0.02))
    assert cpu_of(shared)[0] == "2000 100000", "it is known that it was lifted"


def test_a_group_without_the_cpus_controller_keeps_the_other_limits(host):
    host.group(host.unit, "memory pids")
    groups = Groups.find(host.proc, [])
    assert "no controller for cpu" in groups.no_cpu
    leaf = groups.leaf("123")
    leaf.set(Limits(cpus=1.5, cpu_weight=50, processes=3))
    leaf.hurry()
    assert not (leaf.path / "cpu.max").exists() and not (leaf.path / "cpu.weight").exists()
    assert (leaf.path / "pids.max").read_text() == "3"


def test_a_kernel_without_quotas_is_told_of(host):
    assert "CONFIG_CFS_BANDWIDTH" in Groups.find(host.proc, []).no_cpu


def test_nobody_keeps_shares_of_the_cpu_where_there_is_no_group():
    assert lacks_cpu("cgroup v2 is not mounted here") == "cgroup v2 is not mounted here"
    limits = [Limits(cpus=1.5), Limits(memory_bytes=1), Limits(cpus=2)]
    assert unkept(limits, "no group") == ["cpus"]
    assert unkept(limits, "") == [] == unkept([Limits(memory_bytes=1)], "no group")


def test_what_the_kernel_did_is_told(leaf):
    leaf.ready()
    assert leaf.events() == LeafEvents(over_memory=1, memory_kills=2, refused_forks=6)
    assert leaf.peak_bytes() == 60 * MB
    assert leaf.pids() == [1, 2, 3]


def test_a_leaf_is_a_meter(leaf):
    leaf.ready()
    leaf.set(Limits(processes=8))
    (leaf.path / "memory.current").write_text(f"{13 * MB}\n")
    assert leaf.read() == (10 * MB, 1234, 8, 3)
    (leaf.path / "pids.events").write_text("max 7\n")
    assert leaf.read().tasks == 9, "who was refused counts: it is over the limit"


def test_a_leaf_that_has_gone_uses_nothing_and_tells_nothing(host):
    leaf = Leaf(host.groups / "gone")
    assert leaf.read() is None and not leaf.kill()
    assert leaf.events() == LeafEvents() and leaf.peak_bytes() == 0 and leaf.pids() == []
    leaf.ready()
    leaf.remove()


def test_a_leaf_without_its_controllers_is_no_meter(leaf):
    (leaf.path / "memory.current").unlink()
    assert leaf.read() is None


def test_killing_is_one_write(leaf):
    assert leaf.kill() and (leaf.path / "cgroup.kill").read_text() == "1"
