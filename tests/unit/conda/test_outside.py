"""What leads out of an environment is found; what stays inside is not reported."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.conda import outside
from envsync.conda.outside import Names, in_file, in_run_path, in_symlink, is_worth_reading

ENVIRONMENT = b"/workspace/alice/miniconda3/envs/myenv"
SITE = b"lib/python3.11/site-packages/"
FINDER = b"""
import sys
MAPPING: dict[str, str] = {'foo': '/home/alice/foo/src/foo'}
NAMESPACES: dict[str, list[str]] = {'ns': ['/home/alice/foo/ns']}
"""
FILES = [b"a.pth", b"a.egg-link", b"__editable__a.py", b"a.dist-info/direct_url.json"]


def direct_url(url: object, editable: object = True) -> bytes:
    return json.dumps({"url": url, "dir_info": {"editable": editable}}).encode()


@pytest.mark.parametrize(
    ("path", "target", "leads_outside"),
    [
        (b"lib/libz.so", b"libz.so.1", False),
        (b"bin/x", b"../share/x", False),
        (b"bin/x", b"../..", True),
        (b"x", b"..", True),
        (b"x", b".", False),
        (b"bin/x", b"../../other/bin/x", True),
        (b"bin/x", ENVIRONMENT + b"/share/x", False),
        (b"bin/x", ENVIRONMENT, False),
        (b"bin/x", ENVIRONMENT + b"-2/share/x", True),
        (b"bin/x", ENVIRONMENT + b"/../other", True),
        (b"data", b"/data/big", True),
        (b"bin/\xff", b"\xfe\n", False),
    ],
)
def test_symlink_that_leads_outside_is_found(
    path: bytes, target: bytes, leads_outside: bool
) -> None:
    found = in_symlink(path, target, ENVIRONMENT)
    assert [(one.path, one.leads_to) for one in found] == [(path, target)] * leads_outside


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (b"a.pth", b"", []),
        (b"a.pth", b"# /a/comment\n\n   \n", []),
        (b"a.pth", b"/home/alice/project/src\n", [b"/home/alice/project/src"]),
        (b"a.pth", b"\xef\xbb\xbf/home/alice/project\r\n", [b"/home/alice/project"]),
        (b"a.pth", b"subdirectory\n./egg\n../../../share\n", []),
        (b"a.pth", b"../../../../other", [b"../../../../other"]),
        (b"a.pth", ENVIRONMENT + b"/src/x\n", []),
        (b"distutils-precedence.pth",
         b"import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, 'local')",
         []),
        (b"hook.pth", b"import sys; sys.path.insert(0, '/opt/hook'); x = \"/opt/more\"\n",
         [b"/opt/hook", b"/opt/more"]),
        (b"hook.pth", b"import\tsite; site.addsitedir('" + ENVIRONMENT + b"/x')\n", []),
        (b"twice.pth", b"/a\n/a\n", [b"/a"]),
        (b"__editable__.foo-1.0.pth", b"import __editable___foo_1_0_finder; x.install()", []),
        (b"__editable___foo_1_0_finder.py",
         FINDER,
         [b"/home/alice/foo/src/foo", b"/home/alice/foo/ns"]),
        (b"__editable___foo_finder.py", b"MAPPING = {f(): 1}\nMAPPING = {\n", []),
        (b"__editable___foo_finder.py", b"MAPPING = {[]: 1}\n", []),
        (b"foo.egg-link", b"/home/alice/foo/src\n../", [b"/home/alice/foo/src"]),
        (b"foo-1.dist-info/direct_url.json", direct_url("file:///home/a/my%20foo"),
         [b"/home/a/my foo"]),
        (b"foo-1.dist-info/direct_url.json", direct_url("file:///home/a/foo", editable=False), []),
        (b"foo-1.dist-info/direct_url.json", direct_url("file://" + ENVIRONMENT.decode() + "/src"),
         []),
        (b"foo-1.dist-info/direct_url.json", direct_url("https://example.org/foo"), []),
        (b"foo-1.dist-info/direct_url.json", direct_url("file://[bad"), []),
        (b"foo-1.dist-info/direct_url.json", direct_url("file:///\ud800"), [b"/\\ud800"]),
        (b"__editable__a.py", b"MAPPING = {'a': '/\\ud800'}\n", [b"/\\ud800"]),
        (b"foo-1.dist-info/direct_url.json", direct_url(7), []),
        (b"foo-1.dist-info/direct_url.json", b"{", []),
        (b"foo-1.dist-info/direct_url.json", b"[]", []),
        (b"foo-1.dist-info/direct_url.json", b'{"dir_info": 7}', []),
    ],
)  # fmt: skip
def test_file_that_leads_outside_is_found(
    name: bytes, content: bytes, expected: list[bytes]
) -> None:
    assert is_worth_reading(SITE + name)
    found = in_file(SITE + name, content, ENVIRONMENT)
    assert [one.leads_to for one in found] == expected
    assert all(one.path == SITE + name for one in found)


@pytest.mark.parametrize(
    "path",
    [b"a.pth", SITE + b"foo/a.pth", SITE + b"foo.py", b"share/" + SITE + b"a.pth", b""],
)
def test_other_files_are_not_read(path: bytes) -> None:
    assert not is_worth_reading(path)


def test_a_file_out_of_all_proportion_is_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "LEAD_FILE_MAX_BYTES", 3)
    assert in_file(SITE + b"a.pth", b"/abc", ENVIRONMENT) == ()


@pytest.mark.parametrize(
    ("path", "run_path", "leads_to"),
    [
        (b"lib/a.so", b"$ORIGIN", None),
        (b"lib/a.so", b"${ORIGIN}/../lib", None),
        (b"lib/a/b/c.so", b"$ORIGIN/../../../lib/.", None),
        (b"lib/a.so", b"$ORIGIN/../..", b"/srv/envs"),
        (b"lib/a.so", b"$ORIGIN/../../other/lib", b"/srv/envs/other/lib"),
        (b"lib/a.so", b"${ORIGIN}/../../my-2", b"/srv/envs/my-2"),
        (b"lib/a/b.so", b"$ORIGIN/../../../../lib", b"/srv/lib"),
        (b"lib/a.so", b"$ORIGIN/../../other/$LIB", b"/srv/envs/other"),
        (b"lib/a.so", b"$ORIGINAL/../../..", None),
        (b"lib/a.so", b"lib", None),
        (b"lib/a.so", ENVIRONMENT + b"/lib", None),
        (b"lib/a.so", b"/real/miniconda3/envs/myenv/lib/x/..", None),
        (b"lib/a.so", b"/srv/lib", None),
        (b"lib/a.so", b"/srv/envs/other/lib", b"/srv/envs/other/lib"),
        (b"lib/a.so", b"/workspace/alice/miniconda3/lib", None),
        (b"lib/a.so", b"/real/miniconda3/lib", None),
        # Below the prefix, and none of conda's.
        (b"lib/a.so", b"/workspace/alice/miniconda3/cuda", b"/workspace/alice/miniconda3/cuda"),
        (b"lib/a.so", ENVIRONMENT + b"-2/lib", ENVIRONMENT + b"-2/lib"),
        (b"lib/a.so", b"/workspace/alice/miniconda3-2/lib", b"/workspace/alice/miniconda3-2/lib"),
        (b"lib/a.so", b"/opt/cuda/lib64/", b"/opt/cuda/lib64"),
        (b"lib/a.so", b"/usr/lib64", None),
        (b"lib/a.so", b"/lib/x86_64-linux-gnu", None),
        (b"lib/a.so", b"/usr/lib/arm-linux-gnueabihf/", None),
        (b"lib/a.so", b"/usr/lib/x86_64-linux-gnu/blas", b"/usr/lib/x86_64-linux-gnu/blas"),
        (b"lib/a.so", b"/usr/local/lib", b"/usr/local/lib"),
    ],
)
def test_run_path_that_leads_outside_is_found(
    path: bytes, run_path: bytes, leads_to: bytes | None
) -> None:
    names = Names((ENVIRONMENT, b"/real/miniconda3/envs/myenv"), b"/srv/envs/my")
    found = in_run_path(path, run_path, names)
    assert (found and found.leads_to) == leads_to


def test_a_finding_reads_as_a_sentence() -> None:
    (found,) = in_symlink(b"da\xffta", b"/data", ENVIRONMENT)
    assert str(found) == "da\\xffta (symlink) leads to /data"


@given(
    name=st.sampled_from(FILES),
    content=st.binary() | st.binary().map(lambda rest: b"MAPPING = {" + rest + b"}\n"),
)
def test_any_content_is_taken(name: bytes, content: bytes) -> None:
    in_file(SITE + name, content, ENVIRONMENT)
