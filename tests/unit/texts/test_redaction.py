"""Credentials are taken out of texts."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.texts import credential_patterns
from envsync.texts.redaction import redacted, redacted_json

SECRET = "s3cr3tValue99"


@pytest.mark.parametrize(
    "text",
    [
        "https://alice:%s@conda.lab.example/main/linux-64/x-1.conda",
        "https://%s@github.com/lab/tool.git",
        "git+https://oauth2:%s@git.lab.example/lab/tool@main",
        "HTTPS://alice:%s@host:8443/x and more",
        "https://alice:pa@%s@host/x",
        "ssh://alice:%s@host/x",
        "https://conda.lab.example/t/%s/channel/linux-64",
        "profile://h/t/%s",
        "conda.lab.example:8080/t/%s/channel",
        "https://pypi.lab.example/simple?token=%s",
        "--index-url=https://pypi.lab.example/simple?a=1;api_key=%s==",
        "https://bucket/x?a=1&X-Amz-Signature=%s&b=2",
        "# cmd: conda install --api-key %s numpy",
        "python train.py --hub_token=%s --epochs 3",
        "WANDB_API_KEY=%s python train.py",
        "password=%s",
        "api_key='%s' is refused",
        'token="%s"',
        "password='two words, %s'",
        "secret='%s",
        "--token '%s' numpy",
        "Authorization: Bearer %s",
        "'https://alice:%s@host/x'",
        '{"url": "https://alice:%s@host/x"}',
        "ghp_%s0000000000",
        "pypi-%s0000000000",
        "PGPASSWORD=%s psql",
        "clientSecret=%s",
        "SECRETKEY=%s",
        "AWS_SECRET_ACCESS_KEY=%s",
        "X-Api-Key: %s",
        "curl -H 'PRIVATE-TOKEN: %s' https://h/x",
        "password: %s",
        "password = %s",
        "error: password: %s",
        'got {"password": "%s"}',
        '{"a": 1, "token":"%s"}',
        "{'auth_token': '%s'}",
        r"{\"password\": \"%s\"}",
        "token: %s",
        "curl -u alice:%s https://h/x",
        "curl -u 'alice:%s' https://h/x",
        "curl --silent -X GET -fsSLu alice:%s https://h/x",
        "curl --proxy-user alice:%s https://h/x",
        "localhost:8080/t/%s/chan",
        "10.0.0.5/t/%s/chan",
        "https://h/?url=https%%3A%%2F%%2Fu%%3A%s%%40h",
        "https%%3a%%2f%%2f%s%%40h%%2Fx",
        "https%%3A%%2F%%2Fh%%2Ft%%2F%s%%2Fchan",
        "authToken=%s",
        "authToken: %s",
        "clientsecret=%s",
        "AWSSecretKey: %s",
        "MyAPIKey=%s",
        "DB_PASSWORD2=%s",
        "google-auth-token=%s",
        "token=1.2%s",
        "auth=12345:%s",
        "auth=12345,%s",
        "password='no more, %s'",
        "password='1.2 %s'",
        "password='no'%s",
        "password: %s is refused",
        "token: '%s'",
        "api_key: /%s",
        "{'token': None, 'secret': '%s'}",
        "password:a,password:b,token=%s",
        'password:a,password:"%s"',
        "google-auth=2.29.0,token=%s",
        "secret = get(token=%s)",
        "secret = get(password:%s)",
        "--pad-token 0 --api-key %s",
        "SMTP_PASS=%s",
        "DB_PASS: %s",
        "PASS=%s",
        "pass = %s",
        "user=a&pass=%s",
        "--db-pass %s",
        "dbPass='%s'",
        '{"pass": "%s"}',
        "PRIVATE_KEY=%s",
        "PRIVATE_KEY: %s",
        "MYSQL_PWD=%s",
        "MYSQL_PWD: %s",
        "pip --proxy u:%s@h:1",
        "pip --proxy=u:a@%s@h:1 install x",
        "curl --proxy 'u:%s@h:1' https://h/x",
    ],
)
def test_no_credential_is_left(text: str) -> None:
    told = redacted(text % SECRET)
    assert SECRET not in told
    assert "***" in told


@pytest.mark.parametrize(
    "text",
    [
        "https://conda.anaconda.org/conda-forge/linux-64/numpy-1.26.4-py311_0.conda",
        "ssh://alice@host/x",
        "alice@server1 published it on 2026-03-02 14:05",
        "/workspace/t/envs/myenv/lib/python3.11/site-packages/t/tokenize.py",
        "file:///srv/t/lab/channel",
        "`envsync diff myenv server2`; --overwrite keeps it as a generation",
        "numpy: 1.26.4 -> 2.0.1",
        "lib/python3.11/secrets.py",
        "process 12 uses it: python train.py --tokenizer=fast --signal=9 --design=2",
        "the basic commands",
        "--no-token numpy",
        "lib/python3.11/site-packages/tokenizers/__init__.py: no such file",
        "tokenizers: 0.15.0 -> 0.15.1",
        "lib/secrets.py:12: error",
        "include/password_hash.h: 3 lines",
        "token_type: bearer",
        "unexpected token: )",
        "/home/alice/.config/token: Permission denied",
        "/srv/secret: No such file or directory",
        "alice@host's password: ",
        "it takes no passwords: use a key",
        "host key: SHA256:abcdef",
        "a key without a passphrase, for the service: ssh-keygen -t ed25519",
        "mytoken::pkg",
        "docker run --user 1000:1000 image",
        "python -u train.py:main",
        "sort -u a:b",
        "secretstorage: 3.3.3",
        "python3.11/t/test_x.py:3",
        "https%3A%2F%2Fconda.anaconda.org%2Fconda-forge",
        "keyring=24.3.0=py311_0 and passlib==1.7.4",
        "if token == other:",
        "100%40",
        "curl -L https://h:8080/x -o usr:x",
        "pad_token=0",
        "max_tokens=4096, num_tokens: 12",
        "add_anaconda_token: true",
        "use_auth_token=None)",
        "conda-forge::tiktoken==0.7",
        "TIKTOKEN_CACHE_DIR=/data/tiktoken",
        "--max-tokens 512 --tiktoken fast",
        "pass: 3 tests",
        "pass=3 fail=0, xpass=1",
        "PASS: test_resume2.sh",
        "compass=1 bypass=1, compass: north1",
        "pwd=/home/x and OLDPWD=~/y",
        "PWD: /home/alice1/x",
        "first_pass=step12 two-pass: x264a",
        "x264 --pass 2",
        "pass_rate=0.9",
        "python-pass==1.0 and sshpass=1.06",
        "private_key=/etc/ssl/lab.key",
        "private_key: /home/alice/.ssh/id_ed25519",
        "pip --proxy http://h:8080 --proxy h:8080",
    ],
)
def test_text_without_credentials_stays(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize("name", ["password", "db_password", "passwd", "DB_PASS", "mysql_pwd"])
@pytest.mark.parametrize("value", ["12.34", "2024.1", "1.2.3-abc_1", "1.2=x", "12345"])
def test_a_password_may_look_like_a_version(name: str, value: str) -> None:
    assert redacted(f"{name}={value}") == f"{name}=***"
    assert redacted(f"--{name} {value}") == f"--{name} ***"


PACKAGES = (
    "tiktoken",
    "tokenizers",
    "sentencepiece",
    "djangorestframework-api-key",
    "python-secrets",
    "detect-secrets",
    "secretstorage",
    "keyring",
    "passlib",
    "bcrypt",
    "google-auth",
    "google-auth-oauthlib",
    "requests-oauthlib",
    "py-cpuinfo-token",
    "django-password-validators",
    "vault-secret",
    "htpasswd",
    "csrf_token",
    "jwt-access-key",
)
SPECS = (
    "%s",
    "%s==3.0.0",
    "%s==3.0.0=py311_0",
    "%s=0.7.0=py311_0 -> %s=0.7.0",
    "%s=0.7.0 -> %s",
    "%s=2.*",
    "%s=0.7.*",
    "%s=1.0rc1",
    "%s=2.9.0.post1",
    "conda-forge::%s==0.7",
    "conda-forge/linux-64::%s=0.7.0=pyhd8ed1ab_0",
    "%s>=2.0,<3",
    "%s ==2.0",
    "%s =2.0",
    "%s ~=2.0",
    '%s = "^2.0"',
    "['%s=1.2.3', '%s=1.2.4']",
    "`%s=1.2.3`, or without: (%s=1.2).",
    "%s: 0.5 -> 0.7",
    "%s: 0.5.0-pyhd8ed1ab_0 -> 0.7.0rc1",
    "%s: only here",
    "%s: no such package",
    "  + %s   2.29.0  pyhca7485f_0  conda-forge/noarch",
    "Using cached %s-0.7.0-cp311-cp311-manylinux_2_17_x86_64.whl (1.1 MB)",
    "https://conda.anaconda.org/conda-forge/noarch/%s-3.0.0-pyhd8ed1ab_0.conda",
)


@pytest.mark.parametrize("spec", SPECS)
def test_packages_keep_their_versions(spec: str) -> None:
    for package in PACKAGES:
        text = spec.replace("%s", package)
        assert redacted(text) == text


@pytest.mark.parametrize(
    "line",
    [
        "alice@h's password: Permission denied",
        "alice@h: Permission denied (publickey,password).",
        "(alice@h) Password: Connection closed by 10.0.0.5 port 22",
        "debug1: Next authentication method: password",
        "debug1: Offering public key: /home/alice/.ssh/id_ed25519 ED25519 SHA256:abc1234567",
        "Enter passphrase for key '/home/alice/.ssh/id_ed25519': ",
        "Bad passphrase: try again",
        "sudo: alice : NOPASSWD: ALL",
        "ERROR: Could not find a version that satisfies tiktoken==0.99 (from versions: 0.1.1, 0.7)",
        "google-auth 2.29.0 requires cachetools<6.0,>=2.0.0, but you have cachetools 6.1.0",
        "Collecting google-auth==2.29.0 (from -r /tmp/x.txt (line 3))",
        "Successfully installed detect-secrets-1.4.0 tiktoken-0.7.0 tokenizers-0.19.1",
        "WARNING: Keyring is skipped due to an exception: no password: locked",
        "PackagesNotFoundError: - tiktoken=0.99",
        "  - nothing provides python_abi 3.11.* *_cp311 needed by tiktoken-0.7.0-py311h1_0",
        "add_binstar_token: True",
        "unexpected token: identifier",
        "SyntaxError: Unexpected token: 'import'",
        "cannot read the token: /home/alice1/.config/hub/token",
        "no secret: https://vault.lab.example/v1/names",
        "    token = next(self.tokens)",
        "    eos_token = tokenizer.eos_token",
        '    password = os.environ["PGPASSWORD"]',
        "    def login(token: str, password: Optional[str] = None, api_key: bytes) -> None:",
        "TypeError: login() got an unexpected keyword argument 'token'",
        "KeyError: 'api_key'",
        "    if token == other.token and secret != None:",
        "lib/python3.11/site-packages/keyring/credentials.py, line 3, in password",
    ],
)
def test_ordinary_lines_stay(line: str) -> None:
    assert redacted(line) == line


@pytest.mark.parametrize(
    "text",
    [
        "password: 1,sig=x",
        "secret = ghp_aaaaaaaaaaaaaaaaaaaa(b1)",
        "token=1.2,token=secretX",
        "--token password: abc12345",
        "curl -u --password=git+ssh://u:%3A%2F%2F&:#@'1.2}x,",
        "API_KEYgit+ssh://--password=?;***_@-passwordhttps://",
    ],
)
def test_redacting_nested_credentials_once_is_enough(text: str) -> None:
    told = redacted(text)
    assert redacted(told) == told


@given(st.text(max_size=200))
def test_redacting_once_is_enough(text: str) -> None:
    told = redacted(text)
    assert redacted(told) == told


PIECES = (
    *("https://", "git+ssh://", "u:", "p@", "@", "host", "/t/", "/", "?", "#", "&", ";", ",", "."),
    *(
        "password",
        "token",
        "secret",
        "API_KEY",
        "PASS",
        "pwd",
        "--token ",
        "--password=",
        "=",
        "==",
    ),
    *("curl -u ", "--proxy ", "Bearer ", "pypi-AbCdEfGh1234567890", "hunter2hunter", "tok123abc"),
    *(":", " ", "'", '"', "\\", "***", "1.2", "true", "%3A%2F%2F", "%40", "-", "_", "{", "}", "\n"),
)


@given(st.lists(st.sampled_from(PIECES), max_size=16).map("".join))
def test_redacting_combined_credentials_once_is_enough(text: str) -> None:
    told = redacted(text)
    assert redacted(told) == told


SECRETS = st.text(string.ascii_letters + string.digits + "-._~!$()*,:@+", min_size=6, max_size=40)
AROUND = st.text(string.ascii_letters + string.digits + " \n/.-", max_size=30)


@given(SECRETS, AROUND, AROUND)
def test_a_url_shows_no_password(secret: str, before: str, after: str) -> None:
    secret = f"Zq{secret}qZ"
    url = f"{before} https://alice:{secret}@host/{after}"
    assert secret not in redacted(url)
    assert secret not in str(redacted_json({"a": [{"b": url}], url: 1}))


LONG = (
    "a://" * 3_000,
    "token" * 3_000,
    "x.co/t" * 2_500,
    "--" + "a" * 12_500,
    "curl -u a:" * 1_250,
    "a" * 12_500 + ":",
    "password: " * 1_250,
    "password" + " " * 12_500,
    "token :" * 1_750,
    "%3A%2F%2F" * 1_250,
    "%3A%2F%2F" + "a%40" * 3_000,
    "curl -u a" * 1_250,
    "curl -u " + "a:" * 6_250,
    "1.2.3.4" * 1_750,
    "a:1/t/" * 1_750,
    '"' * 6_250 + "token" * 1_250,
    "a =" * 3_750,
    "password:a," * 2_000,
    "password:/a/x," * 1_500,
    "token=1," * 2_500,
    "token = a(" * 2_000,
    "token:'a\"" * 2_000,
    "token=" + "1." * 7_500,
    "token1" * 2_500 + ":",
)


def test_long_texts_take_no_longer_than_they_are() -> None:
    for text in LONG:
        began = time.process_time()  # of this process alone, however busy the machine is
        redacted(text)
        assert time.process_time() - began < 0.3


@pytest.mark.parametrize(
    "token",
    [
        *(f"gh{kind}_{'a1' * 8}" for kind in "pousr"),
        f"github_pat_{'a1' * 8}",
        f"glpat-{'a1' * 8}",
        f"pypi-{'a1' * 8}",
        f"hf_{'a1' * 8}",
        f"tk-{'a1' * 4}-{'a1' * 8}",
        f"AKIA{'A1' * 8}",
    ],
)
def test_a_token_is_known_by_how_it_begins(token: str) -> None:
    assert redacted(f"it says {token} there") == "it says *** there"


@given(st.lists(st.sampled_from(PIECES), max_size=16).map("".join))
def test_no_text_with_something_to_hide_passes_unread(text: str) -> None:
    """As for all that the other tests of this module hide: none is without a sign."""
    if credential_patterns.without_credentials(text) != text:
        assert redacted(text) != text
