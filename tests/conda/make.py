"""Make, change or grow a conda prefix by hand and for benchmarks.

python -m tests.conda.make PREFIX --env NAME [--entries N --bytes B]
python -m tests.conda.make PREFIX --env NAME --change "lab-variant ==2.0"
python -m tests.conda.make PREFIX --env NAME --wheel NAME==VERSION
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.conda.bulk import make_many_files
from tests.conda.environments import change_package, create_environment
from tests.conda.template import template
from tests.conda.user_files import add_user_files
from tests.conda.wheel import install_wheel


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prefix", type=Path, metavar="PREFIX")
    parser.add_argument("--env", required=True, metavar="NAME")
    parser.add_argument("--entries", type=int, default=0, help="grow to this many entries")
    parser.add_argument("--bytes", type=int, default=0, help="grow to this many bytes")
    parser.add_argument("--change", metavar="SPEC", help="install another version of a package")
    parser.add_argument("--wheel", metavar="NAME==VERSION", help="what pip install would do")
    arguments = parser.parse_args()
    prefix = arguments.prefix.resolve()
    made = template()
    if not (prefix / "conda-meta" / "history").exists():
        made.copy(prefix, environments=False)
    environment = prefix / "envs" / arguments.env
    if not environment.exists():
        create_environment(prefix, arguments.env, made.channel)
        add_user_files(environment, prefix)
    if arguments.entries or arguments.bytes:
        make_many_files(environment, entries=arguments.entries, total_bytes=arguments.bytes)
    if arguments.change:
        change_package(prefix, arguments.env, made.channel, arguments.change)
    if arguments.wheel:
        name, _, version = arguments.wheel.partition("==")
        install_wheel(environment, name, version)


if __name__ == "__main__":
    main()
