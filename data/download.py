"""Find or fetch a data file by name, and never hand out a wrong one.

Run:   python data/download.py --list            what there is, how large, under which licence
       python data/download.py mnist text8       fetch (a group name stands for all its files)
       python data/download.py --verify          hash everything that is here
Code:  from data.download import fetch
       images = fetch("mnist-train-images")      a Path to the verified file

A file is looked for in this order: the data directory (argument, else the environment variable
KEXUE_DATA_DIR, else data/.cache), the files shipped in data/, an installed package that carries it,
then the addresses in registry.json. KEXUE_OFFLINE=1 leaves the addresses out.

The SHA-256 is that of the payload, so the same bytes are accepted plain, compressed by gzip, bzip2
or xz, or as a member of an archive; the content says which, whatever the name or the server say.
Files appear under their final name in one move, when they are right.

A dump of Wikipedia is published anew every month: a list of hashes on the server names the newest
one and its SHA-1. It stays packed, and a transfer that was interrupted goes on where it stopped.
"""

import argparse
import bz2
import fnmatch
import gzip
import hashlib
import importlib.util
import json
import lzma
import os
import shutil
import sys
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

HERE = Path(__file__).resolve().parent
SUFFIXES = ("", ".gz", ".bz2", ".xz")  # of files put by hand beside the name in the registry
OPENERS = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}  # first bytes → what reads the rest
TIMEOUT = 20  # seconds without a byte before the next address is tried
AGENT = "kexue-reproduced (data/download.py)"  # Wikimedia asks for a name


class DownloadError(OSError):
    """No place has the right file; the message says what was tried and what to do."""


def registry() -> dict:
    """name → {file, size, sha256, licence, home, urls[], package, member, unpack}.

    Of what is published anew now and then: {file: a pattern, about: bytes, sums: address of the
    list of SHA-1 below each of urls}.
    """
    return json.loads((HERE / "registry.json").read_text(encoding="utf-8"))


def data_directory(data_dir=None) -> Path:
    return (
        Path(data_dir or os.environ.get("KEXUE_DATA_DIR") or HERE / ".cache").expanduser().resolve()
    )


def fetch(name: str, data_dir=None) -> Path:
    """Return the path of the verified file (or unpacked folder) called `name` in registry.json.

    Raises KeyError for a name that is not in the registry, and DownloadError (an OSError) where no
    place has the file.
    """
    entries = registry()
    if name not in entries:
        raise KeyError(
            f"{name}: not in data/registry.json; python data/download.py --list shows the names"
        )
    entry = entries[name]
    folder = data_directory(data_dir)
    tried = []
    local = find_local(entry, folder, tried)
    if local is None:
        get = download_issue if "sums" in entry else download
        local = get(name, entry, folder, tried)
    return unpack(local) if entry.get("unpack") else local


def find_local(entry: dict, folder: Path, tried: list):
    """A verified copy in the data directory, shipped or in an installed package, else None."""
    if "sums" in entry:
        return find_issue(entry, folder, tried)
    places = [folder, HERE / ".cache", HERE]
    candidates = [
        place / (entry["file"] + suffix) for place in dict.fromkeys(places) for suffix in SUFFIXES
    ]
    members = package_files(entry)
    for path in candidates + members[: 1 if len(members) == 1 else 0]:
        if path.is_file():
            plain, problem = check(path, entry)
            if problem:
                tried.append(f"{path}: {problem}")
            elif plain:
                return path
            else:
                return store(
                    entry, [HERE / ".cache", folder], [path]
                )  # a mirror is read, not written
    if (
        len(members) > 1
    ):  # the payload is the members one after the other, in the order of their names
        try:
            return store(entry, [HERE / ".cache", folder], members)
        except ValueError as error:
            tried.append(f"package {entry['package']}: {error}")
    return None


def package_files(entry: dict) -> list:
    """The installed package's files that carry the payload; the package itself is not imported."""
    spec = importlib.util.find_spec(entry["package"]) if "package" in entry else None
    return sorted(Path(spec.origin).parent.glob(entry["member"])) if spec and spec.origin else []


