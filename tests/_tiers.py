"""The three tiers of the tests: fast, slow (`make test` runs both) and nightly (`make nightly`)."""

import pytest

# Columns of tables that take most time for a row: the slow tier has them for the rows of the fast one alone.
COLUMNS = {
    "test_without_jit",
    "test_x64_changes_nothing_for_an_input_of_32_bits",
    "test_exported_with_free_sizes_it_gives_equal_values",
    "test_its_gradient_is_exported_with_free_sizes",
    "test_float32_is_float64_to_2e6_or_a_rounding_of_its_inputs",
    "test_gradients_are_finite_and_of_sane_size",
    "test_a_sweep_of_hyper_parameters_is_one_program",
    "test_derivatives_through_two_updates",
    "test_inject_hyperparams",
}
# Tables with several rows for a layer, an optimizer or a model: the slow tier has the first of each, whose name has no
# space, in all columns.
TABLES = {
    "conformance.test_layers_columns",
    "conformance.test_layers_conformance",
    "conformance.test_optimizers",
    "conformance.test_padded",
    "losses.test_table",
    "models.test_models",
}

# Modules whose slow tests take long for each case: the slow tier has every second case.
HALVED = TABLES | {
    "interop.test_hostile",
    "io.test_limits",
    "layers.test_sequences",
    "losses.test_losses",
    "losses.test_whole_batch",
    "metrics.test_metrics",
    "ops.test_conv",
    "ops.test_norm_examples",
    "ops.test_recurrent",
    "ops.test_resize",
    "optimizers.test_flat",
    "optimizers.test_properties",
    "train.test_failure",
    "train.test_hypergradients",
    "train.test_interrupt",
}


def only(fast, values):
    """The `values` for parametrize, all but those in `fast` marked slow."""
    return [value if value in fast else pytest.param(value, marks=pytest.mark.slow) for value in values]


def is_nightly(item):
    """True for a slow test that only the nightly tier runs."""
    if item.get_closest_marker("slow") is None or not hasattr(item, "callspec"):
        return False
    module = item.module.__name__.removeprefix("tests.")
    names = [value for value in item.callspec.params.values() if isinstance(value, str)]
    further = module in TABLES and any(" " in name for name in names)
    second = module in HALVED and sum(set(item.callspec.indices.values())) % 2 == 1
    return further or second or item.originalname in COLUMNS
