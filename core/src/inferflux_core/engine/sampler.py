"""Choosing tokens. A row of logits stays in the processor's cache until its token is chosen."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inferflux_core.engine.request import Request
from inferflux_core.engine.sampling_params import SamplingParams

__all__ = ["SampledToken", "Sampler", "TokenLogprob", "log_softmax", "report"]

Floats = NDArray[np.float32]
Ints = NDArray[np.intp]

_LEAST_WEIGHT: Final = np.nextafter(np.float32(0), np.float32(1))
_LEAST_LOGIT: Final = np.finfo(np.float32).min
_RUN: Final = 256
"""Weights that are added up at a time, so that a token is looked for among few."""

_HEAVY: Final = np.float32(2**-10)
"""Times the best token's weight."""
_SLACK: Final = 1e-5
"""For the rounding of logits; candidates are weighed again."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The natural logarithm of a token's probability before temperature and truncation."""

    token_id: int
    logprob: float


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A choice. `logprob` and `alternatives` (best first) are there when the request asked for them."""

    token_id: int
    logprob: float | None = None
    alternatives: tuple[TokenLogprob, ...] = ()


@dataclass(slots=True)
class _RowState:
    """What sampling remembers about a request from token to token."""

    rng: np.random.Generator
    prompt_ids: Ints
    counts: dict[int, int] = field(default_factory=dict)
    num_counted: int = 0

    def count(self, request: Request) -> None:
        """Count what has come since, be it sampled or forced by a constraint."""
        start = request.num_prompt_tokens + self.num_counted
        for token_id in request.token_ids[start:]:
            self.counts[token_id] = self.counts.get(token_id, 0) + 1
            self.num_counted += 1


class Sampler:
    """Samples one token per row of logits.

    Constraints come first, so that neither a bias nor a low temperature brings back what they rule out.
    Reported log-probabilities are the model's own: constraints, biases, penalties, temperature and
    truncation do not show in them, and alternatives may be tokens that a constraint rules out.
    """

    def __init__(self) -> None:
        self._states: dict[int, _RowState] = {}

    def forget(self, request_id: int) -> None:
        """Drop the state of a finished request."""
        self._states.pop(request_id, None)

    def sample(self, requests: Sequence[Request], logits: Floats) -> list[SampledToken | None]:
        """Choose the next token of each request.

        Args:
            requests: one per row.
            logits: float32 `[rows, vocab_size]`; rows may be changed.

        Returns:
            One choice per row; None where the logits are not numbers.
        """
        reports = [self._report(r, logits[i]) for i, r in enumerate(requests)]
        for row, request in enumerate(requests):
            _constrain(request, logits[row])
            if request.params.logit_bias:
                for token_id, bias in request.params.logit_bias.items():
                    logits[row, token_id] += bias
            if request.params.penalised:
                self._penalise(request, logits[row])
        # NaN wins every argmax, so one look at the winner finds a broken row.
        best = logits.argmax(axis=1)
        choices: list[SampledToken | None] = []
        for row, (request, token_id) in enumerate(zip(requests, best.tolist(), strict=True)):
            highest = float(logits[row, token_id])
            if not math.isfinite(highest):
                choices.append(None)
                continue
            if not request.params.greedy:
                draw = self._state(request).rng.random()
                token_id = _draw(logits[row], highest, request.params, draw)
            choices.append(_choice(request, token_id, reports[row]))
        return choices

    def _state(self, request: Request) -> _RowState:
        state = self._states.get(request.request_id)
        if state is None:
            seed = request.params.seed
            state = _RowState(
                np.random.default_rng(secrets.randbits(64) if seed is None else seed & (2**64 - 1)),
                np.unique(np.asarray(request.token_ids[: request.num_prompt_tokens], np.intp)),
            )
            self._states[request.request_id] = state
        return state

    def _penalise(self, request: Request, row: Floats) -> None:
        """Apply repetition, frequency and presence penalties in place."""
        params, state = request.params, self._state(request)
        state.count(request)
        seen = np.fromiter(state.counts, np.intp, len(state.counts))
        if params.repetition_penalty != 1.0:
            ids = np.union1d(state.prompt_ids, seen)
            values = row[ids]
            row[ids] = np.where(
                values > 0, values / params.repetition_penalty, values * params.repetition_penalty
            )
        if len(seen):
            counts = np.fromiter(state.counts.values(), np.float32, len(seen))
            row[seen] -= params.frequency_penalty * counts + params.presence_penalty

    def _report(self, request: Request, row: Floats) -> Floats | None:
        """Log-probabilities of the untouched row, if the request wants to see them."""
        return None if request.params.logprobs is None else log_softmax(row)


def _constrain(request: Request, row: Floats) -> None:
    """Mask what the request's constraint does not allow, unless its greedy choice shows without."""
    constraint, params = request.constraint, request.params
    if constraint is None:
        return
    plain = params.greedy and not params.penalised and not params.logit_bias
    if not (plain and constraint.allows(int(row.argmax()))):
        constraint.mask(row)


