"""The way out that a refused push names."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from envsync.errors import RevisionHeld
from envsync.push.ends.source import Source
from envsync.push.ends.target_end import TargetEnd
from envsync.push.order.settings import PushSettings
from envsync.push.preflight import preflight
from envsync.push.preflight.closer_look import CloserLook

SETTINGS = PushSettings("myenv", "/w/conda", "server1:/w/conda", "alice@server1")


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        (SETTINGS, "or insist: `envsync push myenv server2 --retry-held`"),
        (
            replace(SETTINGS, environment_there="other"),
            "or insist: `envsync push myenv server2 --as other --retry-held`",
        ),
        (replace(SETTINGS, source="server3:/w/conda"), "or insist with --retry-held"),
        (replace(SETTINGS, archive="/tmp/myenv.tar.zst"), "or insist with --retry-held"),
    ],
)
def test_what_is_held_names_the_command(
    monkeypatch: pytest.MonkeyPatch, settings: PushSettings, hint: str
) -> None:
    def refuse(*_: object) -> None:
        raise RevisionHeld("it is held there")

    monkeypatch.setattr(preflight, "require_permission", refuse)
    state = SimpleNamespace(record=None, exists=False)
    target = cast(TargetEnd, SimpleNamespace(server="server2"))
    look = CloserLook(settings, cast(Source, None), target)
    with pytest.raises(RevisionHeld) as caught:
        look.require_permission(state, state)  # type: ignore[arg-type]
    assert caught.value.hint.endswith(hint)
