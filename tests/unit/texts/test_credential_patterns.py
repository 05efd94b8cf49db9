"""Each rule hides the secret in the example that it is known by."""

from __future__ import annotations

import pytest

from envsync.texts.credential_patterns import RULES, Rule
from envsync.texts.redaction import redacted


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.example)
def test_a_rule_hides_the_secret_of_its_example(rule: Rule) -> None:
    assert "SECRET" in rule.example
    assert "SECRET" not in rule.applied(rule.example)
    assert "SECRET" not in redacted(rule.example)
