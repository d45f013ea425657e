"""Choosing tokens: heavy work is done on all rows at once, the rest on the few candidates left."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from inferflux_core.engine.request import Request
from inferflux_core.engine.sampling_params import SamplingParams

__all__ = ["SampledToken", "Sampler", "TokenLogprob", "log_softmax", "report"]

Floats = NDArray[np.float32]
Ints = NDArray[np.intp]

_LEAST_WEIGHT = np.nextafter(np.float32(0), np.float32(1))
_TOP_K_MARGIN = np.float32(np.exp(-12.0))
"""Tokens this much less likely than the best are rarely among the top k; see `_top_k_floor`."""


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
        chosen = best.copy()
        valid = np.isfinite(logits[np.arange(len(requests)), best])
        drawn = [i for i, r in enumerate(requests) if valid[i] and not r.params.greedy]
        if drawn:
            draws = np.array([self._state(requests[i]).rng.random() for i in drawn])
            params = [requests[i].params for i in drawn]
            chosen[drawn] = _draw(logits[drawn], params, draws)
        return [
            _choice(request, int(chosen[row]), reports[row]) if valid[row] else None
            for row, request in enumerate(requests)
        ]

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


def _draw(logits: Floats, params: Sequence[SamplingParams], draws: NDArray[np.float64]) -> Ints:
    """Draw one token per row.

    Args:
        logits: float32 `[rows, vocab_size]`, a copy that may be overwritten.
        params: one per row, none of them greedy.
        draws: uniform in [0, 1), one per row.
    """
    logits -= logits.max(axis=1, keepdims=True)
    logits /= np.array([[p.temperature] for p in params], np.float32)
    weights = np.exp(logits, out=logits)
    chosen = np.empty(len(params), np.intp)
    cut = [i for i, p in enumerate(params) if p.truncated]
    whole = [i for i, p in enumerate(params) if not p.truncated]
    if whole:
        chosen[whole] = _pick(weights[whole], draws[whole])
    if cut:
        kept = [params[i] for i in cut]
        tokens, shares, left_out = _candidates(weights[cut], kept)
        _truncate(shares, left_out, kept)
        column = _pick(shares, draws[cut])
        chosen[cut] = tokens[np.arange(len(cut)), column]
    return chosen


def _pick(weights: Floats, draws: NDArray[np.float64]) -> Ints:
    """Inverse-transform sampling on unnormalised weights `[rows, n]`."""
    cumulative = np.cumsum(weights, axis=1, dtype=np.float64)
    thresholds = draws * cumulative[:, -1]
    return np.array(
        [
            np.searchsorted(row, t, side="right")
            for row, t in zip(cumulative, thresholds, strict=True)
        ],
        np.intp,
    ).clip(max=weights.shape[1] - 1)


def _candidates(
    weights: Floats, params: Sequence[SamplingParams]
) -> tuple[Ints, Floats, NDArray[np.float64]]:
    """Narrow the vocabulary to tokens that truncation could keep, most likely first.

    The floor is exact, not a heuristic: tokens below `min_p` go by definition, and tokens lighter than
    `(1 - top_p) / vocab_size` of the total weigh less than `1 - top_p` all together, so the nucleus lies
    among the others.

    Returns:
        Token ids `[rows, n]`, weights `[rows, n]` padded with 0, and per row the weight of the tokens that
        were left out although the nucleus is to be measured against them too.
    """
    vocab_size = weights.shape[1]
    totals = weights.sum(axis=1, dtype=np.float64)
    floors = np.zeros(len(params), np.float32)
    nucleus_only = np.zeros(len(params), bool)
    for row, p in enumerate(params):
        # The best token has weight 1; rounding must never lose it.
        if p.top_k:
            floors[row] = min(max(p.min_p, _top_k_floor(weights[row], p.top_k)), 1.0)
        elif p.min_p or p.typical_p < 1.0:
            floors[row] = p.min_p
        else:
            nucleus_only[row] = True
            floors[row] = min((1.0 - p.top_p) / vocab_size * float(totals[row]), 1.0)
    # Tokens without any weight are those that a constraint rules out: nearly all of them at times.
    rows, tokens = np.nonzero(weights >= np.maximum(floors, _LEAST_WEIGHT)[:, None])
    counts = np.bincount(rows, minlength=len(params))
    columns = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    ids = np.zeros((len(params), counts.max()), np.intp)
    shares = np.zeros(ids.shape, np.float32)
    ids[rows, columns] = tokens
    shares[rows, columns] = weights[rows, tokens]
    left_out = np.where(nucleus_only, totals - shares.sum(axis=1, dtype=np.float64), 0.0)
    order = np.argsort(-shares, axis=1, kind="stable")
    by_weight = np.take_along_axis(shares, order, axis=1)
    return np.take_along_axis(ids, order, axis=1), by_weight, left_out


def _top_k_floor(row: Floats, top_k: int) -> float:
    """The weight of the k-th most likely token, or something a little below it."""
    if np.count_nonzero(row >= _TOP_K_MARGIN) >= top_k:
        return float(_TOP_K_MARGIN)
    if top_k >= len(row):
        return 0.0
    return float(np.partition(row, len(row) - top_k)[len(row) - top_k])


def _truncate(
    shares: Floats, left_out: NDArray[np.float64], params: Sequence[SamplingParams]
) -> None:
    """Zero the weights that `top_k`, `typical_p` and `top_p` cut off; rows are sorted, largest first."""
    top_k = np.array([p.top_k or shares.shape[1] for p in params])
    shares[np.arange(shares.shape[1]) >= top_k[:, None]] = 0
    for row, p in enumerate(params):
        if p.typical_p < 1.0:
            _keep_typical(shares[row], p.typical_p)
    shares /= (shares.sum(axis=1) + left_out)[:, None]
    top_p = np.array([p.top_p for p in params], np.float32)
    before = np.cumsum(shares, axis=1) - shares
    # The most likely token stays even at top_p 0.
    dropped = (before >= top_p[:, None]) & (before > 0)
    dropped[top_p >= 1.0] = False
    shares[dropped] = 0


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
