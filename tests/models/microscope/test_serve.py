"""The live microscope: it answers only requests from its own page."""

import http.client
import json
import threading

import pytest
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.microscope.page.serve import MicroscopeServer
from tinygrad_attn_models.runs.folder import Run


@pytest.fixture(scope="module")
def server(trained):
    found = MicroscopeServer(*Run.load(trained), {"source": "2026"})
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()


def ask(server, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    content = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
    connection.request(method, path, content, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def rerun(server, body):
    status, answer = ask(server, "POST", "/run", body, X_Microscope_Token=server.token)
    return status, json.loads(answer)


def test_the_page_may_ask_this_server_only(server):
    status, page = ask(server, "GET", "/")
    assert status == 200 and "connect-src 'self'" in page and server.token in page
    assert server.server_address[0] == "127.0.0.1"


def test_another_sentence_a_target_and_a_nudged_weight(server):
    status, plain = rerun(server, {"source": "11", "target": "2026-11-22"})
    assert status == 200 and plain["source"]["text"] == "11" and plain["check"]["ok"]
    nudge = {"parameter": "output.bias", "index": [4], "by": 0.5}
    status, moved = rerun(server, {"source": "11", "target": "2026-11-22", "nudge": nudge})
    assert status == 200 and moved["meta"]["loss"] != plain["meta"]["loss"]
    assert rerun(server, {"source": "11", "target": "2026-11-22"})[1]["meta"]["loss"] == plain["meta"]["loss"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "127.0.0.1"])
def test_other_hosts_are_refused(server, host):
    status, answer = ask(server, "GET", "/", Host=host)
    assert status == 403 and server.token not in answer


@pytest.mark.parametrize("token", ["", "wrong", "안녕".encode().decode("latin-1")])
def test_others_cannot_run_the_model(server, token):
    status, answer = ask(server, "POST", "/run", {"source": "11"}, X_Microscope_Token=token)
    assert status == 403 and "error" in json.loads(answer)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "Expecting"),
        (b"\xff", "utf-8"),
        ([1], "expected an object, got list"),
        ({}, "source must be a text"),
        ({"source": ""}, "source is empty"),
        ({"source": "1", "target": 3}, "target must be a text or null, got int"),
        ({"source": "1", "nudge": 3}, "nudge must be an object"),
        ({"source": "1", "nudge": {"parameter": "no"}}, "no parameter 'no'"),
        ({"source": "1" * 300}, "300 symbols"),
    ],
)
def test_mistakes_get_one_message(server, body, message):
    status, answer = rerun(server, body)
    assert status == 400 and message in answer["error"]


def test_large_requests_and_unknown_paths(server):
    assert ask(server, "GET", "/etc/passwd")[0] == 404
    assert ask(server, "POST", "/other", {}, X_Microscope_Token=server.token)[0] == 404
    assert ask(server, "POST", "/run", b"1" * 100_001, X_Microscope_Token=server.token)[0] == 413


def test_options_that_do_not_go_together(trained, capsys):
    assert main(["microscope", str(trained), "2026", "--serve", "--out", "page.html"]) == 2
    assert "--serve" in capsys.readouterr().err
