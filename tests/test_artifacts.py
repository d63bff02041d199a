"""Artifacts: what is kept of a folder, and where; on a folder and on a bucket that speaks S3."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkit import artifacts
from jobkit.artifacts import FolderStore, Found, Store, collect, default_url, is_safe, open_store
from jobkit.errors import ArtifactsUnavailable, BadInput, NotFound

KILO = 1000


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """What an attempt left: two files, one of them in a folder."""
    folder = tmp_path / "left"
    (folder / "plots").mkdir(parents=True)
    (folder / "rows.csv").write_bytes(b"a,b\n1,2\n")
    (folder / "plots" / "über 100%.png").write_bytes(b"\x89PNG")
    return folder


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of a server that speaks S3 on this machine."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty bucket, as a setting names it."""
    import urllib.request

    for name, value in {
        "AWS_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{os.urandom(6).hex()}"
    request = urllib.request.Request(f"{s3}/{name}", method="PUT")
    urllib.request.urlopen(request).close()
    return f"s3://{name}/team/jobkit"


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return open_store(str(tmp_path / "kept"))
    return open_store(request.getfixturevalue("bucket"))


def test_what_a_folder_holds_is_found_with_size_hash_and_type(left: Path) -> None:
    files = {file.name: file for file in collect(left, KILO).files}
    assert list(files) == ["rows.csv", "plots/über 100%.png"]
    rows = files["rows.csv"]
    assert (rows.size_bytes, rows.media_type) == (8, "text/csv")
    assert rows.sha256 == hashlib.sha256(b"a,b\n1,2\n").hexdigest()
    assert files["plots/über 100%.png"].media_type == "image/png"
    assert collect(left, KILO).left_out == ""


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("a.parquet", "application/vnd.apache.parquet"),
        ("a.ipynb", "application/x-ipynb+json"),
        ("a.PNG", "image/png"),
        ("a.csv.gz", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ],
)
def test_the_type_is_told_by_the_name(name: str, type_: str) -> None:
    assert artifacts.media_type(name) == type_


@pytest.mark.skipif(sys.platform == "win32", reason="needs links, pipes and odd names")
def test_links_pipes_and_odd_names_are_left_out(left: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (left / "link").symlink_to(tmp_path / "secret")
    (left / "folder").symlink_to(tmp_path)
    os.mkfifo(left / "pipe")
    (left / "new\nline").write_text("x")
    (left / "back\\slash").write_text("x")
    (left / os.fsdecode(b"no\xffutf8")).write_text("x")
    found = collect(left, KILO)
    assert [file.name for file in found.files] == ["rows.csv", "plots/über 100%.png"]
    assert found.left_out == (
        "artifacts left out: 6 that are links, cannot be read or have odd names"
    )


def test_what_is_too_large_or_too_much_is_left_out_and_said_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "left"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.bin").write_bytes(b"x" * (2000 if number == 1 else 300))
    found = collect(folder, KILO)
    assert [file.name for file in found.files] == ["0.bin", "2.bin", "3.bin"]
    assert found.left_out == (
        "artifacts left out: 1.bin (2.0 kB), 4.bin (300 B): "
        "an attempt may leave 1.0 kB (JOBKIT_ARTIFACTS_LIMIT)"
    )
    assert collect(folder, 10 * KILO, most_files=4).left_out == (
        "artifacts left out: 1 files after the first 4"
    )


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert collect(tmp_path / "gone", KILO).files == ()


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../a",
        "a/../b",
        "/a",
        "a//b",
        "a/",
        "a\\b",
        "a\x00",
        "a\nb",
        "\u202ea",
        "é" * 200,
        "/".join(["abcdefgh"] * 70),
    ],
)
def test_a_hostile_name_is_refused(name: str, tmp_path: Path) -> None:
    assert not is_safe(name)
    (tmp_path / "x").write_text("x")
    hostile = Found(name, tmp_path / "x", 1, "", "")
    with pytest.raises(BadInput, match="cannot name an artifact"):
        open_store(str(tmp_path / "kept")).put(1, 1, hostile)
    assert not (tmp_path / "kept").exists()


@given(st.text(max_size=40))
def test_a_safe_name_stays_below_its_folder(name: str) -> None:
    if is_safe(name):
        base = Path("/base/runs/1/1")
        assert Path(os.path.normpath(base / name)).is_relative_to(base)
        assert str(base / name) == f"{base}/{name}"


def test_what_is_kept_can_be_read_again(store: Store, left: Path) -> None:
    kept = store.keep(7, 2, collect(left, KILO).files)
    assert [item.name for item in kept] == ["rows.csv", "plots/über 100%.png"]
    assert all(item.url.startswith(f"{store.url}/runs/7/2/") for item in kept)
    assert [store.read(item.url) for item in kept] == [b"a,b\n1,2\n", b"\x89PNG"]
    with store.open(kept[0].url) as file:
        assert file.read(3) == b"a,b"
        assert file.read() == b"\n1,2\n"


def test_a_large_file_passes_in_pieces(store: Store, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 7
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "large.bin").write_bytes(data)
    (kept,) = store.keep(1, 1, collect(tmp_path / "large", len(data)).files)
    assert store.read(kept.url) == data


@pytest.mark.parametrize(
    "name", ["a b.txt", "a%20b", "a#b?c", "~a", "[x]*{y}", "a:b", "ü/日本.csv"]
)
def test_names_survive_the_way_there_and_back(store: Store, tmp_path: Path, name: str) -> None:
    path = tmp_path / "file"
    path.write_text(name)
    url = store.put(1, 1, Found(name, path, 1, "", ""))
    other = store.put(1, 1, Found("a%2520b", path, 1, "", ""))
    assert url.isascii()
    assert store.read(url).decode() == name
    store.delete([other])
    assert store.read(url).decode() == name


