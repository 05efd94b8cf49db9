"""A command with the interface of conda, over rattler's solver and installer.

    python -m tests.rebuild.conda_command create --yes --prefix P --override-channels
        --channel URL --file specs.txt [--json]

Solving, linking and the reasons for failure are real. The messages are those of conda 26.7 with
its rattler solver, or of libmamba if the program is called mamba. As long as the file that
`CONDA_TEST_WAIT` names exists, an environment stays half installed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rattler import Channel, Gateway, MatchSpec, Platform, VirtualPackage, install, solve
from rattler.exceptions import GatewayError, SolverError
from rattler.repo_data import RepoDataRecord

PLATFORMS = [Platform.current(), Platform("noarch")]


class Failed(Exception):
    """A failure as conda reports it: the exception's name, its text, and the specs concerned."""

    def __init__(self, name: str, text: str, packages: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.name = name
        self.text = text
        self.packages = list(packages)


def main() -> None:
    kind, *argv = sys.argv[1:]
    if argv == ["--version"]:
        print(f"{kind} 26.7.1" if kind == "conda" else "1.5.8")
        return
    options = _parser().parse_args(argv)
    try:
        asyncio.run(_create(options))
        status = 0
    except Failed as failure:
        print(_mamba_says(failure) if kind != "conda" else _conda_says(failure, options.json))
        status = 1
    sys.stdout.flush()
    os._exit(status)  # rattler's threads can outlive its calls


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("command", choices=["create"])
    parser.add_argument("--yes", action="store_true", required=True)
    parser.add_argument("--prefix", required=True, type=Path)
    parser.add_argument("--override-channels", action="store_true", required=True)
    parser.add_argument("--channel", action="append", required=True)
    parser.add_argument("--file", required=True, type=Path)
    parser.add_argument("--no-default-packages", action="store_true")
    parser.add_argument("--json", action="store_true")
    return parser


async def _create(options: argparse.Namespace) -> None:
    # Like the strictest: conda accepts an empty directory, micromamba 1 and mamba 2.0 do not.
    if os.path.lexists(options.prefix):
        raise Failed("CondaValueError", f"prefix already exists: {options.prefix}")
    cache = Path(os.environ["CONDA_TEST_PKGS"])
    specs = [line for line in options.file.read_text().splitlines() if line]
    records = await _solved(specs, options.channel, cache)
    half = os.environ.get("CONDA_TEST_WAIT", "")
    if half and Path(half).exists():
        options.prefix.mkdir()
        (options.prefix / "half-installed").write_text("yes\n")
        print("Executing transaction: ...working...", flush=True)
        while Path(half).exists():
            time.sleep(0.02)
    await install(records, options.prefix, cache_dir=cache, show_progress=False)
    for record in (options.prefix / "conda-meta").glob("*.json"):
        record.chmod(0o644)
    (options.prefix / "CACHEDIR.TAG").unlink(missing_ok=True)
    history = f"==> 2026-01-01 00:00:00 <==\n# cmd: conda create --prefix {options.prefix}\n"
    with (options.prefix / "conda-meta/history").open("w") as file:
        file.write(f"{history}# update specs: {specs!r}\n")


async def _solved(specs: Sequence[str], urls: Sequence[str], cache: Path) -> list[RepoDataRecord]:
    gateway, channels = Gateway(cache_dir=cache / "cache"), [Channel(url) for url in urls]
    wanted = [MatchSpec(spec, False) for spec in specs]
    try:
        for spec, match in zip(specs, wanted, strict=True):
            found = await gateway.query(channels, PLATFORMS, [match], recursive=False)
            if not any(match.matches(record) for records in found for record in records):
                raise _not_found(spec, urls)
        return await solve(
            channels,
            wanted,
            gateway=gateway,
            platforms=PLATFORMS,
            virtual_packages=VirtualPackage.detect(),
        )
    except SolverError as error:
        raise Failed("RattlerUnsatisfiableError", str(error)) from error
    except GatewayError as error:
        raise _unreachable(urls, str(error)) from error


def _not_found(spec: str, urls: Sequence[str]) -> Failed:
    channels = "".join(f"\n  - {url}" for url in urls)
    text = (
        f"The following packages are not available from current channels:\n\n  - {spec}\n\n"
        f"Current channels:\n{channels}\n\nTo search for alternate channels that may provide "
        "the conda package you're\nlooking for, navigate to\n\n    https://anaconda.org\n"
    )
    return Failed("PackagesNotFoundInChannelsError", text, [spec])


def _unreachable(urls: Sequence[str], said: str) -> Failed:
    gone = next((url for url in urls if url.startswith("file:")), "")
    if gone and not Path(gone.removeprefix("file://")).exists():
        text = f"HTTP 404 UNAVAILABLE OR INVALID for channel {Path(gone).name} <{gone}>"
        return Failed("UnavailableInvalidChannel", text)
    text = f"HTTP 000 CONNECTION FAILED for url <{urls[0]}/linux-64/repodata.json>\n{said}"
    return Failed("CondaHTTPError", text)


def _conda_says(failure: Failed, as_json: bool) -> str:
    text = f"{failure.name}: {failure.text}"
    if not as_json:
        return f"Solving environment: ...working... failed\n\n{text}\n"
    document = {
        "error": text,
        "exception_name": failure.name,
        "message": failure.text,
        **({"packages": failure.packages} if failure.packages else {}),
    }
    return json.dumps(document, indent=2)


def _mamba_says(failure: Failed) -> str:
    if not failure.packages:
        return f"error    libmamba {failure.text}"
    lines = [
        f"    └─ {spec.replace('=', ' ==', 1).replace('=', ' ', 3)} does not exist (perhaps a typo "
        "or a missing channel)."
        for spec in failure.packages
    ]
    return "\n".join(
        [
            "error    libmamba Could not solve for environment specs",
            "    The following package could not be installed",
            *lines,
            "critical libmamba Could not solve for environment specs",
        ]
    )


if __name__ == "__main__":
    main()