def _choice(request: Request, token_id: int, logprobs: Floats | None) -> SampledToken:
    if logprobs is None:
        return SampledToken(token_id)
    return report(token_id, logprobs, request.params.logprobs or 0)


def report(token_id: int, logprobs: Floats, count: int) -> SampledToken:
    """A token with its log-probability and the `count` likeliest alternatives.

    Args:
        token_id: the token.
        logprobs: float32 `[vocab_size]`.
        count: number of alternatives.
    """
    alternatives = tuple(
        TokenLogprob(int(i), float(logprobs[i])) for i in _largest(logprobs, count)
    )
    return SampledToken(token_id, float(logprobs[token_id]), alternatives)


def log_softmax(row: Floats) -> Floats:
    """Natural log-probabilities of a row of logits `[vocab_size]`."""
    shifted = row - row.max()
    logprobs: Floats = shifted - np.log(np.exp(shifted).sum())
    return logprobs


def _largest(values: Floats, count: int) -> Ints:
    """Indices of the `count` largest values, largest first, ties by index."""
    if count == 0:
        return np.empty(0, np.intp)
    count = min(count, len(values))
    floor = np.partition(values, len(values) - count)[len(values) - count]
    candidates = np.flatnonzero(values >= floor)
    order = np.lexsort((candidates, -values[candidates]))
    largest: Ints = candidates[order[:count]]
    return largest


def _draw(row: Floats, highest: float, params: SamplingParams, draw: float) -> int:
    """Draw a token.

    Args:
        row: logits `[vocab_size]`; overwritten.
        highest: of them.
        params: not greedy.
        draw: uniform in [0, 1).
    """
    if not params.truncated:
        return _pick_among_many(_weigh(row, highest, params.temperature), draw)
    tokens, shares, left_out = _candidates(row, highest, params)
    _truncate(shares, left_out, params)
    return int(tokens[_pick(shares, draw)])


def _weigh(logits: Floats, highest: float, temperature: float) -> Floats:
    """Turn logits in place into weights relative to the best token's."""
    logits -= np.float32(highest)
    logits /= np.float32(temperature)
    return np.exp(logits, out=logits)


def _pick(weights: Floats, draw: float) -> int:
    """Inverse-transform sampling on unnormalised weights `[n]`, never of one without weight."""
    cumulative = np.cumsum(weights, dtype=np.float64)
    index = int(np.searchsorted(cumulative, draw * cumulative[-1], side="right"))
    if index == len(weights):  # by rounding
        index = int(np.flatnonzero(weights)[-1])
    return index


def _pick_among_many(weights: Floats, draw: float) -> int:
    """The same in two steps: a run of tokens, and one of the run."""
    sums = np.add.reduceat(weights, np.arange(0, len(weights), _RUN))
    run = _pick(sums, draw)
    cumulative = np.cumsum(sums, dtype=np.float64)
    rest = draw * cumulative[-1] - (cumulative[run - 1] if run else 0.0)
    start = run * _RUN
    return start + _pick(weights[start : start + _RUN], max(float(rest / sums[run]), 0.0))


