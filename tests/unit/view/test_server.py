"""The page of `medrobust view`: every case of a run, and nothing else of this machine."""

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser
from typer.testing import CliRunner

import made_studies
from browsing import WIDTH, flawless
from medrobust import api
from medrobust.cli import app
from medrobust.errors import RunError
from medrobust.report.explorer import read_explorer
from medrobust.view.server import LOOPBACK, Server, numbers, open_viewer

pytestmark = pytest.mark.usefixtures("blank_figures")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> api.Run:
    study = made_studies.segmentation(tmp_path_factory.mktemp("study"))
    content = yaml.safe_load(study.read_text(encoding="utf-8"))
    content["crafting"] = {"selftest": False}
    content["report"] = {"hardest": 1, "typical": 1, "slices": 2}
    study.write_text(yaml.safe_dump(content), encoding="utf-8")
    return api.run(study, out=tmp_path_factory.mktemp("run"), device="cpu")


def opened(run: api.Run) -> Server:
    return open_viewer(run.study, run.folder, run.results, device="cpu")


@pytest.fixture(scope="module")
def server(run: api.Run) -> Iterator[Server]:
    with opened(run) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def ask(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    connection = HTTPConnection(LOOPBACK, server.server_port, timeout=60)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, dict(answer.getheaders())


def frame(server: Server, **places: int) -> dict[str, Any]:
    status, content, _ = ask(server, "/frame?" + "&".join(f"{key}={value}" for key, value in places.items()))
    assert status == 200, content
    shown: dict[str, Any] = json.loads(content)
    return shown


def test_it_shows_all_cases_and_the_same_as_the_report(server: Server, run: api.Run) -> None:
    index = server.gallery.index()
    kept = read_explorer(run.folder, run.results, 10**7)
    assert kept is not None
    assert [scan["id"] for scan in index["scans"]] == sorted(run.results.rows["scan_id"].unique())
    assert [len(scan["frames"]) for scan in index["scans"]] == [3, 3]
    assert len(kept["index"]["scans"][0]["frames"]) == 2
    white = [each["source"] for each in index["sets"] if each["source"].endswith("(white-box)")]
    assert white == ["sharp (white-box)", "blurred (white-box)"]

    scan = [each["id"] for each in index["scans"]].index(kept["index"]["scans"][0]["id"])
    names = index["scans"][scan]["frames"]
    for place, name in enumerate(kept["index"]["scans"][0]["frames"]):
        whole = kept["frames"][0][place]
        for pair, (number, target) in enumerate(kept["index"]["pairs"]):
            known = kept["index"]["sets"][number]
            here = frame(
                server, scan=scan, frame=names.index(name), set=index["sets"].index(known), target=target
            )
            assert here["clean"] == whole["clean"]
            assert here["truth"] == whole["truth"]
            assert here["changes"] == [whole["changes"][place] for place in (0, number)]
            assert here["largest"] == [whole["largest"][place] for place in (0, number)]
            pairs = (kept["index"]["pairs"].index([0, target]), pair)
            assert here["answers"] == [whole["answers"][place] for place in pairs]
            assert here["overlap"] == [whole["overlap"][place] for place in pairs]


def test_a_white_box_attack_is_shown_to_its_own_target_only(server: Server) -> None:
    index = server.gallery.index()
    place = [each["source"] for each in index["sets"]].index("blurred (white-box)")
    assert [pair for pair in index["pairs"] if pair[0] == place] == [[place, 1]]
    assert frame(server, scan=0, frame=0, set=place, target=1)["changes"][1]
    assert ask(server, f"/frame?scan=0&frame=0&set={place}&target=0")[0] == 400


@pytest.mark.parametrize(
    "query",
    [
        "",
        "scan=0&frame=0&set=0",
        "scan=0&frame=0&set=0&target=0&more=1",
        "scan=0&scan=1&frame=0&set=0&target=0",
        "scan=-1&frame=0&set=0&target=0",
        "scan=99&frame=0&set=0&target=0",
        "scan=0&frame=3&set=0&target=0",
        "scan=0&frame=0&set=99&target=0",
        "scan=1.0&frame=0&set=0&target=0",
        "scan=%D9%A3&frame=0&set=0&target=0",
        "scan=" + "9" * 5000 + "&frame=0&set=0&target=0",
        "scan=../study.yaml&frame=0&set=0&target=0",
    ],
)
def test_what_is_no_image_is_refused(server: Server, query: str) -> None:
    status, content, _ = ask(server, f"/frame?{query}")
    assert status == 400
    assert b"Traceback" not in content
    assert len(content) < 200


@pytest.mark.parametrize(
    "path",
    ["/study.yaml", "/../study.yaml", "/%2e%2e/study.yaml", "//etc/passwd", "/frame/", "/index.html", "/.."],
)
def test_no_path_reaches_the_files(server: Server, path: str) -> None:
    assert ask(server, path)[:2] == (404, b"There is nothing here.")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
def test_only_get_is_answered(server: Server, method: str) -> None:
    assert ask(server, "/", method)[0] == 501


def test_pages_of_others_cannot_read_it(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert ask(server, "/", Host="evil.example")[0] == 403
    assert ask(server, "/", Host=f"localhost:{server.server_port}")[0] == 200
    status, _, headers = ask(server, "/")
    assert status == 200
    assert "Access-Control-Allow-Origin" not in headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2]
    assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")


def test_four_whole_numbers_are_read() -> None:
    assert numbers("scan=1&frame=02&set=3&target=4") == {"scan": 1, "frame": 2, "set": 3, "target": 4}
    with pytest.raises(ValueError, match="asked for scan; needs scan, frame, set, target"):
        numbers("scan=1")
    with pytest.raises(ValueError, match="set must be one whole number"):
        numbers("scan=1&frame=2&set=x&target=4")


def test_nothing_is_written(server: Server, run: api.Run) -> None:
    def files() -> dict[str, int]:
        root = run.folder.local()
        return {str(path): path.stat().st_mtime_ns for path in Path(root).rglob("*") if path.is_file()}

    before = files()
    frame(server, scan=1, frame=1, set=3, target=1)
    assert files() == before


def test_other_weights_are_told(run: api.Run) -> None:
    with opened(run) as served:
        setup = served.gallery._plan.setup
        network = setup.network(setup.targets[0])
        next(network.parameters()).data.add_(1)
        with pytest.raises(RunError, match="was made with other weights of 'sharp-target-s0'"):
            served.gallery.frame(scan=0, frame=0, set=1, target=0)


def test_other_data_are_refused(run: api.Run) -> None:
    record = {**run.results.record, "data": {**run.results.record["data"], "fingerprint": "x"}}
    other = replace(run.results, record=record)
    with pytest.raises(RunError, match=r"made with other data .* folder of its data with --data"):
        open_viewer(run.study, run.folder, other, device="cpu")


def test_the_command_says_where_the_page_is_and_ends_quietly(
    run: api.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Server) -> None:
        assert self.server_address[0] == LOOPBACK
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "serve_forever", interrupted)
    done = CliRunner().invoke(app, ["view", run.folder.url, "--device", "cpu"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert re.fullmatch(r"Open http://127\.0\.0\.1:\d+/ in your browser; Ctrl-C ends it\.\n", done.stdout)


def test_a_port_that_is_taken_is_said(run: api.Run, server: Server) -> None:
    done = CliRunner().invoke(
        app, ["view", run.folder.url, "--device", "cpu", "--port", str(server.server_port)]
    )
    assert done.exit_code == 1
    assert done.stderr.startswith(
        f"Error: --port: {server.server_port} is not available (Address already in use)."
    )


def test_the_page_asks_this_machine_only_and_for_what_is_looked_at(chromium: Browser, server: Server) -> None:
    asked: list[str] = []
    with flawless(
        chromium.new_page(viewport={"width": 400, "height": 844}), ("data:", server.address)
    ) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{server.address}#explorer?case=brain001&target=blurred&perturbation=dag_b&source=sharp")
        page.locator("#explorer-view canvas").first.wait_for()
        assert page.evaluate(WIDTH) == 400
    assert asked[0].startswith(server.address)
    assert sum("/frame?" in address for address in asked) == 1
