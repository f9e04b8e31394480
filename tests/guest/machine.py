"""One start of the guest: qemu, without KVM, on the image, with this checkout on a second disk.

Reads    the image; every file of the checkout that git knows or would add
Writes   a directory of its own with the archive of the checkout; the log of the console
Tells    each line that the guest writes to its second serial line, as it comes
Rule     the guest is over after LIMIT_S whatever happens, and when this process is killed: it is started by
         `timeout`, whose group of processes it is, and which is told of our death

Nothing of the host is mounted in it, it has no network, and no root is needed.
"""

from __future__ import annotations

import io
import os
import queue
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from image import ROOT, SIGNATURE

LIMIT_S: Final = 600
MEMORY_MB: Final = 1024
POWER_OFF_S: Final = 20.0
TAIL: Final = 60  # lines of the console in a message
KERNEL_LINE: Final = (
    f"root=PARTUUID={SIGNATURE:08x}-01 rw console=ttyS0 quiet panic=-1 "
    "systemd.show_status=no systemd.log_color=0 TERM=dumb"
)
NOT_NEEDED: Final = ("docs/", "tests/dashboards/", "tests/interop/", "tests/bench/")


class Guest:
    """A running guest. `line()` is the next line of the serial one; `console()` the end of its console's."""

    def __init__(self, image: Path, arguments: Sequence[str], log: Path) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="oxherd-guest-"))
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        archive = self.home / "checkout.tar"
        bring(archive, arguments)
        ours, theirs = os.pipe()
        with log.open("wb") as console:
            self.process = subprocess.Popen(
                self._command(image, archive, theirs),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                pass_fds=[theirs],
                cwd=self.home,
            )
        os.close(theirs)
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, args=(ours,), daemon=True)
        self._reader.start()

    def _command(self, image: Path, archive: Path, serial: int) -> list[str]:
        return [
            *("setpriv", "--pdeathsig", "TERM"),
            *("timeout", "--kill-after=5", str(LIMIT_S), "qemu-system-x86_64"),
            # TCG: it works in any container and on any host, /dev/kvm does not.
            *("-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"),
            *("-smp", "2", "-m", str(MEMORY_MB), "-nodefaults", "-no-user-config", "-no-reboot"),
            *("-display", "none", "-kernel", f"{image}/vmlinuz", "-append", KERNEL_LINE),
            *("-drive", f"file={image}/disk.img,format=raw,if=none,id=system,snapshot=on,cache=unsafe"),
            *("-device", "nvme,drive=system,serial=system"),
            *("-drive", f"file={archive},format=raw,if=none,id=checkout,readonly=on"),
            *("-device", "nvme,drive=checkout,serial=checkout"),
            *("-chardev", "stdio,id=console", "-serial", "chardev:console"),
            *("-chardev", f"file,id=reports,path=/dev/fd/{serial}", "-serial", "chardev:reports"),
        ]

    def _read(self, serial: int) -> None:
        with open(serial, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)

    def line(self, wait_s: float) -> str | None:
        """The next line; None if no more will come. Raises queue.Empty after that long."""
        line = self._lines.get(timeout=wait_s)
        if line is None:
            self._lines.put(None)
        return line

    def console(self) -> str:
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-TAIL:])

    def close(self, wait_s: float = POWER_OFF_S) -> bool:
        """End it, by force if it does not power off by itself in that time; was it not needed?"""
        try:
            self.process.wait(wait_s)
            return True
        except subprocess.TimeoutExpired:
            return False
        finally:
            # `timeout` leads the group: whatever of the guest is left is in it.
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()
            self._reader.join(5)
            shutil.rmtree(self.home, ignore_errors=True)


def bring(archive: Path, arguments: Sequence[str]) -> None:
    """The checkout as it is now, and what the guest is to run, in one archive."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    with tarfile.open(archive, "w") as tar:
        for name in sorted(filter(None, names)):
            if not name.startswith(NOT_NEEDED) and (ROOT / name).is_file():
                tar.add(ROOT / name, name, filter=owned_by_root)
        given = "\n".join(arguments).encode()
        entry = tarfile.TarInfo("tests/guest/arguments")
        entry.size = len(given)
        tar.addfile(entry, io.BytesIO(given))


def owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode = 0o755 if entry.mode & 0o111 else 0o644
    return entry
