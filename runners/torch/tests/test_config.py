"""Configurations that are refused, and what is read from those that are not."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hf_folders import tiny_config

from inferflux_core.errors import ModelLoadError
from inferflux_core.models.folder.fields import Fields
from inferflux_runner_torch.decoder import DecoderConfig, read_config
from inferflux_runner_torch.decoder.families import FAMILIES

LLAMA, GEMMA, PHI = "LlamaForCausalLM", "Gemma3ForCausalLM", "Phi3ForCausalLM"
MISTRAL, QWEN2 = "MistralForCausalLM", "Qwen2ForCausalLM"
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LONG = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}


def read(architecture: str, **changes: Any) -> DecoderConfig:
    return read_config(Fields("config.json", tiny_config(architecture, **changes)))


def refusal(architecture: str, changes: dict[str, Any]) -> ModelLoadError:
    with pytest.raises(ModelLoadError) as refused:
        read(architecture, **changes)
    assert refused.value.hint
    return refused.value


@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_family_is_read(architecture: str) -> None:
    config = read(architecture)
    assert config.architecture == architecture
    assert (config.layers, config.width, config.heads, config.heads_kv) == (2, 64, 4, 2)
    assert len(config.windows) == 2


@pytest.mark.parametrize(
    "name", ["MixtralForCausalLM", "GPT2LMHeadModel", "LlamaForSequenceClassification"]
)
def test_unknown_architectures_are_named_with_the_known_ones(name: str) -> None:
    error = refusal(LLAMA, {"architectures": [name]})
    assert name in error.message
    assert all(known in (error.hint or "") for known in FAMILIES)


@pytest.mark.parametrize(
    "architectures", [None, [], "LlamaForCausalLM", [LLAMA, MISTRAL], [3], {"a": 1}]
)
def test_there_must_be_one_architecture(architectures: object) -> None:
    assert "'architectures'" in refusal(LLAMA, {"architectures": architectures}).message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auto_map": {"AutoModelForCausalLM": "modeling.Own"}}, "code of its own"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantized already"),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ({"use_bidirectional_attention": True}, "sees later tokens"),
        ({"is_causal": False}, "not causal"),
        ({"hidden_act": "relu"}, "activation 'relu' is not known"),
        ({"hidden_size": None}, "'hidden_size' is missing"),
        ({"hidden_size": "64"}, "'hidden_size' must be an integer"),
        ({"hidden_size": 64.0}, "'hidden_size' must be an integer"),
        ({"hidden_size": True}, "'hidden_size' must be an integer"),
        ({"hidden_size": 1 << 40}, "'hidden_size' must be an integer"),
        ({"hidden_size": 66}, "cannot be divided among 4 heads"),
        ({"num_hidden_layers": 0}, "'num_hidden_layers' must be an integer"),
        ({"num_hidden_layers": 10**9}, "'num_hidden_layers' must be an integer"),
        ({"num_attention_heads": -4}, "'num_attention_heads' must be an integer"),
        ({"num_key_value_heads": 3}, "4 heads cannot share 3 key-value heads"),
        ({"head_dim": 15}, "even number of elements"),
        ({"vocab_size": 0}, "'vocab_size' must be an integer"),
        ({"max_position_embeddings": None}, "'max_position_embeddings' is missing"),
        ({"rms_norm_eps": 0}, "'rms_norm_eps' must be a positive number"),
        ({"rms_norm_eps": float("nan")}, "'rms_norm_eps' must be a positive number"),
        ({"tie_word_embeddings": "no"}, "'tie_word_embeddings' must be true or false"),
        ({"final_logit_softcapping": -1.0}, "'final_logit_softcapping' must be a positive"),
        ({"rope_theta": 0}, "'rope_theta' must be a positive number"),
        ({"partial_rotary_factor": 0.5}, "'partial_rotary_factor' is not known"),
    ],
)
def test_sizes_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    assert message in refusal(LLAMA, changes).message


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ([], "'rope_scaling' must be an object"),
        ({"rope_type": "dynamic", "factor": 2.0}, "'dynamic' are not known"),
        ({"rope_type": "linear"}, "'factor' is missing"),
        ({"rope_type": "linear", "factor": 0}, "'factor' must be a positive number"),
        ({"rope_type": "linear", "factor": 2.0, "beta_fast": 32}, "have no 'beta_fast'"),
        (LLAMA3 | {"low_freq_factor": 4.0}, "'low_freq_factor' must be less"),
        (LLAMA3 | {"original_max_position_embeddings": 0}, "must be an integer"),
        ({"rope_type": "yarn"}, "'factor' is missing"),
        ({"rope_type": "yarn", "factor": 2.0, "truncate": 1}, "'truncate' must be true or false"),
        ({"rope_type": "yarn", "factor": 2.0, "rope_theta": 1.0}, "must be more than 1"),
        (LONG | {"short_factor": [1.0] * 7}, "'short_factor' must have 8 positive numbers"),
        (LONG | {"short_factor": [1.0] * 7 + ["1"]}, "'short_factor' must have 8"),
        (LONG | {"short_factor": [1.0] * 7 + [-1.0]}, "'short_factor' must have 8"),
    ],
)
@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_positions_that_are_not_known_are_refused(key: str, scaling: Any, message: str) -> None:
    if scaling == [] and key == "rope_parameters":
        message = "'rope_parameters' must be an object"
    assert message in refusal(LLAMA, {key: scaling}).message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sliding_window": None}, "'sliding_window' is missing"),
        ({"sliding_window": 0}, "'sliding_window' must be an integer"),
        ({"layer_types": ["sliding_attention"]}, "'layer_types' must name one"),
        ({"layer_types": ["sliding_attention", "chunked_attention"]}, "'layer_types' must name"),
        ({"layer_types": [1, 2]}, "'layer_types' must name"),
        ({"layer_types": None, "sliding_window_pattern": 0}, "'sliding_window_pattern' must"),
        ({"query_pre_attn_scalar": 0}, "'query_pre_attn_scalar' must be a positive number"),
        (
            {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}},
            "layers with a window cannot be stretched",
        ),
    ],
)
def test_windows_that_are_not_known_are_refused(changes: dict[str, Any], message: str) -> None:
    assert message in refusal(GEMMA, changes).message


def test_partly_rotated_heads_need_something_to_rotate() -> None:
    assert "leaves 0 of 16" in refusal(PHI, {"partial_rotary_factor": 0.01}).message
    assert len(read(PHI, partial_rotary_factor=0.5).rotaries[0].frequencies) == 4


@pytest.mark.parametrize(
    ("architecture", "changes", "windows"),
    [
        (LLAMA, {"sliding_window": 8}, (None, None)),
        (MISTRAL, {"sliding_window": 8}, (8, 8)),
        (MISTRAL, {"sliding_window": None}, (None, None)),
        (PHI, {"sliding_window": 8}, (8, 8)),
        (QWEN2, {"sliding_window": 8}, (None, None)),
        (QWEN2, {"sliding_window": 8, "use_sliding_window": True}, (None, None)),
        (
            QWEN2,
            {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 1},
            (None, 8),
        ),
        (GEMMA, {}, (4, None)),
        (GEMMA, {"layer_types": None}, (4, 4)),
        (GEMMA, {"layer_types": None, "_sliding_window_pattern": 2}, (4, None)),
    ],
)
def test_windows(
    architecture: str, changes: dict[str, Any], windows: tuple[int | None, ...]
) -> None:
    assert read(architecture, **changes).windows == windows


def test_long_positions_are_used_as_far_as_they_are_constant() -> None:
    assert read(PHI, rope_scaling=LONG, original_max_position_embeddings=128).context == 128
    assert read(PHI, rope_scaling=LONG).context == 512
    assert read(LLAMA, rope_scaling=LLAMA3).context == 512


NUMBERS = st.one_of(
    st.integers(-2, 70), st.integers(), st.floats(), st.sampled_from([0.5, 1.0, 1e-29, 1e29])
)
VALUES = st.one_of(
    NUMBERS,
    st.none(),
    st.booleans(),
    st.sampled_from(["", "silu", "yarn", "linear", "llama3", "longrope", "su", *FAMILIES]),
    st.lists(NUMBERS, max_size=9),
)
POSITIONS = st.dictionaries(
    st.sampled_from(["rope_type", "type", "rope_theta", "partial_rotary_factor"]), VALUES
) | st.fixed_dictionaries(
    {"rope_type": st.sampled_from(["linear", "llama3", "yarn", "longrope"]), "factor": NUMBERS},
    optional=dict.fromkeys(
        [
            *("rope_theta", "original_max_position_embeddings", "low_freq_factor"),
            *("high_freq_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"),
            *("attention_factor", "short_factor", "long_factor", "partial_rotary_factor"),
        ],
        VALUES,
    ),
)
KEYS = [*tiny_config(GEMMA), "head_dim", "partial_rotary_factor", "use_sliding_window", "is_causal"]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(list(FAMILIES)),
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=2),
    st.dictionaries(
        st.sampled_from(["rope_scaling", "rope_parameters"]),
        POSITIONS | st.dictionaries(st.sampled_from(["full_attention"]), POSITIONS),
        max_size=1,
    ),
)
def test_a_config_is_read_or_refused(
    architecture: str, changes: dict[str, Any], positions: dict[str, Any]
) -> None:
    with contextlib.suppress(ModelLoadError):
        config = read(architecture, **changes | positions)
        assert all(rotary.table(3).shape[0] == 3 for rotary in config.rotaries)
