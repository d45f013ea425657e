from __future__ import annotations

import re

from support.servers import RunningServer


def values(server: RunningServer) -> dict[str, float]:
    with server.client("read-key") as client:
        lines = client.get("/metrics").text.splitlines()
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    }


LABELS = 'backend="scripted",model="scripted"'


def test_tokens_and_times_are_counted_as_clients_see_them(server: RunningServer) -> None:
    before = values(server)
    body = {"messages": [{"role": "user", "content": "count me"}], "max_tokens": 9}
    with server.client() as client:
        usage = client.post("/v1/chat/completions", json=body).json()["usage"]
        client.post("/v1/chat/completions", json={**body, "model": "nix"})
    after = values(server)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown(f"inferflux_prompt_tokens_total{{{LABELS}}}") == usage["prompt_tokens"]
    assert grown(f"inferflux_output_tokens_total{{{LABELS}}}") == 9
    assert grown(f'inferflux_requests_total{{{LABELS},outcome="length"}}') == 1
    assert grown('inferflux_errors_total{code="model_not_found"}') == 1
    assert grown(f"inferflux_time_to_first_token_seconds_count{{{LABELS}}}") == 1
    assert 1 <= grown(f"inferflux_inter_token_latency_seconds_count{{{LABELS}}}") <= 8
    assert after[f"inferflux_engine_up{{{LABELS}}}"] == 1
    assert after[f"inferflux_requests_running{{{LABELS}}}"] == 0
    assert after[f"inferflux_requests_waiting{{{LABELS}}}"] == 0
    assert after[f"inferflux_kv_cache_usage_ratio{{{LABELS}}}"] == 0


def test_labels_never_come_from_clients(server: RunningServer) -> None:
    with server.client() as client:
        for i in range(20):
            client.post(
                "/v1/chat/completions",
                json={"model": f"made-up-{i}", "messages": [{"role": "user", "content": "x"}]},
            )
            client.get(f"/made/up/{i}")
    assert not [name for name in values(server) if re.search("made", name)]
