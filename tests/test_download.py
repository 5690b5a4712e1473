"""The data helper under every fault that a reader's network or disk may have.

There is never a wrong file under the final name, and always an error that says what to do. A copy
of the helper runs on a registry of its own against a local server.
"""

import bz2
import gzip
import hashlib
import http.server
import importlib.util
import io
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile

import pytest

from conftest import ROOT

PAYLOAD = b"the right bytes\n" * 50_000
GZIPPED = gzip.compress(PAYLOAD, mtime=0)
ISSUE = bz2.compress(PAYLOAD[:4000]) * 30  # of what is published anew, under a name with its date
ISSUE_FILE = "zhwiki-20261101-pages-articles.xml.bz2"
SUMS = f"""0123456789012345678901234567890123456789  zhwiki-20261101-abstract.xml.gz
{hashlib.sha1(b"other").hexdigest()}  zhwiki-20261101-pages-articles-multistream.xml.bz2
{hashlib.sha1(ISSUE).hexdigest()}  {ISSUE_FILE}
"""


def zip_of(members: dict) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as box:
        for name, data in members.items():
            box.writestr(name, data)
    return buffer.getvalue()


def tar_of(members: dict) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as box:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            box.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    bodies = {
        "/good": PAYLOAD,
        "/good.gz": gzip.compress(PAYLOAD),
        "/good.zip": zip_of({"in/side": PAYLOAD}),
        "/wrong": PAYLOAD[:-1] + b"X",
        "/page": b"<html>please log in</html>",
        "/evil.zip": zip_of({"../evil.txt": b"out", "fine.txt": b"in"}),
        "/kind.zip": zip_of({"set/a.txt": b"a", "set/b.txt": b"b"}),
        "/says-gzip.gz": GZIPPED,
        "/named-plain.txt": gzip.compress(PAYLOAD),
        "/named-gzip-and-plain.gz": PAYLOAD,
        "/says-gzip-and-is.txt": gzip.compress(PAYLOAD),
        "/says-gzip-and-is-not.txt": PAYLOAD,
        "/named-gzip-and-is-bzip2.gz": bz2.compress(PAYLOAD),
        "/xz": lzma.compress(PAYLOAD),
        "/cut.gz": gzip.compress(PAYLOAD)[:-20],
        "/says-gzip-twice.gz": gzip.compress(GZIPPED),
        "/says-gzip.zip": gzip.compress(zip_of({"in/side": PAYLOAD})),
        "/says-gzip.tar.gz": tar_of({"in/side": PAYLOAD}),
    }
    asked = []
    issues = {
        "/wiki/sums.txt": SUMS.encode(),
        "/wiki/20261101/zhwiki-20261101-pages-articles.xml.bz2": ISSUE,
        "/stale/sums.txt": SUMS.encode(),
        "/stale/20261101/zhwiki-20261101-pages-articles.xml.bz2": ISSUE[:-1] + b"X",
        "/part/sums.txt": b"0123  zhwiki-20261101-pages-articles1.xml-p1p9.bz2\n",
    }

    def do_GET(self):
        name = self.path.split("?")[0]
        if name in ("/truncated", "/slow", "/stalled"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(PAYLOAD)))
            self.end_headers()
            self.wfile.write(PAYLOAD[:1000])
            self.wfile.flush()
            if name == "/stalled":
                time.sleep(8)
            for start in range(1000, len(PAYLOAD), 10_000) if name == "/slow" else ():
                time.sleep(0.05)
                self.wfile.write(PAYLOAD[start : start + 10_000])
        elif name in self.issues:
            self.send_issue(self.issues[name])
        elif name in self.bodies:
            self.send_response(200)
            if "says-gzip" in name:
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(self.bodies[name])
        else:
            self.send_error(404)

    def send_issue(self, data):
        """What a server of dumps does: it also sends a part, from some byte on."""
        asked = self.headers.get("Range", "bytes=0-")
        Handler.asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:])

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def helper(tmp_path, server, monkeypatch):
    """make(urls, **entry) → a copy of the helper whose registry holds the entry "thing"."""
    for name in ("KEXUE_DATA_DIR", "KEXUE_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def make(urls, **changes):
        house = tmp_path / "data"
        house.mkdir(exist_ok=True)
        shutil.copy(ROOT / "data" / "download.py", house)
        entry = {
            "file": "thing.txt",
            "size": len(PAYLOAD),
            "sha256": hashlib.sha256(PAYLOAD).hexdigest(),
            "licence": "-",
            "home": "https://example.org",
            "urls": [server + url if url[0] == "/" else url for url in urls],
            **changes,
        }
        (house / "registry.json").write_text(json.dumps({"thing": entry}), encoding="utf-8")
        spec = importlib.util.spec_from_file_location("download_copy", house / "download.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.TIMEOUT = 1
        return module

    return make


def files_below(folder) -> list:
    return sorted(
        path.name
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and path.name != "registry.json"
    )


@pytest.mark.parametrize("url", ["/good", "/good.gz", "/good.zip#in/side"])
def test_payload_arrives_whatever_it_is_wrapped_in(helper, tmp_path, url):
    path = helper([url]).fetch("thing")
    assert path.read_bytes() == PAYLOAD and path == tmp_path / "data" / ".cache" / "thing.txt"


@pytest.mark.parametrize(
    "url",
    [
        "/says-gzip.gz",  # a .gz, and the header says so again
        "/named-plain.txt",  # a .gz under a plain name
        "/named-gzip-and-plain.gz",  # the mirror's tool unpacked it and kept the name
        "/says-gzip-and-is.txt",  # compressed on its way although we asked for it as it is
        "/says-gzip-and-is-not.txt",  # a header that is wrong
        "/named-gzip-and-is-bzip2.gz",
        "/xz",
        "/says-gzip.zip#in/side",  # an archive compressed on its way
        "/says-gzip.tar.gz#in/side",
    ],
)
def test_content_decides_what_arrives(helper, url):
    assert helper([url]).fetch("thing").read_bytes() == PAYLOAD


@pytest.mark.parametrize("url", ["/says-gzip.gz", "/says-gzip-twice.gz"])
def test_a_payload_that_is_itself_compressed_stays_so(helper, url):
    """Its hash is that of the .gz, which must not be unpacked, and may be compressed once more."""
    data = Handler.bodies["/says-gzip.gz"]
    module = helper(
        [url], file="thing.txt.gz", size=len(data), sha256=hashlib.sha256(data).hexdigest()
    )
    assert module.fetch("thing").read_bytes() == data


def test_a_file_compressed_twice_is_refused(helper, tmp_path):
    module = helper(["/says-gzip-twice.gz"])
    with pytest.raises(module.DownloadError, match="compressed more than once"):
        module.fetch("thing")
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("name", ["thing.txt", "thing.txt.gz", "thing.txt.xz"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_file_put_by_hand_may_be_packed_in_any_way_under_any_of_the_names(
    helper, tmp_path, name, pack
):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / name).write_bytes(pack(PAYLOAD))
    assert helper([]).fetch("thing", mirror).read_bytes() == PAYLOAD


@pytest.mark.parametrize(
    "url, word",
    [
        ("/wrong", "hash"),
        ("/cut.gz", "end-of-stream"),
        ("/truncated", ""),
        ("/page", "26 bytes"),
        ("/absent", "404"),
        ("/stalled", "timed out"),
        ("http://127.0.0.1:9/nobody", "127.0.0.1"),
        ("http://no-such-host.invalid/x", "no-such-host"),
        ("/good.zip#not/there", "not/there"),
    ],
)
def test_faults_leave_no_file_and_say_what_to_do(helper, tmp_path, url, word):
    module = helper([url])
    with pytest.raises(module.DownloadError) as caught:
        module.fetch("thing")
    message = str(caught.value)
    for part in (
        word,
        url.split("#")[0],
        hashlib.sha256(PAYLOAD).hexdigest(),
        f"{len(PAYLOAD):,} bytes",
        "thing.txt",
        "https://example.org",
    ):
        assert part in message
    assert files_below(tmp_path) == []


def test_next_address_is_tried(helper):
    assert (
        helper(["/absent", "/wrong", "/truncated", "/good"]).fetch("thing").read_bytes() == PAYLOAD
    )


def test_offline_switch_and_file_put_by_hand(helper, tmp_path, monkeypatch):
    module = helper(["/good"])
    monkeypatch.setenv("KEXUE_OFFLINE", "1")
    with pytest.raises(module.DownloadError, match="KEXUE_OFFLINE"):
        module.fetch("thing", tmp_path / "mirror")
    (tmp_path / "mirror").mkdir(exist_ok=True)
    (tmp_path / "mirror" / "thing.txt").write_bytes(PAYLOAD)
    assert (
        module.fetch("thing", tmp_path / "mirror") == (tmp_path / "mirror" / "thing.txt").resolve()
    )


def test_wrong_file_in_the_data_directory_is_not_used(helper, tmp_path):
    module = helper(["/absent"])
    (tmp_path / "thing.txt").write_bytes(PAYLOAD[:-5])
    with pytest.raises(module.DownloadError, match="expected 800,000 bytes"):
        module.fetch("thing", tmp_path)
    assert module.main(["--verify", "--data-dir", str(tmp_path)]) == 2


def test_compressed_mirror_is_read_and_not_written(helper, tmp_path):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "thing.txt.gz").write_bytes(gzip.compress(PAYLOAD))
    assert helper([]).fetch("thing", mirror).read_bytes() == PAYLOAD
    assert files_below(mirror) == ["thing.txt.gz"]


def test_directory_that_cannot_be_written(helper, tmp_path):
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    module = helper(["/good"])
    with pytest.raises(module.DownloadError, match="--data-dir"):
        module.fetch("thing", tmp_path / "file" / "below")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_read_only_directory(helper, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    module = helper(["/good"])
    with pytest.raises(module.DownloadError, match="--data-dir"):
        module.fetch("thing", locked)


def test_installed_package_is_used(helper, tmp_path, monkeypatch):
    package = tmp_path / "site" / "carrier"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "raise ImportError('must not be imported')", encoding="utf-8"
    )
    (package / "1.txt").write_bytes(PAYLOAD[:100])
    (package / "2.txt").write_bytes(PAYLOAD[100:])
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert helper([], package="carrier", member="[12].txt").fetch("thing").read_bytes() == PAYLOAD
    (package / "whole").write_bytes(PAYLOAD)
    assert (
        helper([], file="other", package="carrier", member="whole").fetch("thing")
        == package / "whole"
    )


def archive_entry(url) -> dict:
    data = Handler.bodies[url]
    return {
        "file": "set.zip",
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "unpack": True,
    }


def test_archive_is_unpacked(helper):
    module = helper(["/kind.zip"], **archive_entry("/kind.zip"))
    folder = module.fetch("thing")
    assert folder.name == "set" and files_below(folder) == ["a.txt", "b.txt"]
    assert module.fetch("thing") == folder


def test_archive_member_outside_its_folder_is_refused(helper, tmp_path):
    module = helper(["/evil.zip"], **archive_entry("/evil.zip"))
    with pytest.raises(module.DownloadError, match="evil.txt"):
        module.fetch("thing")
    assert files_below(tmp_path) == ["set.zip"]


def test_git_blob_hash(helper):
    blob = hashlib.sha1(b"blob %d\0" % len(PAYLOAD) + PAYLOAD).hexdigest()
    module = helper(["/wrong", "/good"], size=None, sha256=None)
    entry = {key: value for key, value in module.registry()["thing"].items() if key != "sha256"} | {
        "git_sha1": blob
    }
    module.registry = lambda: {"thing": entry}
    assert module.fetch("thing").read_bytes() == PAYLOAD


# ---------------------------------------------------------------- published anew every month
@pytest.fixture
def issues(helper, server):
    """make(folders of the server) → a copy of the helper that knows a dump of them."""
    Handler.asked.clear()

    def make(*folders):
        pattern = "zhwiki-*-pages-articles.xml.bz2"
        module = helper(folders, file=pattern, size=None, about=3e9, sums="sums.txt")
        entry = {key: value for key, value in module.registry()["thing"].items() if key != "sha256"}
        module.registry = lambda: {"thing": entry}
        return module

    return make


def test_the_newest_issue_is_kept_packed_under_its_own_name(issues, tmp_path):
    module = issues("/absent/", "/part/", "/wiki/")
    path = module.fetch("thing", tmp_path / "here")
    assert path.name == ISSUE_FILE and path.read_bytes() == ISSUE
    assert files_below(tmp_path / "here") == [ISSUE_FILE, ISSUE_FILE + ".sha1"]
    Handler.asked.clear()
    assert module.fetch("thing", tmp_path / "here") == path and Handler.asked == []


@pytest.mark.parametrize("here", [0, 1, 1000, len(ISSUE)])
def test_an_interrupted_issue_goes_on_where_it_stopped(issues, tmp_path, here):
    (tmp_path / f"{ISSUE_FILE}.part").write_bytes(ISSUE[:here])
    assert issues("/wiki/").fetch("thing", tmp_path).read_bytes() == ISSUE
    assert Handler.asked[-1] == f"bytes={here}-"
    assert not (tmp_path / f"{ISSUE_FILE}.part").exists()


def test_an_issue_with_another_hash_is_not_handed_out(issues, tmp_path):
    with pytest.raises(OSError, match="SHA-1 .*expected") as caught:
        issues("/stale/").fetch("thing", tmp_path / "here")
    assert "zhwiki-latest-pages-articles.xml.bz2" in str(caught.value)
    assert "about 3 GB" in str(caught.value) and files_below(tmp_path / "here") == []
    (tmp_path / f"{ISSUE_FILE}.part").write_bytes(b"X" * 1000)  # not the start of the issue
    assert issues("/wiki/", "/wiki/").fetch("thing", tmp_path).read_bytes() == ISSUE


def test_an_issue_put_by_hand_is_used_and_a_damaged_one_is_not(issues, tmp_path, monkeypatch):
    monkeypatch.setenv("KEXUE_OFFLINE", "1")
    module = issues("/wiki/")
    with pytest.raises(module.DownloadError, match="KEXUE_OFFLINE"):
        module.fetch("thing", tmp_path)
    (tmp_path / ISSUE_FILE).write_bytes(ISSUE)
    assert module.fetch("thing", tmp_path) == tmp_path / ISSUE_FILE
    (tmp_path / f"{ISSUE_FILE}.sha1").write_text("0123\n")
    with pytest.raises(module.DownloadError, match="is not that of"):
        module.fetch("thing", tmp_path)
    assert module.main(["--verify", "--data-dir", str(tmp_path)]) == 2


def command(module) -> list:
    return [sys.executable, module.__file__, "thing"]


def test_kill_in_the_middle_leaves_no_final_file(helper, tmp_path):
    module = helper(["/slow"])
    process = subprocess.Popen(command(module))
    time.sleep(2.5)
    process.kill()
    process.wait()
    assert not (tmp_path / "data" / ".cache" / "thing.txt").exists()
    assert subprocess.run(command(module), capture_output=True, timeout=60).returncode == 0
    assert (tmp_path / "data" / ".cache" / "thing.txt").read_bytes() == PAYLOAD


def test_two_processes_at_once(helper, tmp_path):
    module = helper(["/slow"])
    processes = [subprocess.Popen(command(module), stdout=subprocess.PIPE) for _ in range(2)]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert files_below(tmp_path) == ["thing.txt"]
    assert (tmp_path / "data" / ".cache" / "thing.txt").read_bytes() == PAYLOAD


def test_the_command_line_reports_without_a_traceback(helper):
    module = helper(["/absent"])
    finished = subprocess.run(command(module), capture_output=True, text=True, timeout=60)
    assert (
        finished.returncode == 2 and "404" in finished.stderr and "Traceback" not in finished.stderr
    )
    assert module.main(["--list"]) == 0
    with pytest.raises(SystemExit) as caught:
        module.main(["nothing-like-this"])
    assert caught.value.code == 2


def test_the_registry_is_whole_and_the_shipped_files_are_right():
    sys.path.insert(0, str(ROOT))
    from data import download

    entries = download.registry()
    for name, entry in entries.items():
        assert {"file", "size", "licence", "home"} <= set(entry), name
        fixed = len(entry.get("sha256", "")) == 64 or len(entry.get("git_sha1", "")) == 40
        assert fixed or entry["sums"].startswith("latest/"), name
    for name in (
        "mnist_6k",
        "bank-marketing",
        "adult-train",
        "adult-test",
        "wordsim240",
        "ca-translated",
        "questions-words",
    ):
        assert download.check(download.fetch(name), entries[name]) == (True, None), name


def test_the_helper_needs_neither_tensorflow_nor_numpy():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        "from data.download import fetch; fetch('wordsim240'); "
        "sys.exit(bool({'numpy', 'tensorflow', 'pooch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(ROOT)], timeout=60).returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="head is POSIX")
def test_a_list_read_in_part_is_no_error():
    done = subprocess.run(
        f'"{sys.executable}" "{ROOT / "data" / "download.py"}" --list | head -1',
        shell=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == "" and len(done.stdout.splitlines()) == 1
