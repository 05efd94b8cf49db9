"""Carries out the requests to a helper process: a part of a scan, or some files to copy."""

from __future__ import annotations

from typing import Any, Tuple

from envsync.agent.server.helper_processes import COPY
from envsync.agent.trees.scan import scan_share


def carry_out(request: Tuple[str, Any]) -> Any:
    """Return the answer to one request; None if it has to be done elsewhere."""
    what, share = request
    if what == COPY:
        # Imported only to copy: most contacts find nothing to do.
        from envsync.agent.staging.copying import copy_share

        return copy_share(share)
    return scan_share(share)