def test_deleting_twice_is_no_fault(store: Store, left: Path) -> None:
    urls = [item.url for item in store.keep(1, 1, collect(left, KILO).files)]
    assert store.delete(urls) == 0
    assert store.delete(urls) == 0
    assert store.delete([]) == 0
    for url in urls:
        with pytest.raises(NotFound, match="is not there"):
            store.read(url)


def test_keeping_twice_leaves_the_second(store: Store, left: Path) -> None:
    (first, *_) = [store.keep(1, 1, collect(left, KILO).files) for _ in range(2)]
    assert store.read(first[0].url) == b"a,b\n1,2\n"


def test_the_address_of_another_store_is_neither_read_nor_deleted(
    store: Store, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    hostile = [
        secret.as_uri(),
        f"{store.url}/runs/../../secret",
        f"{store.url}/runs/%2e%2e/%2e%2e/secret",
        f"{store.url}/runs//{secret}",
        f"{store.url}-else/runs/1/1/a",
        "s3://elsewhere/runs/1/1/a",
    ]
    assert store.delete(hostile) == len(hostile)
    assert secret.exists()
    for url in hostile:
        with pytest.raises(NotFound, match="is not kept in"):
            store.open(url)


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
def test_a_link_planted_in_the_folder_leads_nowhere(tmp_path: Path, left: Path) -> None:
    store = open_store(str(tmp_path / "kept"))
    (kept, _) = store.keep(1, 1, collect(left, KILO).files)
    (tmp_path / "secret").write_text("secret")
    attempt = tmp_path / "kept" / "runs" / "1" / "1"
    (attempt / "file").symlink_to(tmp_path / "secret")
    (attempt / "folder").symlink_to(tmp_path)
    for name in ("file", "folder/secret"):
        with pytest.raises((NotFound, ArtifactsUnavailable)):
            store.open(kept.url.replace("rows.csv", name))


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_the_folder_is_for_its_owner_only(tmp_path: Path, left: Path) -> None:
    left.chmod(0o777)
    open_store(str(tmp_path / "deep" / "kept")).keep(1, 1, collect(left, KILO).files)
    for path in (tmp_path / "deep" / "kept", *(tmp_path / "deep" / "kept").rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_an_upload_that_dies_half_way_leaves_nothing_to_be_seen(
    tmp_path: Path, left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(str(tmp_path / "kept"))

    def dies(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", dies)
    with pytest.raises(ArtifactsUnavailable, match="No space left"):
        store.keep(1, 1, collect(left, KILO).files)
    assert [path for path in (tmp_path / "kept").rglob("*") if path.is_file()] == []


def test_what_is_swept_is_gone_with_its_folders(tmp_path: Path, left: Path) -> None:
    store = open_store(str(tmp_path / "kept"))
    urls = [item.url for item in store.keep(1, 1, collect(left, KILO).files)]
    store.keep(2, 1, collect(left, KILO).files)  # of a result that never came
    store.keep(3, 1, collect(left, KILO).files)
    half = tmp_path / "kept" / ".halves" / "left by a crash"
    half.write_text("half")
    os.utime(half, (time.time() - 2 * artifacts.STALE_SECONDS,) * 2)
    artifacts.sweep(store, [1, 2], urls)
    artifacts.sweep(store, [1, 2], urls)
    assert [path.name for path in (tmp_path / "kept" / "runs").iterdir()] == ["3"]
    assert not half.exists()


def test_a_store_that_is_away_holds_up_no_clean_up(
    bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(artifacts, "RETRY_SECONDS", 0.1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    store = open_store(bucket)
    artifacts.sweep(store, [1], [f"{bucket}/runs/1/1/a"])
    assert "Artifacts of old runs stay" in caplog.text
    with pytest.raises(ArtifactsUnavailable, match="cannot be read"):
        store.open(f"{bucket}/runs/1/1/a")


def test_a_bucket_that_does_not_exist_is_a_clear_message(bucket: str, left: Path) -> None:
    store = open_store("s3://no-such-bucket/x")
    with pytest.raises(ArtifactsUnavailable, match="cannot be kept: NoSuchBucket: The specified"):
        store.keep(1, 1, collect(left, KILO).files)


def test_a_bucket_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(BadInput, match=r"pip install 'jobkit\[s3\]'"):
        open_store("s3://bucket/prefix")


@pytest.mark.parametrize("url", ["ftp://host/x", "s3://", "file://host/x"])
def test_a_place_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(BadInput, match="no place for artifacts"):
        open_store(url)


def test_the_default_place_is_beside_a_file_and_else_named_by_the_database() -> None:
    assert default_url("sqlite:////data/jobkit.db?x=1") == "/data/jobkit.db.artifacts"
    assert default_url("sqlite:///jobkit.db") == str(Path("jobkit.db.artifacts").absolute())
    shared = default_url("postgresql+psycopg://ann:secret@db:5432/team")
    assert Path(shared).parent == Path.home() / ".local/share/jobkit/artifacts"
    assert shared == default_url("postgresql://bob:other@db:5432/team?sslmode=require")
    assert shared != default_url("postgresql://ann:secret@db:5432/other")
    assert Path(default_url("sqlite://")).parent == Path(shared).parent


def test_both_ways_to_name_a_folder_are_one_store(tmp_path: Path) -> None:
    named = open_store(str(tmp_path / "a b"))
    assert isinstance(named, FolderStore)
    assert open_store(named.url).url == named.url
