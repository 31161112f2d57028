"""What an object store promises to a run folder, and what is said where there is none."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from medrobust.errors import RunError
from medrobust.storage import RunFolder
from medrobust.storage.lock import OWNER, STALE, _claim, locked
from object_store import BUCKET, forget_clients, object_store

pytestmark = pytest.mark.slow

AT_ONCE = 6


@pytest.fixture(scope="module", autouse=True)
def store() -> Iterator[None]:
    with object_store():
        yield


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> RunFolder:
    return RunFolder(f"s3://{BUCKET}/{request.node.name}")


def test_of_many_that_create_a_file_at_once_one_does(folder: RunFolder) -> None:
    barrier = threading.Barrier(AT_ONCE)

    def create(number: int) -> bool:
        barrier.wait()
        return folder.create_json(number, "lock.json")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        made = list(pool.map(create, range(AT_ONCE)))
    assert made.count(True) == 1
    assert folder.read_json("lock.json") == made.index(True)


def test_a_second_process_is_refused(folder: RunFolder) -> None:
    with (
        locked(folder),
        pytest.raises(RunError, match="Another medrobust process is working"),
        locked(folder),
    ):
        pytest.fail("two at a time")
    with locked(folder):
        pass
    assert folder.names() == []


def test_of_many_that_take_over_a_stale_claim_at_once_one_does(folder: RunFolder) -> None:
    stale = {"host": "gone", "process": 1, "renewed": time.time() - STALE - 1}
    folder.write_json(stale, OWNER)
    barrier = threading.Barrier(AT_ONCE)

    def claim(_: int) -> bool:
        barrier.wait()
        try:
            _claim(folder, OWNER)
        except RunError:
            return False
        return True

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert sum(pool.map(claim, range(AT_ONCE))) == 1
    assert folder.names() == [OWNER]


def test_a_claim_on_a_stale_one_may_itself_be_stale(folder: RunFolder) -> None:
    folder.write_json({"host": "gone", "renewed": time.time() - STALE - 1}, OWNER)
    with pytest.MonkeyPatch.context() as patch:  # killed while it took over
        patch.setattr(RunFolder, "remove", lambda *_: None)
        patch.setattr(RunFolder, "write_json", lambda *_: None)
        _claim(folder, OWNER)
    assert len(folder.names()) == 2
    with pytest.raises(RunError, match="Another medrobust process is working"):
        _claim(folder, OWNER)
    (ticket,) = (name for name in folder.names() if name != OWNER)
    folder.write_json(folder.read_json(ticket) | {"renewed": 0}, ticket)
    _claim(folder, OWNER)
    assert folder.names() == [OWNER]


def test_a_bucket_is_never_made() -> None:
    with pytest.raises(RunError, match=r"there is no 'typo'. Create it first"):
        RunFolder("s3://typo/run").write_json({}, "card.json")
    assert not RunFolder("s3://typo").exists()


def test_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "none")
    forget_clients()
    try:
        with pytest.raises(RunError, match=r"NoCredentialsError.*your credentials"):
            RunFolder(f"s3://{BUCKET}/run").exists("study.yaml")
    finally:
        forget_clients()
