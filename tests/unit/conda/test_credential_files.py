"""The files of an environment that hold credentials are found."""

from __future__ import annotations

import time

import pytest

from envsync.conda.credential_files import holds_credentials, may_be_in, may_hold_credentials
from envsync.texts.redaction import redacted

ACTIVATE = b"etc/conda/activate.d/env_vars.sh"


@pytest.mark.parametrize(
    ("path", "content", "found"),
    [
        (b"conda-meta/history", b"# update specs: ['https://h/t/tk-12345678/c::x']", True),
        (b"conda-meta/x-1-0.json", b'{"url": "https://alice:pw@h/x.conda"}', True),
        (b"conda-meta/y-1-0.json", b'{"url": "https://conda.anaconda.org/x.conda"}', False),
        (
            b"lib/python3.11/site-packages/a-1.dist-info/direct_url.json",
            b'{"url": "git+https://tok@h/x"}',
            True,
        ),
        (b"pip.conf", b"[global]\nindex-url = https://h/simple?token=abc\n", True),
        (b".condarc", b"channels:\n  - https://h/t/tk-12345678/c\n", True),
        (b"condarc.d/lab.yml", b"channels:\n  - https://h/t/tk-12345678/c\n", True),
        (ACTIVATE, b"#!/bin/sh\nexport HF_TOKEN=hf_abc\n", True),
        (ACTIVATE, b"export OPENAI_API_KEY='sk-abc'\n", True),
        (ACTIVATE, b"[ -n x ] && export PASSWORD=hunter2\n", True),
        (ACTIVATE, b"PGPASSWORD=hunter2\nexport PGPASSWORD\n", True),
        (b"etc/conda/activate.d/env_vars.csh", b"setenv HF_TOKEN abc\n", True),
        (b"etc/conda/activate.d/env_vars.fish", b"set -gx HF_TOKEN abc\n", True),
        (b"etc/conda/activate.d/env_vars.ps1", b'$env:HF_TOKEN = "abc"\n', True),
        (ACTIVATE, b"export SMTP_PASS=hunter2\n", True),
        (ACTIVATE, b"export DBPASS='hunter2'\nexport PASS=1\n", True),
        (ACTIVATE, b"export MYSQL_PWD=hunter2\n", True),
        (ACTIVATE, b"export PRIVATE_KEY=abcdef\n", True),
        (ACTIVATE, b"export BYPASS=1\nCOMPASS=north\nPASS=1\nPASS=2;\nOLDPWD=/x\nPWD=x\n", False),
        (ACTIVATE, b'export DB_PASS="$SAVED"\nexport MYSQL_PWD=\n', False),
        (b"conda-meta/state", b'{"env_vars": {"SMTP_PASS": "x"}}', True),
        (b"conda-meta/state", b'{"env_vars": {"BYPASS": "x", "PWD": "/x"}}', False),
        (ACTIVATE, b"unset HF_TOKEN\nset -e HF_TOKEN\nexport HF_TOKEN=\n", False),
        (ACTIVATE, b'export HF_TOKEN="$BACKUP"\nexport A_TOKEN=${B}\nlocal token=$1\n', False),
        (ACTIVATE, b"# asks for a password where there is none\nexport TOKENIZERS=1\n", False),
        (ACTIVATE, b"export TOKENIZERS_PARALLELISM=false\nexport GSETTINGS=x\n", False),
        (b"etc/conda/env_vars.d/x.json", b'{"HF_TOKEN": "abc"}', True),
        (b"conda-meta/state", b'{"version": 1, "env_vars": {"A": "1", "HF_TOKEN": "abc"}}', True),
        (b"conda-meta/state", b'{"version": 1, "env_vars": {"HF_HOME": "/data"}}', False),
        (b".npmrc", b"//registry.example/:_authToken=npm_abc\n", True),
        (b"etc/npmrc", b"_auth = YTpi\n", True),
        (b".npmrc", b"//registry.example/:_authToken=${NPM_TOKEN}\n", False),
        (b".netrc", b"machine h login alice password pw\n", True),
        (b".netrc", b"machine h\n  login alice\n  password pw\n", True),
        (b".pypirc", b"[pypi]\nusername = __token__\npassword = pypi-abc\n", True),
        (b".condarc", b"add_anaconda_token: false\nadd_binstar_token: True\n", False),
        (b".condarc", b"add_anaconda_token: no  # none\nadd_binstar_token: on", False),
        (b".condarc", b"add_anaconda_token: 'yes'\nanaconda_token: ~\n", False),
        (b".condarc", b"anaconda_token: no-8f3a\n", True),
        (b".condarc", b"anaconda_token: true1234\n", True),
        (ACTIVATE, b'export A_TOKEN=`cat x`\nexport B_TOKEN="`cat x`"\n', False),
        (ACTIVATE, b"export A_TOKEN=$(cat x)\nexport B_TOKEN=<yours>\nB_TOKEN=false; x\n", False),
        (ACTIVATE, b"export A_TOKEN=`cat x`\nexport B_TOKEN=abc\n", True),
        (ACTIVATE, b"export A_TOKEN=onabc\n", True),
        (b"etc/conda/activate.d/a.fish", b"set -gx A_TOKEN (cat x)\n", False),
        (b"etc/conda/activate.d/a.fish", b"set -gx A_TOKEN 'abc'\n", True),
        (b"etc/conda/activate.d/a.csh", b"setenv A_TOKEN `cat x`\n", False),
        (b"etc/conda/activate.d/a.ps1", b"$env:A_TOKEN = (Get-Content x)\n", False),
        (b"conda-meta/state", b'{"env_vars": {"API_KEY": ""}}', False),
        (b"conda-meta/state", b'{"env_vars": {"API_KEY": "***unset***"}}', False),
        (b"conda-meta/state", b'{"env_vars": {"API_KEY": "", "B_TOKEN": "x"}}', True),
        (b"conda-meta/state", b'{"env_vars": {"USE_TOKEN": "true"}}', False),
        (b"etc/conda/env_vars.d/x.json", b'{"A_TOKEN": "", "B": "1"}', False),
        (b"conda-meta/z-1-0.json", b'{"name": "tokenizers", "files": ["lib/token.py"]}', False),
    ],
)
def test_files_that_hold_some(path: bytes, content: bytes, found: bool) -> None:
    assert may_hold_credentials(path)
    assert may_be_in(path.rpartition(b"/")[0])
    assert holds_credentials(path, content) is found


