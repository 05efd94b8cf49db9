"""Runs one rattler transaction: `python -m tests.conda.rattler_process < JSON`.

rattler's threads can outlive its last call and crash an interpreter that ends soon after. So
rattler runs in this process, which leaves by `os._exit`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from rattler import Channel, Gateway, MatchSpec, Platform, VirtualPackage, install, solve
from rattler.index import index_fs


def main() -> None:
    order = json.load(sys.stdin)
    if "index" in order:
        asyncio.run(index_fs(Path(order["index"])))
        answer: Any = {}
    else:
        answer = asyncio.run(_install(order))
    json.dump(answer, sys.stdout)
    sys.stdout.flush()
    os._exit(0)


async def _install(order: dict[str, Any]) -> list[dict[str, Any]]:
    cache = Path(order["package_cache"])
    records = await solve(
        [Channel(Path(order["channel"]).as_uri())],
        [MatchSpec(spec) for spec in order["specs"]],
        gateway=Gateway(cache_dir=cache / "cache"),
        platforms=[Platform.current(), Platform("noarch")],
        virtual_packages=VirtualPackage.detect(),
    )
    await install(records, order["environment"], cache_dir=cache, show_progress=False)
    return [
        {
            "stem": f"{record.name.normalized}-{record.version}-{record.build}",
            "url": record.url,
            "file_name": record.file_name,
            "subdir": record.subdir,
            "document": record.to_json(),
        }
        for record in records
    ]


if __name__ == "__main__":
    main()
