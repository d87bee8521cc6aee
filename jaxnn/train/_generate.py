"""Generation of tokens by a causal model, one at a time, in one compiled program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxnn import _checks as check
from jaxnn._calls import alike
from jaxnn._errors import invalid, wrong_type
from jaxnn._inputs import known, whole
from jaxnn._layer import Layer, initial_state
from jaxnn._padded import Padded, padded_pair, values_of
from jaxnn.train._programs import Alike
from jaxnn.types import Arrays, Key, Params, State


def generate(
    model: Layer,
    params: Params,
    state: State,
    prompt: Arrays,
    key: Key | None,
    steps: int,
    *,
    temperature: float | Array = 1.0,
    top_k: int | None = None,
    top_p: float | Array | None = None,
    stop: int | Sequence[int] | None = None,
) -> Padded:
    """Tokens that continue prompts, [n, t] -> `Padded` [n, steps], drawn one at a time from a causal model.

        token_i ~ softmax(logits_i / temperature), restricted to the top_k largest logits, then to the top_p mass

    The model maps tokens [n, t] to logits [n, t, v]. With layers that continue where they ended, such as
    `attention(..., causal=True, cache=t + steps)`, `learned_positions(..., cached=True)` and `lstm(..., cached=True)`,
    the prompts are processed in one call and each further token in another one; then all layers that see more than one
    step must be of this kind. A model without such layers is applied to the whole sequence at every step, with the same
    tokens as result; it must be causal. The draws of an example depend on the key, its number in the batch and the step
    alone. The program is compiled once for a model and shapes; temperature and top_p may change without compilation.

    Args:
      model: a Layer without dependence of a step on later ones.
      params: its params, which are those of the same model without a cache.
      state: its state. Entries that it lacks, such as an empty cache, are those of `initial_state`; pass {} for all.
      prompt: integers [n, t], t >= 1; or a `Padded`, or (tokens, lengths), for prompts of different lengths, which a
        model with a cache receives as a `Padded`.
      key: random key; None is allowed with temperature=0.
      steps: number of tokens for each prompt, an integer >= 1.
      temperature: >= 0; 0 takes the largest logit (greedy). May be traced.
      top_k: number of tokens to choose from, an integer from 1 to v; None is all. Equal logits at the limit all count.
      top_p: in (0, 1]: the fewest tokens whose probabilities sum to at least top_p are chosen from (nucleus sampling).
        May be traced; None is all.
      stop: token or tokens that end an example; None is none. When all have ended, the program stops.

    Returns:
      Padded of integers [n, steps] and lengths [n], the tokens of each example with the stop token; 0 after the end. An
      example whose logits are NaN ends with the token -1. An example with an empty prompt has length 0.

    Raises:
      ValueError: if an argument is out of range, the caches are shorter than t + steps - 1, or a key is missing.
      TypeError: if the prompt is not integers, or the model does not return logits [n, t, v].

    Reference: Holtzman et al., The Curious Case of Neural Text Degeneration, 2020 (top_p).

    >>> import jaxnn as nn
    >>> def following(params, state, x, *, key, train):  # the next letter of the alphabet
    ...     return jax.nn.one_hot(x + 1, 26), state
    >>> model = nn.layer(lambda key, x: ({}, {}), following, "following")
    >>> generate(model, {}, {}, jnp.array([[0, 1], [7, 8]]), None, 3, temperature=0).x.tolist()
    [[2, 3, 4], [9, 10, 11]]
    """
    check.model("generate", "model", model)
    steps = check.count("generate", "steps", steps)
    prompt = _tokens(prompt)
    check.scalar("generate", "temperature", temperature)
    if top_p is not None:
        check.scalar("generate", "top_p", top_p, below=1.0, ends="(]")
    if key is None and not (known(temperature) and temperature == 0):
        raise invalid("generate", "a key with temperature > 0", told="None", fix="Pass key=jax.random.key(seed).")
    key = jax.random.key(0) if key is None else check.typed_key("generate", key)
    top_k = None if top_k is None else check.count("generate", "top_k", top_k)
    program = _program(Alike(alike(model), model), _Settings(steps, top_k, _stops(stop)))
    return program(params, state, prompt, key, temperature, top_p)


Apply = Callable[[State, Arrays], tuple[Array, State]]  # (state, tokens) -> logits, state
Advance = Callable[[Any, Array, Array], tuple[Array, Any]]  # (memory, token, step) -> logits, memory


class _Settings(NamedTuple):
    """Static settings of a program."""

    steps: int
    top_k: int | None
    stop: tuple[int, ...]


class _Generated(NamedTuple):
    """State of the loop.

    Attributes:
      step: number of tokens drawn so far.
      token: the last token of each example, [n].
      memory: the model's state, or without a cache all tokens so far.
      tokens, lengths: the result so far.
      ended: True for examples that have ended, [n].
    """

    step: Array
    token: Array
    memory: Any
    tokens: Array
    lengths: Array
    ended: Array


@lru_cache(maxsize=16)
def _program(of: Alike, settings: _Settings) -> Callable[..., Padded]:
    return jax.jit(partial(_generated, of.model, settings))


def _generated(
    model: Layer,
    settings: _Settings,
    params: Params,
    state: State,
    prompt: Arrays,
    key: Key,
    temperature: float | Array,
    top_p: float | Array | None,
) -> Padded:
    n = values_of(prompt).shape[0]
    start, lengths = initial_state(model, values_of(prompt)), _lengths(prompt)
    begin = _through_cache if _is_cached(start) else _over_all_tokens
    apply = partial(_logits, model, params)
    first, memory, advance = begin(apply, start, state, prompt, settings.steps)
    draw = partial(_drawn, key, temperature=temperature, top_k=settings.top_k, top_p=top_p)
    stop = jnp.asarray(settings.stop, jnp.int32)

    def added(now: _Generated, logits: Array, memory: Any) -> _Generated:
        token = jnp.where(now.ended, 0, draw(now.step, logits))
        ends = (token[:, None] == stop[None]).any(axis=1) | (token < 0)
        tokens = lax.dynamic_update_slice_in_dim(now.tokens, token[:, None], now.step, axis=1)
        lengths = now.lengths + (~now.ended).astype(jnp.int32)
        return _Generated(now.step + 1, jnp.maximum(token, 0), memory, tokens, lengths, now.ended | ends)

    def another(now: _Generated) -> _Generated:
        return added(now, *advance(now.memory, now.token, now.step))

    none, zero = jnp.zeros(n, jnp.int32), jnp.zeros((), jnp.int32)
    empty = _Generated(zero, none, memory, jnp.zeros((n, settings.steps), jnp.int32), none, lengths < 1)
    begun = added(empty, first, memory)
    last = lax.while_loop(lambda now: (now.step < settings.steps) & ~now.ended.all(), another, begun)
    return Padded(last.tokens, last.lengths)


def _through_cache(apply: Apply, start: State, state: State, prompt: Arrays, steps: int) -> tuple[Array, Any, Advance]:
    """Logits after the prompts, the state of the model, and a step that processes one token of each example."""
    _check_caches(start, values_of(prompt).shape[1] + steps - 1)
    logits, after = apply(_with_defaults(start, state), prompt)

    def advance(state: Any, token: Array, step: Array) -> tuple[Array, Any]:
        logits, state = apply(state, token[:, None])
        return logits[:, 0], state

    return _at_steps(logits, _lengths(prompt) - 1), after, advance


def _over_all_tokens(
    apply: Apply, start: State, state: State, prompt: Arrays, steps: int
) -> tuple[Array, Any, Advance]:
    """Logits after the prompts, the tokens so far, and a step that processes all of them, for a model without cache."""
    whole, lengths = _with_defaults(start, state), _lengths(prompt)
    tokens = jnp.pad(values_of(prompt), [(0, 0), (0, steps)])

    def advance(tokens: Any, token: Array, step: Array) -> tuple[Array, Any]:
        last = lengths + step - 1
        tokens = tokens.at[jnp.arange(len(tokens)), last].set(token)
        return _at_steps(apply(whole, tokens)[0], last), tokens

    return _at_steps(apply(whole, tokens)[0], lengths - 1), tokens, advance


def _logits(model: Layer, params: Params, state: State, tokens: Arrays) -> tuple[Array, State]:
    y, state = model.apply(params, state, tokens)
    y, (n, t) = values_of(y), values_of(tokens).shape
    if getattr(y, "ndim", None) != 3 or y.shape[:2] != (n, t):
        raise wrong_type("generate", f"a model from tokens [{n}, {t}] to logits [{n}, {t}, v]", y)
    return y.astype(jnp.float32), state


def _drawn(
    key: Key,
    step: Array,
    logits: Array,
    *,
    temperature: float | Array,
    top_k: int | None,
    top_p: float | Array | None,
) -> Array:
    """A token for each row of logits, [n, v] -> [n]; -1 for a row with NaN.

    Gumbel's trick: argmax(logits + temperature · gumbel) is a draw from softmax(logits / temperature), and exact for 0.
    """
    n, v = logits.shape
    temperature = jnp.asarray(temperature, jnp.float32)
    bad = jnp.isnan(logits).any(axis=1)
    if top_k is not None:
        check.count("generate", "top_k", top_k, most=v)
        logits = _cut(logits, lax.top_k(logits, top_k)[0][:, -1:])
    if top_p is not None:
        ordered = -jnp.sort(-logits, axis=1)
        shares = jax.nn.softmax(ordered / jnp.maximum(temperature, 1e-6), axis=1)
        inside = jnp.cumsum(shares, axis=1) - shares < jnp.asarray(top_p, jnp.float32)
        logits = _cut(logits, jnp.min(ordered, axis=1, where=inside, initial=jnp.inf, keepdims=True))
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key, step)))(jnp.arange(n))
    noise = jax.vmap(lambda key: jax.random.gumbel(key, (v,), jnp.float32))(keys)
    return jnp.where(bad, -1, jnp.argmax(logits + temperature * noise, axis=1).astype(jnp.int32))


def _cut(logits: Array, least: Array) -> Array:
    return jnp.where(logits < least, -jnp.inf, logits)


def _at_steps(logits: Array, steps: Array) -> Array:
    """Logits at one step of each example, [n, t, v], [n] -> [n, v]."""
    steps = jnp.clip(steps, 0, logits.shape[1] - 1)
    return jnp.take_along_axis(logits, steps[:, None, None], axis=1)[:, 0]


def _with_defaults(start: State, state: State) -> dict[str, Any]:
    """`state`, with the entries of `start` that it lacks."""
    whole = dict(start) | dict(state)
    for name in start:
        if isinstance(start[name], dict) and name in state:
            whole[name] = _with_defaults(start[name], state[name])
    return whole


def _is_cached(state: State) -> bool:
    """True if layers of the model continue where they ended: attention with a cache, a recurrent layer with a carry."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return any(getattr(key, "key", None) in ("position", "carry") for path, _ in leaves for key in path)


