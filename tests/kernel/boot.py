"""Boots Debian's kernel under QEMU and runs the tests of this folder in it: `python -m tests.kernel.boot`.

Installs nothing: Debian's kernel package is unpacked under build/kernel. The guest sees this
machine's files through 9p, read-only, and what Python needs on a disk: a thousand files take a minute by 9p. Options
are pytest's.
By software emulation, which is all it asks for, the whole takes five to ten minutes. The exit code is that of pytest.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "kernel"
METAPACKAGE = "linux-image-amd64"  # names the newest kernel of this release, with all modules
PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "depmod": "kmod",
    "mke2fs": "e2fsprogs",
    "ip": "iproute2",
}
MODULES = ("virtio_blk", "ext4")  # before the guest can ask for others itself
UNUSED = ("test", "idlelib", "ensurepip", "site-packages", "__pycache__", "config-*")  # of Python's library
UNUSED_PACKAGES = ("mypy*", "*mypyc*", "scapy*", "grpc*", "pip*", "setuptools*", "hypothesis*", "virtme*")


def main() -> int:
    """The exit code."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    began = time.monotonic()
    if missing := lacking():
        print(f"make test-kernel can't run here: {missing}", file=sys.stderr)
        return 2
    version = kernel()
    disk = python_disk()
    print(f"{time.monotonic() - began:.0f} s to prepare; booting Debian's kernel {version}", flush=True)
    code = boot(version, disk, sys.argv[1:])
    print(f"{'passed' if code == 0 else 'FAILED'} in {time.monotonic() - began:.0f} s, on kernel {version}")
    return code


def lacking() -> str:
    """What this machine has not, as a sentence; empty where it has all."""
    if not sys.platform.startswith("linux") or os.uname().machine != "x86_64":
        return "it boots Debian's kernel for amd64"
    if missing := sorted({package for name, package in PROGRAMS.items() if shutil.which(name) is None}):
        return f"install {' '.join(missing)} (apt-get install {' '.join(missing)})"
    if not (Path(sys.executable).parent / "virtme-run").exists():
        return "virtme-ng is not installed (pip install -e '.[kernel]')"
    return ""


def kernel() -> str:
    """Downloads and unpacks Debian's kernel, once; its version."""
    (BUILD / "packages").mkdir(parents=True, exist_ok=True)
    if not (BUILD / "ready").exists():
        shows = subprocess.run(["apt-cache", "depends", METAPACKAGE], capture_output=True, text=True, check=True).stdout
        package = next(line.split()[1] for line in shows.splitlines() if "Depends: linux-image-" in line)
        subprocess.run(["apt-get", "download", package, "busybox-static"], cwd=BUILD / "packages", check=True)
        for archive in (BUILD / "packages").glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", archive, BUILD], check=True)
        subprocess.run(["depmod", "-b", BUILD, next((BUILD / "lib" / "modules").iterdir()).name], check=True)
        (BUILD / "ready").touch()
    version = next((BUILD / "lib" / "modules").iterdir()).name
    # The kernel loads modules by a program with no option for where they are.
    loader = BUILD / "modprobe"
    loader.write_text(f'#!/bin/sh\nexec /sbin/modprobe -d {shlex.quote(str(BUILD))} "$@"\n')
    loader.chmod(0o755)
    return version


def bound() -> dict[str, Path]:
    """What the disk has, and where the guest is to see it."""
    paths = sysconfig.get_paths()
    packages = {"stdlib": Path(paths["stdlib"]), "site-packages": Path(paths["purelib"])}
    return packages | {name: ROOT / name for name in ("mcsa", "services", "tests")}


def python_disk() -> Path:
    """Python's library, the installed packages and the project as it is now, on an ext4 image."""
    staged, disk = BUILD / "python", BUILD / "python.ext4"
    changed_at = max(path.stat().st_mtime for path in (ROOT / "pyproject.toml", Path(__file__)))
    for name, path in bound().items():
        kept = name in ("stdlib", "site-packages") and (staged / name).exists()
        if kept and (staged / name).stat().st_mtime >= changed_at:
            continue
        shutil.rmtree(staged / name, ignore_errors=True)
        unused = {"stdlib": UNUSED, "site-packages": UNUSED_PACKAGES}.get(name, ("__pycache__",))
        shutil.copytree(path, staged / name, symlinks=True, ignore=shutil.ignore_patterns(*unused))
        os.utime(staged / name)
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "compileall", "-q", staged], check=False, stdout=subprocess.DEVNULL
    )
    disk.unlink(missing_ok=True)
    mebibytes = sum(file.stat().st_size + 4096 for file in staged.rglob("*") if file.is_file()) * 5 // 4 >> 20
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", staged, disk, f"{mebibytes + 64}M"], check=True)
    return disk


def boot(version: str, disk: Path, options: list[str]) -> int:
    """Runs the tests in the guest; their exit code."""
    words = (
        shlex.quote(str(word)) for word in (ROOT / "tests" / "kernel" / "guest.sh", ROOT, sys.executable, *options)
    )
    (BUILD / "binds").write_text("".join(f"/run/python/{name}\t{path}\n" for name, path in bound().items()))
    command: list[str | Path] = [
        *(Path(sys.executable).parent / "virtme-run", "--kimg", BUILD / "boot" / f"vmlinuz-{version}"),
        *("--mods", "auto", "--busybox", BUILD / "bin" / "busybox", "--disable-kvm", "--force-9p"),
        *("--memory", "2G", "--cpus", "2", "--blk-disk", f"python={disk}"),
        *("--script-sh", f"sh {' '.join(words)}"),
    ]
    # By a pipe: the guest's console would write over what else goes to a file.
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as guest:
        assert guest.stdout is not None
        for line in guest.stdout:
            print(line.decode(errors="replace"), end="", flush=True)
    return guest.returncode


if __name__ == "__main__":
    sys.exit(main())
