"""The live microscope: it answers only requests from its own page."""

import contextlib
import http.client
import json
import socket
import threading

import pytest
from commands import refused
from tinygrad_attn_models import load
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.microscope.page import serve
from tinygrad_attn_models.microscope.page.serve import MicroscopeServer
from tinygrad_attn_models.microscope.record import sentences
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
        (b"\xff", "not UTF-8"),
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


@pytest.mark.parametrize(
    "body",
    [
        *(b"[" * 99_000, b'{"a":' * 19_000, b"1" * 99_000),
        b'{"source": "1", "nudge": {"parameter": "output.bias", "index": [4], "by": 1e999}}',
        b'{"source": "1", "nudge": {"parameter": "output.bias", "index": [99999999999999999999], "by": 1}}',
        b'{"source": "1", "nudge": {"parameter": "output.bias", "index": [[]], "by": 1}}',
        b'{"source": "1", "nudge": {"parameter": [], "index": [4], "by": true}}',
        b'{"source": "\\ud800"}',
    ],
)
def test_bodies_that_are_meant_to_harm(server, capsys, body):
    status, answer = rerun(server, body)
    assert status == 400 and len(answer["error"]) < 700
    assert capsys.readouterr().err == ""


def raw(server, content, close=True):
    """What the server answers to these bytes."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=60) as connection:
        connection.sendall(content)
        if close:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(65536):
            received += part
    return received.decode()


def request(server, length, body):
    head = f"POST /run HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\nX-Microscope-Token: {server.token}\r\n"
    return f"{head}Content-Length: {length}\r\n\r\n{body}".encode()


def test_a_body_that_ends_early_or_never(server, monkeypatch):
    assert "the request ends after 2 of 100 bytes" in raw(server, request(server, 100, "{}"))
    with monkeypatch.context() as impatient:
        impatient.setattr(serve._Handler, "timeout", 0.2)
        # On a slow machine even the request may come too late.
        answers = [raw(server, request(server, 100, "{}"), close=False) for _ in range(5)]
    assert "408" in next(answer for answer in answers if answer).splitlines()[0]
    for length in ("-1", "+2", "1_0", "x", "²"):
        assert "411" in raw(server, request(server, length, "{}")).splitlines()[0], length
    assert "413" in raw(server, request(server, "9" * 5000, "{}")).splitlines()[0]


@pytest.mark.slow
def test_connections_that_say_nothing_are_closed(server, monkeypatch):
    patient = serve._Handler.timeout
    monkeypatch.setattr(serve._Handler, "timeout", 0.5)
    before = threading.active_count()
    silent = [socket.create_connection(("127.0.0.1", server.server_port), timeout=60) for _ in range(80)]
    try:
        assert threading.active_count() <= before + serve._MOST_CONNECTIONS
        for connection in silent:
            with contextlib.suppress(ConnectionError):
                assert connection.recv(1) == b""  # closed by the server
    finally:
        for connection in silent:
            connection.close()
    monkeypatch.setattr(serve._Handler, "timeout", patient)
    assert ask(server, "GET", "/")[0] == 200


@pytest.mark.parametrize("content", [b"\0\n\n", b"GET\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
                                     b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n"])  # fmt: skip
def test_what_is_no_request_is_refused_in_one_message(server, content):
    head, _, body = raw(server, content).partition("\r\n\r\n")
    assert " 4" in head.splitlines()[0] or " 5" in head.splitlines()[0]
    assert "Python" not in head and "error" in json.loads(body)


def test_every_answer_has_the_safe_headers(server):
    for method, path, headers in (("GET", "/", {}), ("HEAD", "/", {}), ("GET", "/x", {}), ("POST", "/run", {}),
                                  ("GET", "/", {"Host": "evil.example"}), ("OPTIONS", "/", {})):  # fmt: skip
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        found = {name: answer.headers[name] for name in serve._SAFE_HEADERS}
        assert found == serve._SAFE_HEADERS
        assert found["X-Frame-Options"] == "DENY"
        assert (answer.read() == b"") == (method == "HEAD")


def test_a_port_that_is_taken(server, trained, capsys):
    port = server.server_port
    refused(capsys, ["microscope", trained, "2026", "--serve", "--port", port],
            f"port {port} cannot be used: Address already in use; choose another with --port")  # fmt: skip
    refused(capsys, ["microscope", trained, "2026", "--port", port], "give --serve too")
    refused(capsys, ["microscope", trained, "2026", "--serve", "--port", "65536"], "--port", "0 to 65,535")


def test_the_browser_is_opened_when_asked_for(trained, capsys, monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or len(opened) < 3)
    monkeypatch.setattr(MicroscopeServer, "serve_forever", lambda self: None)
    page = tmp_path / "a b.html"
    assert main(["microscope", str(trained), "2026", "--out", str(page), "--open"]) == 0
    assert main(["microscope", str(trained), "2026", "--serve", "--open"]) == 0
    assert opened[0] == page.as_uri() and opened[1].startswith("http://127.0.0.1:")
    assert main(["microscope", str(trained), "2026", "--out", str(page), "--open"]) == 0
    assert "note: no browser could be opened; the page is at file://" in capsys.readouterr().err
    refused(capsys, ["microscope", trained, "2026", "--view", "term", "--open"], "--open opens the page")


def test_the_result_is_short_in_a_console(trained):
    shown = repr(load(trained).microscope("2026", "2020-01-01"))
    assert shown.startswith("<Microscope '2026' → '2020-01-01', loss ") and len(shown) < 200


def test_large_requests_and_unknown_paths(server):
    assert ask(server, "GET", "/etc/passwd")[0] == 404
    assert ask(server, "POST", "/other", {}, X_Microscope_Token=server.token)[0] == 404
    assert ask(server, "POST", "/run", b"1" * 100_001, X_Microscope_Token=server.token)[0] == 413


def test_options_that_do_not_go_together(trained, capsys):
    command = ["microscope", trained, "2026", "--serve"]
    refused(capsys, [*command, "--out", "page.html"], "leave out --out, or --serve")
    refused(capsys, [*command, "--out", "a.html", "--worksheet", "b.html"], "leave out --out and --worksheet")
    refused(capsys, [*command, "--view", "term"], "leave out --view")


def test_averages_are_served_too_and_follow_the_weights(trained, capsys, monkeypatch, tmp_path):
    """Those of the run's weights are found once; a nudged model has averages of its own."""
    lines = tmp_path / "lines.txt"
    lines.write_text("4 May 2026\t2026-05-04\n2 June 1990\t1990-06-02\n", encoding="utf-8")
    followed, answers = [], []
    follow = sentences.follow_others
    monkeypatch.setattr(sentences, "follow_others", lambda *given: followed.append(given[1]) or follow(*given))

    def asked(server):
        nudge = {"parameter": "output.bias", "index": [4], "by": 0.5}
        requests = ({"source": "11"}, {"source": "11", "nudge": nudge}, {"source": "2026", "target": "2026-01-01"})
        answers.extend(server.rerun(request)["sentences"] for request in requests)
        answers.append(server.page.decode())

    monkeypatch.setattr(MicroscopeServer, "serve_forever", asked)
    assert main(["microscope", str(trained), "2026", "--serve", "--file", str(lines)]) == 0
    other, nudged, another, page = answers
    losses = [next(curve for curve in each["curves"] if curve["name"] == "loss") for each in (other, nudged, another)]
    assert len(followed) == 2 and '"split":"given"' in page.replace(" ", "")
    assert losses[0]["mean"] == losses[2]["mean"] != losses[1]["mean"] and losses[0]["own"] != losses[2]["own"]
    assert [each["count"] for each in (other, nudged, another)] == [2, 2, 2]


def test_a_wrong_derivative_and_a_run_beside_are_served_too(trained, monkeypatch):
    found = []
    monkeypatch.setattr(MicroscopeServer, "serve_forever", lambda self: found.append(self.rerun({"source": "11"})))
    command = ["microscope", str(trained), "2026", "--serve"]
    assert main([*command, "--broken", "softmax-without-second-term"]) == 0
    assert main([*command, "--beside", str(trained)]) == 0
    broken, beside = found
    assert broken["meta"]["broken"] == "softmax-without-second-term" and not broken["check"]["ok"]
    assert len(beside["paths"]) == 2
