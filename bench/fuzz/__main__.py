"""Fuzzes one decoder with atheris: `python -m bench.fuzz manifest -max_total_time=300`.

Arguments after the decoder's name are passed to libFuzzer, a directory for its corpus too. The
seeds are in tests/unit/fuzz/corpus. Inputs that matter are added there, and the unit tests run
every decoder over them. atheris (`pip install atheris`) is no dependency of the project.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

SEEDS = Path(__file__).resolve().parents[2] / "tests" / "unit" / "fuzz" / "corpus"


def main() -> None:
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["envsync"]):
        from bench.fuzz.decoders import DECODERS
    if len(sys.argv) < 2 or sys.argv[1] not in DECODERS:
        sys.exit(f"usage: python -m bench.fuzz {'|'.join(DECODERS)} [LIBFUZZER-OPTION]...")
    name = sys.argv.pop(1)
    decode = DECODERS[name]
    # atheris can pass a type of buffer other than bytes.
    atheris.Setup([*sys.argv, str(SEEDS / name)], lambda data: decode(bytes(data)))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
