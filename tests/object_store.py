"""An S3-compatible server on loopback, and what is asked of it."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from zarr.core.sync import _get_loop

boto3 = pytest.importorskip("boto3")
ThreadedMotoServer = pytest.importorskip("moto.server").ThreadedMotoServer
S3FileSystem = pytest.importorskip("s3fs").S3FileSystem

BUCKET = "runs"
REQUEST = re.compile(r'"(?:\x1b\[\d+m)*([A-Z]+) (\S+) HTTP')


class Requests(logging.Handler):
    """Method and path of every request that the server answered."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if found := REQUEST.search(record.getMessage()):
            self.made.append((found[1], found[2]))


@contextmanager
def object_store() -> Iterator[Requests]:
    """The server with one empty bucket; clients find it by the environment."""
    requests, log = Requests(), logging.getLogger("werkzeug")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        server.start()
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "phantom")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "phantom")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        log.addHandler(requests)
        try:
            boto3.client("s3").create_bucket(Bucket=BUCKET)
            yield requests
        finally:
            log.removeHandler(requests)
            forget_clients()
            server.stop()


def forget_clients() -> None:
    """Close the connections of all clients, so that the next ones read the environment anew."""
    for client in S3FileSystem._cache.values():
        if client._s3 is not None:
            S3FileSystem.close_session(_get_loop() if client.asynchronous else client.loop, client._s3creator)
    S3FileSystem.clear_instance_cache()
