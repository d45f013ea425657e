from __future__ import annotations

LLAMA = {"id": "org/llama", "object": "model", "owned_by": "org", "meta": {"n_ctx": 2048}}


def test_list(server, inferctl_child) -> None:
    server.json("/v1/models", {"object": "list", "data": [LLAMA, {"id": "smol"}]})

    done = inferctl_child("models", "list")

    assert (done.code, done.out) == (0, "org/llama\torg\nsmol\t-\n")


def test_list_as_json_with_the_option_on_any_level(server, inferctl) -> None:
    server.json("/v1/models", {"object": "list", "data": [LLAMA]})

    for command in (
        ("--json", "models", "list"),
        ("models", "--json", "list"),
        ("models", "list", "--json"),
    ):
        assert inferctl(*command).lines == [{"object": "list", "data": [LLAMA]}]


def test_show(server, inferctl) -> None:
    server.json("/v1/models/org/llama", LLAMA)

    done = inferctl("models", "show", "org/llama")

    assert done.code == 0
    assert "owned_by\torg\n" in done.out
    assert inferctl("models", "show", "org/llama", "--json").lines == [LLAMA]


def test_show_an_unknown_one(server, inferctl) -> None:
    server.json("/v1/models", {"data": [LLAMA]})
    server.error("/v1/models/a%20b", 404, "model_not_found", "no model `a b`")

    done = inferctl("models", "show", "a b")

    assert done.code == 1
    assert "available models: org/llama" in done.err