def size_of(entry: dict) -> str:
    if "about" in entry:
        return f"about {entry['about'] / 1e9:.0f} GB"
    return f"{entry['size']:,} bytes" if entry["size"] else "size not published"


def decompressor(path: Path):
    """gzip.open, bz2.open or lzma.open if the file begins as theirs do, else None."""
    with open(path, "rb") as stream:
        start = stream.read(6)
    return next((opener for magic, opener in OPENERS.items() if start.startswith(magic)), None)


def digest(path: Path, opener, entry: dict) -> tuple:
    """(bytes, hash) of what `opener` reads."""
    sha = hashlib.sha256()
    size = 0
    if "sha256" not in entry:  # git hashes the length first, so it must be counted
        with opener(path, "rb") as stream:
            while block := stream.read(1 << 20):
                size += len(block)
        sha = hashlib.sha1(b"blob %d\0" % size)
        size = 0
    with opener(path, "rb") as stream:
        while block := stream.read(1 << 20):
            sha.update(block)
            size += len(block)
    return size, sha.hexdigest()


def check(path: Path, entry: dict) -> tuple:
    """(is the file itself the payload, problem or None).

    No problem and False: it is the payload, compressed.
    """
    known = (
        entry.get("sha256") or entry["git_sha1"]
    )  # git's blob SHA-1 where nobody published a SHA-256
    try:
        size, found = digest(path, open, entry)
        if found == known:
            return True, None
        inner = decompressor(
            path
        )  # a payload may itself be a .gz: only where it is not the payload as it lies
        if inner:
            size, found = digest(path, inner, entry)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        return False, f"cannot be read ({error})"
    if found != known:
        return (
            False,
            f"{size:,} bytes, hash {found[:12]}…, expected {size_of(entry)}, hash {known[:12]}…",
        )
    return False, None


def store(entry: dict, places: list, sources: list) -> Path:
    """Write the payload read from `sources` under its final name, in one move.

    It goes to the first of `places` that can be written. ValueError if it is not the payload.
    """
    for place in places:
        target = place / entry["file"]
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, partial = tempfile.mkstemp(
                dir=target.parent, prefix=target.name, suffix=".part"
            )
        except OSError as error:
            problem = error
            continue
        try:
            with os.fdopen(handle, "wb") as out:
                for source in sources:
                    inner = None if check(source, entry)[0] else decompressor(source)
                    with (inner or open)(source, "rb") as stream:
                        shutil.copyfileobj(stream, out, 1 << 20)
            plain, problem = check(Path(partial), entry)
            if not plain:
                raise ValueError(problem or "compressed more than once")
            os.chmod(partial, 0o644)
            os.replace(partial, target)
            return target
        finally:
            Path(partial).unlink(missing_ok=True)
    raise DownloadError(
        f"cannot write {entry['file']} ({problem}); give a directory you may write with --data-dir "
        "or KEXUE_DATA_DIR"
    )


def download(name: str, entry: dict, folder: Path, tried: list) -> Path:
    """Try the addresses in order; DownloadError with instructions when none gives the payload."""
    if not is_offline(tried):
        import pooch  # here, so that an offline run needs nothing but the standard library

        pooch.get_logger().setLevel("ERROR")
        for url in entry.get("urls", []):
            address, _, member = url.partition("#")
            with tempfile.TemporaryDirectory(prefix="kexue-") as scratch:
                try:
                    got = Path(
                        pooch.retrieve(
                            address,
                            None,
                            fname=PurePosixPath(address).name,
                            path=scratch,
                            downloader=receive,
                        )
                    )
                    return store(entry, [folder], [extract(got, member) if member else got])
                except DownloadError:
                    raise
                except (
                    Exception
                ) as error:  # requests, urllib3, zipfile, tarfile, lzma: each has errors of its own
                    tried.append(failure(address, error))
    raise not_fetched(name, entry, folder / entry["file"], tried)


def is_offline(tried: list) -> bool:
    """Is KEXUE_OFFLINE set? Then `tried` says so."""
    offline = os.environ.get("KEXUE_OFFLINE", "") not in ("", "0")
    if offline:
        tried.append("addresses: not tried, KEXUE_OFFLINE is set")
    return offline


