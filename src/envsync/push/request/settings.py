"""All parameters of a push in one value."""

from __future__ import annotations

from dataclasses import dataclass

from envsync.inventory.model import DEFAULT_CHECK_TIMEOUT_SECONDS, DEFAULT_KEEP, InUse, Outside
from envsync.push.request.method import AUTO
from envsync.transport import names as transports
from envsync.tree.local import DEFAULT_LOCAL
from envsync.tree.sharing import Share


@dataclass(frozen=True, slots=True)
class PushSettings:
    """One environment's push, the same for all its targets but for what a `Destination` sets.

    `archive` is a file to unpack instead of an environment on this machine (`method` is `pack`).
    `source` and `who` are what a target records: `server1:/path` and `alice@server1`.
    `limit_bits_per_second` limits each target's transfer. `environment_there` is the environment's
    name on the targets if it differs (`push --as`). The path on a target is determined by
    `Destination.prefix` and `name_there` alone.
    """

    environment: str
    source: str
    who: str
    method: str = AUTO
    from_history: bool = False
    archive: str = ""
    transport: str = transports.AUTO
    keep: int = DEFAULT_KEEP
    check: str = ""
    check_timeout_seconds: float = DEFAULT_CHECK_TIMEOUT_SECONDS
    in_use: InUse = "publish"
    outside: Outside = "warn"
    local: tuple[str, ...] = DEFAULT_LOCAL
    dry_run: bool = False
    overwrite: bool = False
    force_platform: bool = False
    allow_shrink: bool = False
    retry_held: bool = False
    limit_bits_per_second: int | None = None
    unattended: bool = False
    share: Share | None = None
    environment_there: str = ""

    @property
    def name_there(self) -> str:
        """The environment's name on the targets."""
        return self.environment_there or self.environment