@pytest.mark.parametrize(
    ("query", "is_secret"),
    [
        ("X-Amz-Date=20261130T120000Z&X-Amz-Credential=AKIA%2F20261130&X-Amz-Signature=5ec", True),
        ("X-Amz-Security-Token=5ec", True),
        ("AWSAccessKeyId=A&Expires=1&Signature=5ec", True),
        ("Policy=" + "eyJ" * 300 + "&Signature=5ec", True),
        ("X-Goog-Signature=5ec", True),
        ("sv=2020-04-08&se=2027&sig=5ec", True),
        ("sv=2020-04-08&sig=%2Fec", True),
        ("ApiKey=5ec", True),
        ("api_key=5ec", True),
        ("auth=5ec", True),
        ("password=5ec", True),
        ("access_token=5ec", True),
        ("token=", False),
        ("token=false", False),
        ("design=5ec&authors=x&sigma=2", False),
        ("name=x-1.whl&channel=main", False),
    ],
)
@pytest.mark.parametrize("path", [b"conda-meta/x-1-0.json", b"lib/a-1.dist-info/direct_url.json"])
def test_parameter_of_an_address_is_a_credential_where_output_would_hide_it(
    path: bytes, query: str, is_secret: bool
) -> None:
    address = f"https://h/x?{query}"
    assert holds_credentials(path, f'{{"url": "{address}"}}'.encode()) is is_secret
    assert (redacted(address) != address) is is_secret


@pytest.mark.parametrize("value", ["$TOKEN", "${TOKEN}", "{token}", "%s", "%(token)s", "***", ""])
def test_parameter_without_a_literal_value_is_no_credential(value: str) -> None:
    assert not holds_credentials(ACTIVATE, f"curl 'https://h/?a=1&token={value}&b=2'\n".encode())


def test_a_large_record_takes_no_longer_than_it_is() -> None:
    one = b'{"_path": "lib/python3.11/site-packages/a/token.py", "sha256": "%064d"},\n' % 7
    long = (
        b"://?" * 12_000,
        b"://a?b=1&" * 5_000,
        b" " * 50_000,
        b"token " * 7_000,
        b"a-" * 25_000,
        b"://a" * 12_000,
        b"://:" * 12_000,
    )
    for path, content in ((b"conda-meta/x.json", one * 20_000), *((ACTIVATE, c) for c in long)):
        began = time.process_time()
        assert not holds_credentials(path, content)
        assert time.process_time() - began < 2.0


def test_other_files_are_not_read() -> None:
    assert not may_hold_credentials(b"lib/python3.11/site-packages/a/b.py")
    assert not may_be_in(b"lib/python3.11/site-packages")