def failure(address: str, error: Exception) -> str:
    return f"{address}: {str(error).splitlines()[0][:200] or type(error).__name__}"


def not_fetched(name: str, entry: dict, place: Path, tried: list) -> DownloadError:
    """What was tried, and where to put the file by hand."""
    facts = [size_of(entry)]
    facts += [f"SHA-256 {entry['sha256']}"] if "sha256" in entry else []
    facts += [f"git blob SHA-1 {entry['git_sha1']}"] if "git_sha1" in entry else []
    package = "\n  or install the package that carries it: pip install "
    return DownloadError(
        f"{name} is not here and could not be fetched. Tried:\n  "
        + "\n  ".join(tried or ["nothing"])
        + f"\nPut the file by hand at {place}\n  ({', '.join(facts)}; see {entry['home']})"
        + (package + entry["pip"] if "pip" in entry else "")
    )


# ---------------------------------------------------------------- published anew every month
def find_issue(entry: dict, folder: Path, tried: list):
    """The newest issue in the data directory that has the hash that came with it, else None.

    One that was put there by hand has none: bzip2 checks it block by block when it is read.
    """
    for path in sorted(folder.glob(entry["file"]), reverse=True):
        beside = path.with_name(path.name + ".sha1")
        if not beside.exists() or sha1_of(path).hexdigest() == beside.read_text().strip():
            return path
        tried.append(f"{path}: its SHA-1 is not that of {beside.name}")
    return None


def sha1_of(path: Path):
    sha = hashlib.sha1()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            sha.update(block)
    return sha


def download_issue(name: str, entry: dict, folder: Path, tried: list) -> Path:
    """Fetch the newest issue that an address has; DownloadError when none gives it."""
    for address in [] if is_offline(tried) else entry["urls"]:
        try:
            issue, sha1 = newest_issue(address, entry)
            date = issue.split("-")[1]
            return receive_issue(f"{address}{date}/{issue}", folder / issue, sha1)
        except DownloadError:
            raise
        except Exception as error:  # those of requests and urllib3
            tried.append(failure(address, error))
    raise not_fetched(name, entry, folder / entry["file"].replace("*", "latest"), tried)


def newest_issue(address: str, entry: dict) -> tuple:
    """(name of a file, its SHA-1) from a list of lines "SHA-1, two blanks, name"."""
    import requests

    listed = requests.get(address + entry["sums"], timeout=TIMEOUT, headers={"User-Agent": AGENT})
    listed.raise_for_status()
    lines = [line.split() for line in listed.text.splitlines()]
    found = [line for line in lines if len(line) == 2 and fnmatch.fnmatch(line[1], entry["file"])]
    if not found or "/" in found[0][1] or "\\" in found[0][1]:
        raise ValueError(f"{entry['sums']} names no {entry['file']}")
    return found[0][1], found[0][0]


def receive_issue(url: str, target: Path, sha1: str) -> Path:
    """Write what the server sends to `target`, on from what an interrupted transfer left."""
    import requests
    from tqdm import tqdm

    partial = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
    except OSError as error:
        told = f"cannot write {target} ({error.strerror}); give a directory you may write with"
        raise DownloadError(f"{told} --data-dir or KEXUE_DATA_DIR") from None
    sha = sha1_of(partial)
    headers = {"Accept-Encoding": "identity", "User-Agent": AGENT}
    here = partial.stat().st_size
    if here:
        headers["Range"] = f"bytes={here}-"
    with requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as response:
        if response.status_code != 416:  # 416: all of it is here
            response.raise_for_status()
            if response.status_code != 206:  # the server sends it from the start
                here = 0
                sha = hashlib.sha1()
            length = here + int(response.headers.get("Content-Length", 0))
            with (
                open(partial, "ab") as out,
                tqdm(total=length, initial=here, unit="B", unit_scale=True, disable=None) as bar,
            ):
                out.truncate(here)
                for block in response.raw.stream(1 << 20, decode_content=False):
                    out.write(block)
                    sha.update(block)
                    bar.update(len(block))
    if sha.hexdigest() != sha1:
        partial.unlink()
        raise ValueError(f"SHA-1 {sha.hexdigest()[:12]}…, expected {sha1[:12]}…")
    target.with_name(target.name + ".sha1").write_text(sha1 + "\n")
    os.replace(partial, target)
    return target


