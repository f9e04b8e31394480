"""The images of the guests: Debian with systemd, its kernel, Redis, its Python and what the tests import.

There are two: Debian 12 with systemd 252, where most tests run, and Debian 13, whose systemd 257 can do what
that of the first cannot. Both have the kernel of Debian 12: that of Debian 13 (6.12) panics now and then in
its scheduler when qemu emulates two processors.

Reads    image/ (files put over Debian's), pyproject.toml and requirements/ci.txt (which packages)
Writes   guest-KEY/disk.img and guest-KEY/vmlinuz in the user's cache for each, KEY being the hash of all
         that they are made from, this file included
Rule     built once, then only read: what a guest writes is gone with it

The checkout is not in it; each start of the guest brings it along (machine.py). Run as a program, this
builds the images and prints where they are. No mount and no loop device are needed; root is, for the owners
of the files.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
# The last two are for a user's own manager.
PACKAGES: Final = "systemd systemd-sysv dbus python3 procps redis-server libpam-systemd dbus-user-session"
TEST_PACKAGES: Final = ("pytest", "pytest-asyncio", "pytest-timeout")
PLATFORMS: Final = ("manylinux_2_28", "manylinux2014")
# Programs, and the package of Debian and Ubuntu that has them.
TOOLS: Final = {"qemu-system-x86_64": "qemu-system-x86", "mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs"}
BUILDERS: Final = ("mmdebstrap", "e2fsprogs")
# The cloud kernel has disk and file system built in: neither initramfs nor modules are needed.
GET_KERNEL: Final = """cd /tmp && apt-get -qq download \
    $(apt-cache depends --important linux-image-cloud-amd64 | sed -n 's/.*Depends: //p') &&
    mkdir kernel && dpkg-deb --fsys-tarfile linux-image-*.deb | tar -xC kernel ./boot &&
    mv kernel/boot/vmlinuz-* /vmlinuz && rm -r kernel linux-image-*.deb"""
KERNEL: Final = "vmlinuz"
SIZE_BYTES: Final = 1 << 30  # of the disk; the file is sparse
# It has one partition, which the kernel finds by this number: a disk's name depends on who was found first.
SIGNATURE: Final = 0x6F786864
PARTITION_AT_BYTES: Final = 1 << 20
SECTOR_BYTES: Final = 512
KEEP_UNUSED_S: Final = 30 * 86400
# What a machine that lives for a minute does not need, and what would wait for hardware.
MASKED: Final = """
    systemd-firstboot.service systemd-resolved.service systemd-timesyncd.service systemd-networkd.service
    systemd-hwdb-update.service systemd-udevd.service systemd-udev-trigger.service
    systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-pstore.service
    systemd-ask-password-console.path systemd-ask-password-wall.path modprobe@.service
    getty.target getty@tty1.service serial-getty@ttyS0.service console-getty.service
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service
    podman.socket podman.service podman-restart.service podman-auto-update.service podman-auto-update.timer
    fstrim.timer systemd-tmpfiles-clean.timer proc-sys-fs-binfmt_misc.automount redis-server.service
    """.split()  # noqa: SIM905
SBIN: Final = ":/usr/sbin:/sbin"
USER: Final = "ox"  # as whom the unprivileged masters run


class Recipe(NamedTuple):
    """What an image is made from.

    suite    of Debian.
    python   its version there.
    more     Python packages beside those of the project and the tests.
    debian   packages of Debian beside PACKAGES.
    """

    suite: str
    python: str
    more: tuple[str, ...] = ()
    debian: tuple[str, ...] = ()


# redis-py wants that below 3.11.3, which the suite's Python is, and pip judges by the Python that runs it.
USUAL: Final = Recipe("bookworm", "3.11", ("async-timeout==5.0.1",), ("podman", "crun", "conmon"))
NEWER: Final = Recipe("trixie", "3.13")
RECIPES: Final = (USUAL, NEWER)


class CannotBuild(Exception):
    """This machine cannot build or run the guest; the text says what is missing."""


def obstacle(recipe: Recipe) -> str | None:
    """Why this machine cannot run the guest; None if it can, though the image may have to be built first."""
    if platform.machine() != "x86_64":
        return f"its image is made for x86-64, and this is {platform.machine()}"
    path = os.environ.get("PATH", "") + SBIN
    built = place(recipe).exists()
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool, path=path) is None]
    missing = [package for package in missing if not (built and package in BUILDERS)]
    if missing:
        return f"not installed (Debian: apt-get install {' '.join(missing)})"
    if os.geteuid() and not built:
        return f"only root can build its image, once: sudo {sys.executable} tests/guest/image.py"
    return None


def python_packages(recipe: Recipe) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *TEST_PACKAGES, *recipe.more]


def place(recipe: Recipe) -> Path:
    """The directory where it is, or will be."""
    digest = hashlib.sha256(repr((recipe, python_packages(recipe))).encode())
    for file in [Path(__file__), ROOT / "requirements/ci.txt", *overlay()]:
        digest.update(file.name.encode() + file.read_bytes())
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "oxherd" / f"guest-{digest.hexdigest()[:16]}"


def overlay() -> list[Path]:
    return sorted(path for path in (HERE / "image").rglob("*") if path.is_file())


def build(recipe: Recipe) -> Path:
    """Where disk.img and vmlinuz are, made now if they are not there; about 40 s."""
    kernel = build(USUAL) / KERNEL if recipe is not USUAL else None
    target = place(recipe)
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / "guest.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        reason = obstacle(recipe)
        if reason is not None:
            raise CannotBuild(reason)
        if not target.exists():
            forget_unused(target.parent)
            with tempfile.TemporaryDirectory(prefix="draft-", dir=target.parent) as home:
                make(recipe, kernel, Path(home), target)
        os.utime(target)
    return target


def forget_unused(cache: Path) -> None:
    for old in cache.glob("guest-*/"):
        if old.stat().st_mtime < time.time() - KEEP_UNUSED_S:
            shutil.rmtree(old)


def make(recipe: Recipe, kernel: Path | None, home: Path, target: Path) -> None:
    """`kernel` None: the suite's own."""
    tree, draft = home / "tree", home / "draft"
    draft.mkdir()
    include = ",".join([*PACKAGES.split(), *recipe.debian])
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={include}"]
    if kernel is None:
        command += [f'--customize-hook=chroot "$1" sh -ec {shlex.quote(GET_KERNEL)}']
    command += [f'--customize-hook=chroot "$1" useradd --create-home {USER}']
    run([*command, recipe.suite, str(tree), *mirror(recipe.suite)])
    shutil.copy(kernel or tree / KERNEL, draft / KERNEL)
    (tree / KERNEL).unlink(missing_ok=True)
    packages = f"usr/local/lib/python{recipe.python}/dist-packages"
    install_python_packages(recipe, tree / packages)
    run(["chroot", str(tree), "python3", "-m", "compileall", "-q", f"/{packages}"])
    shutil.copytree(HERE / "image", tree, dirs_exist_ok=True)
    arrange(tree)
    disk = draft / "disk.img"
    disk.write_bytes(partition_table())
    os.truncate(disk, SIZE_BYTES)
    size = f"{(SIZE_BYTES - PARTITION_AT_BYTES) >> 10}k"
    form = ["-t", "ext4", "-O", "^has_journal", "-E", f"offset={PARTITION_AT_BYTES}"]
    run(["mke2fs", "-q", "-F", *form, "-d", str(tree), str(disk), size])
    draft.rename(target)


