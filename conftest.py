"""The rules under which everything here is tested: strict dtypes, no broadcasting of ranks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True)
def _names_in_docstrings(doctest_namespace):
    doctest_namespace.update(jax=jax, jnp=jnp, np=np, nn=nn)


@pytest.fixture
def x64():
    """Float64 for one test."""
    with jax.enable_x64(True):
        yield