def _candidates(row: Floats, highest: float, params: SamplingParams) -> tuple[Ints, Floats, float]:
    """Narrow the vocabulary to tokens that truncation could keep, most likely first.

    Returns:
        Token ids and weights `[n]`, and the weight of the tokens that were left out although the nucleus
        is to be measured against them too.
    """
    if params.top_k or params.min_p or params.typical_p < 1.0:
        tokens, weights = _above_floors(row, highest, params)
        left_out = 0.0
    else:
        tokens, weights, left_out = _around_nucleus(row, highest, params)
    order = np.argsort(-weights, kind="stable")
    return tokens[order], weights[order], left_out


def _above_floors(row: Floats, highest: float, params: SamplingParams) -> tuple[Ints, Floats]:
    """Tokens that may be among `top_k`, and reach `min_p`, with their weights."""
    # Masked tokens are minus infinity: nearly all of them at times.
    floor = max(_top_k_floor(row, params.top_k), _min_p_floor(highest, params), float(_LEAST_LOGIT))
    tokens = np.flatnonzero(row >= np.float32(floor))
    weights = _weigh(row[tokens], highest, params.temperature)
    kept = weights >= max(np.float32(params.min_p), _LEAST_WEIGHT)
    return tokens[kept], weights[kept]


def _around_nucleus(
    row: Floats, highest: float, params: SamplingParams
) -> tuple[Ints, Floats, float]:
    """The nucleus and lighter tokens, their weights, and the weight of the others.

    It mostly lies among the heavy ones, and does if they weigh more than `top_p`. Else it lies among those
    of `(1 - top_p) / vocab_size` of the total at least: all others weigh less than `1 - top_p` together.
    """
    every = _weigh(row, highest, params.temperature)
    total = float(every.sum())
    tokens = np.flatnonzero(every >= _HEAVY)
    weights = every[tokens]
    if float(weights.sum()) <= params.top_p * total:
        # The best token has weight 1; rounding must never lose it.
        least = np.float32(min((1.0 - params.top_p) / len(row) * total, 1.0))
        tokens = np.flatnonzero(every >= max(least, _LEAST_WEIGHT))
        weights = every[tokens]
    return tokens, weights, max(total - float(weights.sum()), 0.0)


def _top_k_floor(row: Floats, top_k: int) -> float:
    """A logit that at least `top_k` tokens reach, and few more; minus infinity if all may.

    The k-th largest of the maxima of disjoint groups is reached by k tokens, one in each group.
    """
    groups = max(4 * top_k, _RUN)
    if not top_k or top_k >= len(row):
        return -math.inf
    if groups >= len(row):
        return float(np.partition(row, len(row) - top_k)[len(row) - top_k])
    whole = len(row) // groups * groups
    maxima = row[:whole].reshape(-1, groups).max(axis=0)
    return float(np.partition(maxima, groups - top_k)[groups - top_k])


def _min_p_floor(highest: float, params: SamplingParams) -> float:
    """A logit a little below that of a token of weight `min_p`."""
    if not params.min_p:
        return -math.inf
    return highest + params.temperature * (math.log(params.min_p) - _SLACK) - abs(highest) * _SLACK


def _truncate(shares: Floats, left_out: float, params: SamplingParams) -> None:
    """Zero the weights that `top_k`, `typical_p` and `top_p` cut off; they are sorted, largest first."""
    if params.top_k:
        shares[params.top_k :] = 0
    if params.typical_p < 1.0:
        _keep_typical(shares, params.typical_p)
    if params.top_p < 1.0:
        shares /= np.float32(float(shares.sum()) + left_out)
        before = np.cumsum(shares) - shares
        # The most likely token stays even at top_p 0.
        shares[(before >= params.top_p) & (before > 0)] = 0


def _keep_typical(shares: Floats, typical_p: float) -> None:
    """Keep the tokens whose surprise is closest to the entropy (Meister et al. 2022)."""
    probabilities = shares / shares.sum()
    alive = np.flatnonzero(probabilities > 0)
    surprise = -np.log(probabilities[alive])
    entropy = float((probabilities[alive] * surprise).sum())
    order = alive[np.argsort(np.abs(surprise - entropy), kind="stable")]
    cumulative = np.cumsum(probabilities[order])
    last = int(np.searchsorted(cumulative, typical_p))
    shares[order[last + 1 :]] = 0
