"""The three tiers of the tests: fast, slow (`make test` runs both) and nightly (`make nightly`)."""

import pytest

# Columns of tables that take most time for a row: the slow tier has them for the rows of the fast one alone.
COLUMNS = {
    "test_a_sequence_is_what_it_is_alone",
    "test_a_sweep_of_hyper_parameters_is_one_program",
    "test_derivatives_through_two_updates",
    "test_exported_with_free_sizes_it_gives_equal_values",
    "test_float32_is_float64_to_2e6_or_a_rounding_of_its_inputs",
    "test_gradients_are_finite_and_of_sane_size",
    "test_inject_hyperparams",
    "test_its_gradient_is_exported_with_free_sizes",
    "test_no_examples",
    "test_no_key_is_used_twice",
    "test_one_element",
    "test_padding_changes_nothing",
    "test_params_state_and_x_of_numpy",
    "test_the_output_has_the_dtype_of_x_and_params_at_least_float32",
    "test_transformed_is_the_same",
    "test_vmap_over_params_state_and_keys_is_one_by_one",
    "test_without_jit",
    "test_x64_changes_nothing_for_an_input_of_32_bits",
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

# Tests that take a quarter of a minute or more and have shorter neighbours for what they show: only nightly.
LONG = {
    "test_a_folder_of_orbax_is_killed_at_random_moments",
    "test_a_killed_process_ends_the_other",
    "test_a_small_transformer_learns_to_reverse",
    "test_all_ways_to_a_gradient_agree",
    "test_as_jax_image_for_all_small_sizes",
    "test_its_cells_run_on_eight_devices",
    "test_memory_stays_flat_on_a_set_that_is_larger",
    "test_on_an_explicit_mesh_gradients_are_those_of_one_device_and_lie_as_their_params",
    "test_over_eight_devices_with_the_numbers_and_masks_of_each_run_alone",
    "test_runs_on_digits",
    "test_thousands_of_mutations",
    "test_under_an_explicit_mesh_batches_stay_sharded_forward_and_backward",
    "test_whole_runs_equal_those_on_one_device",
}
# Tests that take a minute for each case: the slow tier has the first.
FIRST = {
    "test_a_lie_is_cheap_to_find",
    "test_every_layer_is_equal_to_the_same_without_a_mesh",
    "test_faults_of_models",
    "test_gathered_from_devices",
    "test_killed_at_random_moments",
    "test_on_eight_devices_as_on_one",
}

# Modules whose slow tests take long for each case: the slow tier has every second case.
HALVED = TABLES | {
    "augment.test_table",
    "conformance.test_onnx",
    "diagnosis.test_diagnose",
    "diagnosis.test_finished",
    "diagnosis.test_symmetry",
    "distributions.test_categorical",
    "explain.test_sanity",
    "interop.test_checkpoints",
    "interop.test_hostile",
    "interop.test_to_onnx",
    "io.test_limits",
    "layers.test_lora",
    "layers.test_reparametrize",
    "layers.test_sequences",
    "linear.test_logistic",
    "linear.test_regression",
    "linear.test_stream",
    "losses.test_counts",
    "losses.test_edges",
    "losses.test_losses",
    "losses.test_precision",
    "losses.test_whole_batch",
    "metrics.test_counts",
    "metrics.test_detection",
    "metrics.test_metrics",
    "metrics.test_ranking",
    "models.test_forward",
    "ops.test_attention",
    "ops.test_boxes",
    "ops.test_conv",
    "ops.test_conv_lax",
    "ops.test_norm_examples",
    "ops.test_pool_edges",
    "ops.test_pool_options",
    "ops.test_recurrent",
    "ops.test_resize",
    "optimizers.test_flat",
    "optimizers.test_lift",
    "optimizers.test_low_precision",
    "optimizers.test_peers",
    "optimizers.test_properties",
    "optimizers.test_quantized",
    "optimizers.test_range",
    "optimizers.test_rules",
    "optimizers.test_whole_arrays",
    "retrieval.test_nearest",
    "runs.test_cross_validate",
    "runs.test_ensemble",
    "runs.test_halving",
    "runs.test_sweep",
    "sharding.test_shard",
    "test_keys",
    "testing.test_layers",
    "testing.test_properties",
    "train.test_accumulate",
    "train.test_drive",
    "train.test_failure",
    "train.test_feed",
    "train.test_generate",
    "train.test_hypergradients",
    "train.test_interrupt",
    "train.test_precision",
    "train.test_weigh",
}

# Modules whose fast tests take long: the fast tier has every second case, the slow one the others.
ALTERNATE = {
    "activations.test_activations",
    "activations.test_along_axes",
    "augment.test_colors",
    "augment.test_policies",
    "augment.test_table",
    "augment.test_warp",
    "conformance.test_layers_columns",
    "conformance.test_layers_conformance",
    "conformance.test_optimizers",
    "conformance.test_padded",
    "diagnosis.test_affine",
    "diagnosis.test_baselines",
    "diagnosis.test_diagnose",
    "diagnosis.test_finished",
    "diagnosis.test_outputs",
    "diagnosis.test_probe",
    "diagnosis.test_symmetry",
    "diagnosis.test_watch",
    "distributions.test_categorical",
    "distributions.test_normal",
    "explain.test_cam",
    "explain.test_captum",
    "explain.test_components",
    "explain.test_features",
    "explain.test_fields",
    "explain.test_gradients",
    "explain.test_landscape",
    "explain.test_occlusion",
    "explain.test_relus",
    "explain.test_rollout",
    "explain.test_sanity",
    "explain.test_shapley",
    "explain.test_synthesis",
    "init.test_draws",
    "interop.test_equinox",
    "interop.test_flax",
    "interop.test_loading",
    "interop.test_to_onnx",
    "layers.test_activation",
    "layers.test_experts",
    "layers.test_layers",
    "layers.test_lora",
    "layers.test_reparametrize",
    "layers.test_sequences",
    "linear.test_logistic",
    "linear.test_regression",
    "linear.test_stream",
    "losses.test_counts",
    "losses.test_edges",
    "losses.test_losses",
    "losses.test_precision",
    "losses.test_table",
    "metrics.test_frechet",
    "metrics.test_metrics",
    "metrics.test_ranking",
    "metrics.test_values",
    "models.test_models",
    "ops.test_attention",
    "ops.test_boxes",
    "ops.test_conv",
    "ops.test_conv_lax",
    "ops.test_norm_examples",
    "ops.test_pad",
    "ops.test_perceptron",
    "ops.test_pool_options",
    "ops.test_recurrent",
    "ops.test_resize",
    "optimizers.test_by_path",
    "optimizers.test_low_precision",
    "optimizers.test_quantized",
    "optimizers.test_range",
    "optimizers.test_rules",
    "optimizers.test_whole_arrays",
    "retrieval.test_nearest",
    "test_combinators",
    "test_constraints",
    "test_kept",
    "test_notes",
    "train.test_drive",
    "train.test_failure",
    "train.test_feed",
    "train.test_folder",
    "train.test_generate",
    "train.test_params",
    "train.test_weigh",
}


def only(fast, values):
    """The `values` for parametrize, all but those in `fast` marked slow."""
    return [value if value in fast else pytest.param(value, marks=pytest.mark.slow) for value in values]


def is_nightly(item):
    """True for a slow test that only the nightly tier runs."""
    if item.get_closest_marker("slow") is None:
        return False
    if not hasattr(item, "callspec"):
        return getattr(item, "originalname", None) in LONG
    module = item.module.__name__.removeprefix("tests.")
    names = [value for value in item.callspec.params.values() if isinstance(value, str)]
    further = module in TABLES and any(" " in name for name in names)
    further |= item.originalname in FIRST and any(item.callspec.indices.values())
    return further or _second(item, HALVED) or item.originalname in COLUMNS | LONG


def is_alternate(item):
    """True for a case that the fast tier leaves to the slow one."""
    return hasattr(item, "callspec") and _second(item, ALTERNATE)


def _second(item, modules):
    """True for every second case of the modules."""
    module = item.module.__name__.removeprefix("tests.")
    return module in modules and sum(set(item.callspec.indices.values())) % 2 == 1