def _check_caches(start: State, least: int) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(start):
        if getattr(path[-1], "key", None) == "k" and leaf.ndim > 3 and leaf.shape[-3] < least:
            at = jax.tree_util.keystr(path[:-1], simple=True, separator="/")
            raise invalid(
                "generate",
                f"caches of t + steps - 1 = {least} steps",
                told=f"{leaf.shape[-3]} at {at}" if at else f"{leaf.shape[-3]}",
                fix="Make the model with a larger cache=.",
            )


def _tokens(prompt: Arrays) -> Arrays:
    """Tokens [n, t] as int32, in a `Padded` if they have lengths; raises for anything else."""
    given = padded_pair(prompt)
    tokens = values_of(given)
    if not hasattr(tokens, "dtype") or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise wrong_type("generate", "a prompt of integers [n, t]", prompt)
    if tokens.ndim != 2 or tokens.shape[1] < 1:
        raise invalid("generate", "a prompt of shape [n, t] with t >= 1", tokens, "One prompt alone is prompt[None].")
    tokens = jnp.asarray(tokens, jnp.int32)
    if not isinstance(given, Padded):
        return tokens
    check.kind("generate", "lengths", given.lengths, "integer")
    check.shape("generate", "lengths", given.lengths, tokens.shape[:1])
    s = Padded(tokens, jnp.asarray(given.lengths, jnp.int32))
    return s._replace(x=s.zeroed)


def _lengths(prompt: Arrays) -> Array:
    return prompt.lengths if isinstance(prompt, Padded) else jnp.full(prompt.shape[0], prompt.shape[1], jnp.int32)


def _stops(stop: int | Sequence[int] | None) -> tuple[int, ...]:
    if stop is None:
        return ()
    several = (stop,) if whole(stop) is not None else tuple(stop)  # type: ignore[arg-type]
    return tuple(check.count("generate", "stop", token, least=0) for token in several)
