"""An inventory of three servers, each of which can be the source."""

from __future__ import annotations

INVENTORY = """\
prefix: {prefix}
servers: {{server1: {{}}, server2: {{}}, server3: {{}}}}
environments:
  myenv: {{source: server1, push_to: [server2, server3]}}
"""