def receive(url: str, path, pooch) -> None:
    """Write the bytes that the server sends to `path`, as they come.

    Some mirrors say of x.gz that its encoding is gzip, and a client that believes them decodes it:
    the file that arrives is not the one that was asked for. The content is looked at instead (see
    `decompressor`).
    """
    import requests

    headers = {"Accept-Encoding": "identity"}
    with requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as response:
        response.raise_for_status()
        with open(path, "wb") as out:
            for block in response.raw.stream(1 << 20, decode_content=False):
                out.write(block)


def extract(archive: Path, member: str) -> Path:
    """Copy a member of a zip or tar beside it; `outer.zip!inner` is one of a nested archive."""
    outer, _, inner = member.partition("!")
    target = archive.with_name("member-" + PurePosixPath(outer).name)
    opener = (
        None
        if zipfile.is_zipfile(archive) or tarfile.is_tarfile(archive)
        else decompressor(archive)
    )
    if opener:  # an archive that was compressed once more on its way
        plain = archive.with_name("plain-" + archive.name)
        with opener(archive, "rb") as stream, open(plain, "wb") as out:
            shutil.copyfileobj(stream, out, 1 << 20)
        archive = plain
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as box, box.open(outer) as stream, open(target, "wb") as out:
            shutil.copyfileobj(stream, out)
    else:
        with (
            tarfile.open(archive) as box,
            box.extractfile(outer) as stream,
            open(target, "wb") as out,
        ):
            shutil.copyfileobj(stream, out)
    return extract(target, inner) if inner else target


def unpack(archive: Path) -> Path:
    """Unpack a verified zip file into a folder beside it; refuse members that point outside."""
    folder = archive.with_suffix("")
    if folder.is_dir():
        return folder
    with (
        tempfile.TemporaryDirectory(dir=archive.parent, suffix=".part") as scratch,
        zipfile.ZipFile(archive) as box,
    ):
        for member in box.namelist():
            path = PurePosixPath(member.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
                raise DownloadError(
                    f"{archive}: member {member!r} points outside its folder; nothing was unpacked"
                )
        box.extractall(scratch)
        inside = [path for path in Path(scratch).iterdir() if path.name != "__MACOSX"]
        try:
            os.replace(inside[0] if len(inside) == 1 and inside[0].is_dir() else scratch, folder)
        except OSError:
            if not folder.is_dir():  # another process was first: its folder serves as well
                raise
        Path(scratch).mkdir(exist_ok=True)  # for the clean-up when the whole folder was moved
    return folder


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="files or groups (mnist, dsmts, …) to fetch"
    )
    parser.add_argument("--list", action="store_true", help="list the registry")
    parser.add_argument("--verify", action="store_true", help="hash every file that is here")
    parser.add_argument(
        "--data-dir", type=Path, help="where data lie (else KEXUE_DATA_DIR, else data/.cache)"
    )
    args = parser.parse_args(argv)
    entries = registry()
    wanted = [
        name
        for name in entries
        for asked in args.names
        if name == asked or name.startswith(asked + "-")
    ]
    for asked in args.names:
        if not any(name == asked or name.startswith(asked + "-") for name in entries):
            parser.error(f"{asked}: no such name; --list shows them all")
    if not (args.names or args.list or args.verify):
        parser.error("nothing to do: give names, --list or --verify")
    failed = 0
    for name in entries if args.list or args.verify else []:
        tried = []
        entry = entries[name]
        path = find_local(entry, data_directory(args.data_dir), tried)
        state = "ok" if path else "WRONG" if tried else "absent"
        failed += state == "WRONG"
        if args.list:
            print(f"{name:24} {size_of(entry):>18}  {state:6}  {entry['licence']}  {entry['home']}")
        elif state != "absent":
            print(f"{name:24} {state:6} {path or tried[0]}")
    for name in dict.fromkeys(wanted):
        try:
            print(f"{name}: {fetch(name, args.data_dir)}")
        except DownloadError as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
    return 2 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # --list | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
