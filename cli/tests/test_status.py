from __future__ import annotations

import pytest
from inferctl_fakes import FakeServer

READY = {
    "status": "ready",
    "models": [{"id": "llama", "backend": "cpu", "state": "ready", "device": "cpu"}],
}
METRICS = b"""\
# HELP inferflux_requests_running Requests in the batch.
# TYPE inferflux_requests_running gauge
inferflux_requests_running{model="a b} c"} 2.0
inferflux_requests_running{model="b"} 1.0
inferflux_requests_waiting 0.0
inferflux_output_tokens_total{model="b"} 1.2e+03 1700000000000
vllm:num_requests_running 99
"""


@pytest.fixture
def healthy(server: FakeServer) -> FakeServer:
    server.json("/healthz", {"status": "ok"})
    server.raw("/metrics", METRICS)
    return server


def test_shows_health_models_and_load(healthy, inferctl_child) -> None:
    healthy.json("/readyz", READY)

    done = inferctl_child("status")

    assert (done.code, done.err) == (0, "")
    assert done.out == (
        f"server\thttp://127.0.0.1:{healthy.port}\n"
        "health\tok\n"
        "state\tready\n"
        "running\t3\n"
        "waiting\t0\n"
        "output_tokens\t1200\n"
        "\n"
        "llama\tcpu\tready\tcpu\n"
    )


def test_json(healthy, inferctl) -> None:
    healthy.json("/readyz", READY)

    (report,) = inferctl("status", "--json").lines

    assert report["ready"] is True
    assert report["models"] == READY["models"]
    assert report["figures"] == {"running": 3.0, "waiting": 0.0, "output_tokens": 1200.0}


def test_the_stub_is_called_a_stub(healthy, inferctl) -> None:
    healthy.json("/readyz", {"status": "ready", "models": [{"id": "stub", "backend": "stub"}]})

    done = inferctl("status")

    assert done.code == 0
    assert "no model is loaded" in done.err


def test_not_ready_is_exit_code_1(healthy, inferctl) -> None:
    healthy.json("/readyz", {"status": "starting", "models": []}, status=503)

    done = inferctl("status")

    assert done.code == 1
    assert "state\tstarting\n" in done.out


def test_what_the_key_may_not_see_is_left_out_and_said(server, inferctl) -> None:
    server.json("/healthz", {"status": "ok"})
    server.json("/readyz", {"status": "ready"})
    server.error("/v1/models", 401, "invalid_api_key", "who are you")
    server.error("/metrics", 401, "invalid_api_key", "who are you")

    done = inferctl("status")

    assert done.code == 0
    assert "models not shown: who are you" in done.err
    assert "figures not shown: who are you (set INFERCTL_API_KEY" in done.err


@pytest.mark.parametrize(
    "answer", [{}, [], {"status": None, "models": 3}, {"models": [3, {"backend": {}}]}]
)
def test_an_odd_answer_is_shown_as_far_as_it_goes(healthy, inferctl, answer: object) -> None:
    healthy.json("/readyz", answer)

    done = inferctl("status")

    assert done.code == 0
    assert "state\tready\n" in done.out


def test_plain_text_will_do_for_health(server, inferctl) -> None:
    server.raw("/healthz", b"OK")
    server.raw("/readyz", b"warming up", status=503)
    server.error("/metrics", 404, "not_found", "no metrics here")

    done = inferctl("status")

    assert done.code == 1
    assert "health\tok\nstate\tnot ready\n" in done.out
    assert done.err == "note: figures not shown: no metrics here\n"


def test_a_health_route_that_wants_a_key(server, inferctl) -> None:
    server.error("/healthz", 401, "invalid_api_key", "who are you")

    assert inferctl("status").code == 4


def test_on_a_terminal_it_is_a_table_without_foreign_escapes(healthy, terminal) -> None:
    healthy.json("/readyz", {"status": "ready", "models": [{"id": "\x1b]0;evil\x07name"}]})

    screen = terminal("status")

    assert screen.wait() == 0
    assert "]0;evilname" in screen.raw
    assert "\x1b]" not in screen.raw
    assert "\x07" not in screen.raw