def partition_table() -> bytes:
    """One of the oldest kind, as programs for disks need not be installed: one partition, to the end."""
    nowhere = b"\xfe\xff\xff"  # in cylinders, which nobody looks at
    first, count = PARTITION_AT_BYTES // SECTOR_BYTES, (SIZE_BYTES - PARTITION_AT_BYTES) // SECTOR_BYTES
    entry = struct.pack("<B3sB3sII", 0, nowhere, 0x83, nowhere, first, count)
    return struct.pack("<440xIxx16s48xH", SIGNATURE, entry, 0xAA55)


def arrange(tree: Path) -> None:
    """What starts, what does not, and the name of the machine."""
    units = tree / "etc/systemd/system"
    for unit in MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "oxherd-tests.service").symlink_to("../oxherd-tests.service")
    # It is there for who asks for it, which the tests of a user's manager do.
    (tree / "usr/lib/systemd/system/multi-user.target.wants/systemd-logind.service").unlink(missing_ok=True)
    (units / "default.target").unlink(missing_ok=True)
    (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
    (tree / "etc/hostname").write_text("guest\n")
    (tree / "etc/hosts").write_text("127.0.0.1 localhost guest\n")
    for empty in ("etc/fstab", "etc/machine-id", "etc/resolv.conf"):
        (tree / empty).unlink(missing_ok=True)
        (tree / empty).touch()


def mirror(suite: str) -> list[str]:
    """The mirror that this machine has the suite from, or another one of Debian: a mirror has them all.

    If this machine is not Debian's: none, mmdebstrap knows one.
    """
    what = ["--format", "$(ORIGIN) $(CODENAME) $(REPO_URI)", "Created-By: Packages"]
    rows = [row.split() for row in run(["apt-get", "indextargets", *what]).splitlines()]
    found = {row[1]: row[2] for row in rows if row[0] == "Debian" and "-" not in row[1]}
    return [found[suite]] if suite in found else [*found.values()][:1]


def install_python_packages(recipe: Recipe, directory: Path) -> None:
    """Those for the guest's Python, whatever ours is."""
    ours = ["--target", str(directory), "--only-binary=:all:", "--python-version", recipe.python]
    ours += ["--constraint", str(ROOT / "requirements/ci.txt"), "--no-compile"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--root-user-action=ignore"]
    pip += [text for each in PLATFORMS for text in ("--platform", f"{each}_x86_64")]
    if subprocess.run([sys.executable, "-c", "import pip"], capture_output=True).returncode:
        ours.remove("--no-compile")
        pip = ["uv", "pip", "install", "--quiet", "--python-platform", f"x86_64-{PLATFORMS[0]}"]
    run([*pip, *ours, *python_packages(recipe)])


def run(command: list[str]) -> str:
    """Its output; what it said goes into the exception if it fails."""
    env = {**os.environ, "PATH": os.environ.get("PATH", "") + SBIN, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout)[-4000:]
        raise CannotBuild(f"{command[0]} failed with exit status {done.returncode}: {said}")
    return done.stdout


def main(arguments: list[str]) -> None:
    """`--look`: only say whether they are there."""
    try:
        for recipe in RECIPES:
            if arguments == ["--look"] and not place(recipe).exists():
                raise CannotBuild(f"that of {recipe.suite} was not built yet")
            print(build(recipe))
    except CannotBuild as error:
        sys.exit(f"the guest's image: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
