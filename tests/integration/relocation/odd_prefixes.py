"""The ways in which a prefix gets into an environment without conda's doing."""

from __future__ import annotations

import base64
import hashlib
import json
import py_compile
import shutil
import zipfile
from pathlib import Path

from tests.conda.interpreter import patchelf
from tests.conda.template import CondaPrefix
from tests.conda.wheel import install_wheel

WIDE_ENCODINGS = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
MODULE = b'"""Where it stands."""\n\nPREFIX = "%s"\n'
SCRIPT = b"#!%s/bin/python\nimport greeter.where\nprint(greeter.where.PREFIX)\n"


def add_odd_prefixes(prefix: CondaPrefix) -> Path:
    """What pip, compilers and people leave; the environment's directory."""
    environment = prefix.environment()
    here = bytes(environment)
    where = {"greeter/__init__.py": b"", "greeter/where.py": MODULE % here}
    install_wheel(environment, "greeter", "1.0", where)
    site_packages = next(environment.glob("lib/python3.*/site-packages"))
    _add_script(environment, site_packages / "greeter-1.0.dist-info", SCRIPT % here)
    (site_packages / "greeter-1.0.dist-info/direct_url.json").write_text(
        json.dumps({"url": f"file://{environment}/src/greeter", "dir_info": {"editable": True}})
    )
    (site_packages / "greeter.pth").write_text(f"{environment}/src\n{prefix.path}-old/src\n")
    (environment / "lib/pkgconfig").mkdir()
    (environment / "lib/pkgconfig/lab.pc").write_text(
        f"prefix={environment}\nLibs: -L{environment}/lib -Wl,-rpath,{environment}/lib\n"
        f"conda={prefix.path}/bin/conda\nother={environment}-other\n"
    )
    (site_packages / "greeter/sourceless.py").write_bytes(MODULE % here)
    compiled = site_packages / "greeter/sourceless.pyc"
    py_compile.compile(str(site_packages / "greeter/sourceless.py"), cfile=str(compiled))
    (site_packages / "greeter/sourceless.py").unlink()
    _add_archive(environment)
    pickled = b"\x80\x04\x95\0\0\0\0\x8c@" + here + b"\x94." + str(environment).encode("utf-16-le")
    (environment / "var/lab/pickle").write_bytes(pickled)
    for encoding in WIDE_ENCODINGS:
        text = f"[Paths]\nPrefix = {environment}\n".encode(encoding)
        (environment / f"var/lab/{encoding}").write_bytes(text)
    return environment


def add_local_program(environment: Path) -> None:
    """One that was compiled here: it does not start where its RPATH leads nowhere."""
    program = environment / "bin/local-native"
    shutil.copy2(environment / "bin/lab-native", program)
    patchelf("--force-rpath", "--set-rpath", f"{environment}/lib:{environment}/lib64", program)


def _add_script(environment: Path, dist_info: Path, content: bytes) -> None:
    script = environment / "bin/greeter"
    script.write_bytes(content)
    script.chmod(0o755)
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    with (dist_info / "RECORD").open("a") as record:
        record.write(f"../../../bin/greeter,sha256={digest},{len(content)}\n")


def _add_archive(environment: Path) -> None:
    """A program in an archive, as `python -m zipapp` makes it."""
    program = environment / "bin/zipped"
    program.write_bytes(b"#!%s/bin/python\n" % bytes(environment))
    with zipfile.ZipFile(program, "a") as archive:
        archive.writestr("__main__.py", "import sys\nprint('zipped', sys.prefix)\n")
    program.chmod(0o755)


def wrong_hashes(environment: Path) -> list[str]:
    """Files that are not what pip's and conda's records say; as `conda doctor` and pip look."""
    wrong = []
    for record in environment.glob("lib/python3.*/site-packages/*.dist-info/RECORD"):
        for line in record.read_text().splitlines():
            path, digest, size = line.rsplit(",", 2)
            content = (record.parent.parent / path).read_bytes() if digest else b""
            expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
            if digest and (digest, size) != (f"sha256={expected.rstrip('=')}", str(len(content))):
                wrong.append(path)
    for record in environment.glob("conda-meta/*.json"):
        for entry in json.loads(record.read_bytes())["paths_data"]["paths"]:
            if entry["path_type"] == "hardlink" and "sha256_in_prefix" in entry:
                content = (environment / entry["_path"]).read_bytes()
                if entry["sha256_in_prefix"] != hashlib.sha256(content).hexdigest():
                    wrong.append(entry["_path"])
    return wrong
