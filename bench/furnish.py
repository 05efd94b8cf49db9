"""Sets up the ground for measurements: two hosts with conda, and one large environment."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.ground import ELSEWHERE, FAR_AWAY, Ground, Size, compile_envsync
from tests.conda import make_many_files, template
from tests.lab.lab import Lab

_CONTENT_CACHE_AGE_SECONDS = 2.5
_EXT4 = "ext2/ext3"  # the name that `stat -f` has for ext4 too
_INVENTORY = """\
prefix: {prefix}
servers:
  server1: {{}}
  server2: {{}}
  {elsewhere}: {{host: server2, prefix: {other_prefix}}}
  {far}: {{host: server2-far}}
"""


@contextlib.contextmanager
def ground(size: Size, storage: str, scratch: Path) -> Iterator[Ground]:
    """Yield the ground, set up; everything is removed when the block ends."""
    compile_envsync()
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab.start(["server1", "server2"]))
        made = Ground(lab, storage)
        if storage == "ext4":
            made.target.use_directory(stack.enter_context(_ext4_directory(scratch)))
        _furnish(made, size)
        # The lab must release the directory before it is removed.
        stack.callback(lab.close)
        yield made


def _furnish(made: Ground, size: Size) -> None:
    conda = template()
    made.source.install_conda(conda)
    made.target.install_conda(conda, environments=False)
    conda.copy(made.target.path(made.other_prefix), prefix=made.other_prefix, environments=False)
    inventory = _INVENTORY.format(
        prefix=made.prefix, elsewhere=ELSEWHERE, other_prefix=made.other_prefix, far=FAR_AWAY
    )
    for host, prefix in (
        (made.source, made.prefix),
        (made.target, made.prefix),
        (made.target, made.other_prefix),
    ):
        _add_zstandard(host.path(prefix))
        host.write_file(f"{host.home()}/.config/envsync/config.yaml", inventory)
    environment = made.source.path(made.environment)
    make_many_files(environment, entries=size.entries, total_bytes=size.total_bytes)
    made.entries = sum(len(names) + len(below) for _, below, names in os.walk(environment))
    made.remove_peers()
    time.sleep(_CONTENT_CACHE_AGE_SECONDS)  # the content cache takes no younger files


def _add_zstandard(prefix: Path) -> None:
    """Add zstandard, which every real base has for conda; the lab's base has only Python."""
    found = importlib.util.find_spec("zstandard")
    if found is None or found.origin is None:
        raise RuntimeError("the module zstandard is missing, which envsync depends on")
    package = Path(found.origin).parent
    [site_packages] = prefix.glob("lib/python3.*/site-packages")
    shutil.copytree(package, site_packages / "zstandard", dirs_exist_ok=True)


@contextlib.contextmanager
def _ext4_directory(scratch: Path) -> Iterator[Path]:
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", scratch], check=True, capture_output=True, text=True
    ).stdout.strip()
    if kind != _EXT4:
        raise RuntimeError(f"{scratch} is on {kind}, not on ext4: name another with --scratch")
    directory = Path(tempfile.mkdtemp(prefix="envsync-bench-", dir=scratch))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        subprocess.run(["rm", "-rf", directory], check=False)
