"""Names of PyTorch, Keras, flax, optax and scikit-learn and their equivalents in jaxnn: one table for errors and docs.

`python tools/names.py` writes it as the page docs/names.md.
"""

import difflib
import sys
from collections.abc import Collection, Iterator
from types import ModuleType
from typing import NamedTuple

ROOMS = (
    "models",
    "losses",
    "metrics",
    "distributions",
    "ops",
    "init",
    "data",
    "augment",
    "regularizers",
    "constraints",
    "points",
    "interop",
    "linear",
    "retrieval",
    "sharding",
    "diagnosis",
    "explain",
)


class Row(NamedTuple):
    """One entry of the table.

    Attributes:
      target: name in jaxnn.
      names: names in other libraries, separated by spaces.
      remark: difference from the other libraries.
    """

    target: str
    names: str
    remark: str = ""


TABLE = {
    "Layers": (
        Row("dense", "Linear Dense LazyLinear DenseGeneral", "init finds the size of the input."),
        Row("embed", "Embedding Embed EmbeddingBag"),
        Row("conv", "Conv1d Conv2d Conv3d Conv2D", "Channels come last; padding='same' is the default."),
        Row("conv_transpose", "ConvTranspose1d ConvTranspose2d ConvTranspose3d Conv2DTranspose Conv1DTranspose"),
        Row("depthwise_conv", "DepthwiseConv2D DepthwiseConv1D"),
        Row("separable_conv", "SeparableConv2D SeparableConv1D"),
        Row("max_pool", "MaxPool1d MaxPool2d MaxPool3d MaxPooling1D MaxPooling2D MaxPooling3D"),
        Row("avg_pool", "AvgPool1d AvgPool2d AvgPool3d AveragePooling1D AveragePooling2D AveragePooling3D"),
        Row("lp_pool", "LPPool1d LPPool2d"),
        Row("adaptive_avg_pool", "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d"),
        Row("adaptive_max_pool", "AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d"),
        Row("global_avg_pool", "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAvgPool2D"),
        Row("global_max_pool", "GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPool2D"),
        Row("batch_norm", "BatchNorm BatchNorm1d BatchNorm2d BatchNorm3d BatchNormalization SyncBatchNorm"),
        Row("layer_norm", "LayerNorm LayerNormalization"),
        Row("group_norm", "GroupNorm GroupNormalization"),
        Row("instance_norm", "InstanceNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d"),
        Row("rms_norm", "RMSNorm RMSNormalization"),
        Row("local_response_norm", "LocalResponseNorm"),
        Row("weight_norm", "WeightNorm WeightNormalization"),
        Row("spectral_norm", "SpectralNorm SpectralNormalization"),
        Row("lora", "LoRA LoraConfig get_peft_model"),
        Row("merge_lora", "merge_and_unload merge_adapter"),
        Row("dropout", "Dropout"),
        Row("spatial_dropout", "Dropout1d Dropout2d Dropout3d SpatialDropout1D SpatialDropout2D"),
        Row("alpha_dropout", "AlphaDropout"),
        Row("stochastic_depth", "StochasticDepth DropPath"),
        Row("gaussian_noise", "GaussianNoise"),
        Row("rnn", "RNN RNNCell SimpleRNN SimpleCell"),
        Row("lstm", "LSTM LSTMCell OptimizedLSTMCell Bidirectional", "For both directions bidirectional=True."),
        Row("gru", "GRU GRUCell"),
        Row("conv_lstm", "ConvLSTM2D ConvLSTMCell ConvLSTM"),
        Row("attention", "MultiheadAttention MultiHeadAttention MultiHeadDotProductAttention SelfAttention"),
        Row("encoder_block", "TransformerEncoderLayer TransformerEncoder"),
        Row("decoder_block", "TransformerDecoderLayer TransformerDecoder"),
        Row(
            "mixture_of_experts",
            "MoE MoeLayer MoeMlp RoutedMoE MixtralSparseMoeBlock SwitchTransformersSparseMLP",
            "The losses of balance are in its state: trainer(auxiliary=).",
        ),
        Row("learned_positions", "PositionEmbedding"),
        Row("sinusoidal_positions", "PositionalEncoding SinePositionEncoding"),
        Row("patches", "PatchEmbed PatchEmbedding"),
        Row("class_token", "ClassToken cls_token"),
        Row("unembed", "tie_weights ReversibleEmbedding attend", "Called under the name of an embed, it shares its w."),
        Row("pad", "ZeroPad2d ReflectionPad2d ReplicationPad2d CircularPad2d ConstantPad2d ZeroPadding2D"),
        Row("flatten", "Flatten"),
        Row("upsample", "Upsample UpSampling2D UpsamplingNearest2d UpsamplingBilinear2d"),
        Row("depth_to_space", "PixelShuffle pixel_shuffle"),
        Row("space_to_depth", "PixelUnshuffle pixel_unshuffle"),
        Row("prelu", "PReLU"),
        Row("maxout", "Maxout"),
    ),
    "Models": (
        Row("models.resnet", "resnet18 resnet34 resnet50 resnet101 resnet152 ResNet18 ResNet50", "resnet(18)."),
        Row("models.wide_resnet", "WideResNet WRN"),
        Row("models.vgg", "vgg11 vgg13 vgg16 vgg19 vgg16_bn", "vgg(16, norm=nn.batch_norm) for vgg16_bn."),
        Row("models.mobilenet_v2", "MobileNetV2 MobileNet"),
        Row("models.efficientnet", "efficientnet_b0 efficientnet_b1 efficientnet_lite0", 'efficientnet("b0").'),
        Row("models.hed", "HED HolisticallyNestedEdgeDetection"),
        Row("models.mtcnn", "MTCNN PNet RNet ONet", 'mtcnn("pnet").'),
        Row("models.crepe", "CREPE Crepe"),
        Row("models.silero_vad", "SileroVAD load_silero_vad"),
        Row("models.lenet", "LeNet5"),
        Row("models.mlp", "MultiLayerPerceptron MLPClassifier MLPRegressor"),
        Row("models.vae", "VariationalAutoencoder"),
        Row("models.char_rnn", "RNNModel CharLM"),
        Row("models.gpt", "GPT GPT2 GPT2LMHeadModel nanoGPT", "The defaults are GPT-2 small."),
        Row("models.bert", "BERT BertModel", "BertForMaskedLM is bert(masked=True)."),
        Row("models.vit", "VisionTransformer ViT vit_b_16 vit_b_32"),
        Row("models.ddpm_unet", "UNet2DModel UNetModel"),
        Row("models.dcgan_generator", "Generator DCGAN"),
        Row("models.dcgan_discriminator", "Discriminator"),
    ),
    "Layers from layers": (
        Row("serial", "Sequential chain"),
        Row("parallel", "Add Concatenate Parallel", "join='add' or join='concatenate'."),
        Row("residual", "Residual SkipConnection"),
        Row("repeat", "ModuleList scan_layers", "For n copies of one block; others are plain Python lists."),
        Row("remat", "checkpoint"),
        Row("time_distributed", "TimeDistributed"),
        Row("lift", "Lambda Activation"),
        Row("identity", "Identity"),
        Row("initial_state", "get_initial_state init_cache initialize_carry"),
        Row("layer", "Module Model", "A layer is two functions: nn.layer(init, apply, kind)."),
        Row("Padded", "Masking PackedSequence pack_padded_sequence pad_sequence"),
        Row("capture", "register_forward_hook sow"),
    ),
    "Activations": (
        Row("relu", "ReLU"),
        Row("relu6", "ReLU6"),
        Row("leaky_relu", "LeakyReLU"),
        Row("thresholded_relu", "ThresholdedReLU Threshold"),
        Row("elu", "ELU"),
        Row("selu", "SELU"),
        Row("celu", "CELU"),
        Row("gelu", "GELU"),
        Row("silu", "SiLU Swish"),
        Row("mish", "Mish"),
        Row("glu", "GLU"),
        Row("hard_swish", "Hardswish hard_silu"),
        Row("hard_sigmoid", "Hardsigmoid"),
        Row("hard_tanh", "Hardtanh hardtanh"),
        Row("soft_shrink", "Softshrink softshrink"),
        Row("hard_shrink", "Hardshrink hardshrink"),
        Row("sigmoid", "Sigmoid expit"),
        Row("tanh", "Tanh"),
        Row("softplus", "Softplus"),
        Row("softsign", "Softsign soft_sign"),
        Row("log_sigmoid", "LogSigmoid"),
        Row("softmax", "Softmax"),
        Row("log_softmax", "LogSoftmax"),
        Row("unit_step", "heaviside step_function"),
    ),
    "Losses": (
        Row("losses.squared_error", "MSELoss mse_loss mse MeanSquaredError mean_squared_error l2_loss", "Not halved."),
        Row("losses.absolute_error", "L1Loss l1_loss mae MeanAbsoluteError mean_absolute_error"),
        Row(
            "losses.absolute_percentage_error",
            "MeanAbsolutePercentageError mean_absolute_percentage_error mape MAPE",
            "A share: Keras's is 100 times it.",
        ),
        Row(
            "losses.squared_log_error",
            "MeanSquaredLogarithmicError mean_squared_logarithmic_error mean_squared_log_error msle MSLE",
        ),
        Row("losses.huber", "HuberLoss huber_loss SmoothL1Loss smooth_l1_loss"),
        Row("losses.log_cosh", "LogCosh logcosh"),
        Row("losses.quantile", "quantile_loss pinball pinball_loss"),
        Row("losses.poisson_nll", "PoissonNLLLoss Poisson poisson_nll_loss"),
        Row("losses.gaussian_nll", "GaussianNLLLoss gaussian_nll_loss"),
        Row(
            "losses.softmax_cross_entropy",
            "CrossEntropyLoss cross_entropy CategoricalCrossentropy SparseCategoricalCrossentropy "
            "softmax_cross_entropy_with_integer_labels",
            "It takes logits, and labels as integers or as probabilities.",
        ),
        Row("losses.cross_entropy_on_log_probabilities", "NLLLoss nll_loss"),
        Row(
            "losses.binary_cross_entropy",
            "BCEWithLogitsLoss binary_cross_entropy_with_logits sigmoid_binary_cross_entropy BinaryCrossentropy",
            "It takes logits.",
        ),
        Row("losses.binary_cross_entropy_on_probabilities", "BCELoss"),
        Row("losses.focal", "sigmoid_focal_loss FocalLoss focal_loss"),
        Row("losses.focal_on_probabilities", "BinaryFocalCrossentropy", "losses.focal takes logits."),
        Row("losses.softmax_focal", "CategoricalFocalCrossentropy"),
        Row("losses.kl_divergence", "KLDivLoss kl_div KLDivergence"),
        Row("losses.hinge", "Hinge hinge_loss"),
        Row("losses.squared_hinge", "SquaredHinge"),
        Row("losses.multi_class_hinge", "MultiMarginLoss multi_margin_loss CategoricalHinge multiclass_hinge_loss"),
        Row("losses.margin_ranking", "MarginRankingLoss margin_ranking_loss"),
        Row("losses.cosine_distance", "CosineSimilarity cosine_similarity", "1 - similarity."),
        Row("losses.cosine_embedding", "CosineEmbeddingLoss cosine_embedding_loss"),
        Row("losses.triplet", "TripletMarginLoss triplet_margin_loss"),
        Row("losses.triplet_semi_hard", "TripletSemiHardLoss"),
        Row("losses.contrastive", "ContrastiveLoss"),
        Row("losses.circle", "CircleLoss circle_loss"),
        Row("losses.nt_xent", "InfoNCE NTXentLoss info_nce_loss ntxent"),
        Row("losses.dice", "Dice DiceLoss dice_loss"),
        Row("losses.tversky", "Tversky"),
        Row("losses.ctc", "CTCLoss ctc_loss CTC"),
    ),
    "Linear models": (
        Row("linear.linear_regression", "LinearRegression Ridge lstsq RidgeRegression", "ridge= is Ridge's alpha."),
        Row("linear.logistic_regression", "LogisticRegression", "l2= is 1 / C."),
        Row("linear.stream", "partial_fit SGDRegressor", "update for each chunk, then solve."),
        Row("linear.probabilities", "predict_proba"),
        Row("linear.classify", "predict_classes"),
    ),
    "Retrieval": (
        Row("retrieval.index", "IndexFlatIP IndexFlatL2 IndexFlat", "metric= is cosine by default."),
        Row("retrieval.nearest", "NearestNeighbors kneighbors BruteForce FactorizedTopK", "It is exact."),
    ),
    "Diagnosis": (
        Row("diagnosis.range_test", "LRFinder lr_find lr_finder", "It takes multiples of the rate."),
        Row("diagnosis.label_noise", "find_label_issues CleanLearning", "It takes held-out probabilities."),
        Row("diagnosis.failures", "classification_report"),
        Row("diagnosis.learning_curve", "LearningCurveDisplay"),
    ),
    "Explanations": (
        Row("explain.saliency", "Saliency VanillaGradients", "It keeps the sign."),
        Row("explain.smooth_grad", "NoiseTunnel SmoothGrad"),
        Row("explain.integrated_gradients", "IntegratedGradients"),
        Row("explain.guided_backprop", "GuidedBackprop"),
        Row("explain.deconvnet", "Deconvolution DeconvNet"),
        Row("explain.grad_cam", "LayerGradCam GradCAM Gradcam"),
        Row("explain.grad_cam_plus_plus", "GradCAMPP GradcamPlusPlus GradCAMPlusPlus"),
        Row("explain.score_cam", "ScoreCAM Scorecam"),
        Row("explain.occlusion", "Occlusion OcclusionSensitivity FeatureAblation"),
        Row("explain.shapley_values", "ShapleyValueSampling ShapleyValues PermutationExplainer KernelShap"),
        Row("explain.attention_rollout", "AttentionRollout"),
        Row("explain.from_layer", "LayerGradientXActivation LayerIntegratedGradients"),
        Row("explain.to_layer", "create_feature_extractor IntermediateLayerGetter get_intermediate_layers"),
        Row("explain.activations", "get_layer_outputs LayerActivation"),
        Row("explain.pca", "PCA IncrementalPCA pca_lowrank", "nn.augment.whitening keeps all components."),
        Row("explain.tsne", "TSNE openTSNE", "It calls scikit-learn."),
        Row("explain.linear_probe", "LinearProbe RidgeClassifier"),
        Row("explain.cka", "CKA CentredKernelAlignment linear_CKA kernel_CKA"),
        Row("explain.activation_maximization", "ActivationMaximization FeatureVisualization render_vis"),
        Row("explain.deep_dream", "DeepDream"),
        Row("explain.filters", "plot_filters visualize_filters"),
        Row("explain.landscape", "random_plane loss_landscapes"),
        Row("explain.plot.grid", "make_grid"),
        Row("explain.plot.maps", "visualize_image_attr"),
        Row("explain.plot.matrix", "heatmap"),
        Row("explain.input_x_gradient", "InputXGradient GradientsInputs GradientInput"),
    ),
    "Distributions": (
        Row("distributions.categorical_log_prob", "Categorical OneHotCategorical", "It takes logits."),
        Row("distributions.normal_log_prob", "MultivariateNormalDiag DiagGaussian NormalDiag", "It takes log_std."),
        Row("distributions.squashed_normal_log_prob", "TanhTransform SquashedNormal TanhNormal"),
    ),
    "Metrics": (
        Row("metrics.accuracy", "Accuracy SparseCategoricalAccuracy CategoricalAccuracy accuracy_score"),
        Row("metrics.binary_accuracy", "BinaryAccuracy"),
        Row("metrics.top_k_accuracy", "TopKCategoricalAccuracy SparseTopKCategoricalAccuracy top_k_accuracy_score"),
        Row("metrics.precision", "Precision precision_score"),
        Row("metrics.recall", "Recall recall_score"),
        Row("metrics.f1", "F1Score f1_score FBetaScore"),
        Row("metrics.iou", "IoU MeanIoU JaccardIndex jaccard_score"),
        Row("metrics.roc_auc", "AUC AUROC roc_auc_score"),
        Row("metrics.pr_auc", "average_precision_score AveragePrecision"),
        Row(
            "metrics.retrieval_average_precision", "RetrievalMAP MAPAtK", "It also takes the number of relevant items."
        ),
        Row("metrics.r2", "R2Score r2_score"),
        Row("metrics.confusion_matrix", "ConfusionMatrix"),
        Row(
            "metrics.frechet_distance",
            "FrechetInceptionDistance FID",
            "It takes features in place of images and a network.",
        ),
        Row("metrics.calibration_temperature", "CalibratedClassifierCV temperature_scaling"),
    ),
    "Optimizers": (
        Row("sgd", "SGD Momentum"),
        Row("adam", "Adam"),
        Row("adamw", "AdamW"),
        Row("amsgrad", "AMSGrad"),
        Row("adamax", "Adamax"),
        Row("nadam", "NAdam Nadam"),
        Row("radam", "RAdam"),
        Row("adagrad", "Adagrad"),
        Row("adadelta", "Adadelta"),
        Row("rmsprop", "RMSprop"),
        Row("rprop", "Rprop"),
        Row("lion", "Lion"),
        Row("lamb", "Lamb LAMB"),
        Row("lars", "LARS"),
        Row("adafactor", "Adafactor"),
        Row("muon", "Muon"),
        Row("lbfgs", "LBFGS L_BFGS", "nn.trainer gives it the loss that its line search needs."),
        Row("by_path", "multi_transform partition param_groups"),
        Row("flat", "flatten_params"),
    ),
    "Initializers": (
        Row("init.he_normal", "kaiming_normal_ HeNormal"),
        Row("init.he_uniform", "kaiming_uniform_ HeUniform"),
        Row("init.glorot_normal", "xavier_normal_ GlorotNormal"),
        Row("init.glorot_uniform", "xavier_uniform_ GlorotUniform"),
        Row("init.lecun_normal", "LecunNormal"),
        Row("init.lecun_uniform", "LecunUniform"),
        Row("init.truncated_normal", "trunc_normal_ TruncatedNormal"),
        Row("init.normal", "normal_ RandomNormal"),
        Row("init.uniform", "uniform_ RandomUniform"),
        Row("init.orthogonal", "orthogonal_ OrthogonalInitializer"),
        Row("init.constant", "constant_ Constant"),
        Row("init.zeros", "zeros_ Zeros zeros_init"),
        Row("init.ones", "ones_ Ones ones_init"),
        Row("init.variance_scaling", "VarianceScaling"),
        Row(
            "init.preset", "kernel_initializer reset_parameters", "Layers take it as preset='torch', 'keras' or 'flax'."
        ),
    ),
    "Training": (
        Row("trainer", "compile train_step value_and_grad zero_grad backward", "It makes init, step and evaluate."),
        Row(
            "trainer",
            "autocast amp set_global_policy set_dtype_policy DTypePolicy mixed_precision get_policy",
            'trainer(..., precision="bfloat16") or "float16" switches a run, nn.cast(layer, dtype) a layer.',
        ),
        Row(
            "LossScale",
            "GradScaler LossScaleOptimizer DynamicLossScale StaticLossScale NoOpLossScale DynamicScale",
            'trainer(..., precision="float16") has one; trainer(loss_scale=) sets its first value and its period.',
        ),
        Row("fit", "EarlyStopping train", "nn.fit(trainer, key, train, valid, epochs=, patience=)."),
        Row("drive", "ModelCheckpoint", "nn.drive(..., checkpoint=folder)."),
        Row("TrainState", "train_state create_train_state"),
        Row("predict", "evaluate_model inference"),
        Row("generate", "sample generate_text beam_search", "Draws tokens one at a time; there is no beam search."),
        Row("save", "save_model state_dict save_weights save_checkpoint dump"),
        Row("load", "load_model load_state_dict load_weights restore_checkpoint"),
        Row("summary", "tabulate torchinfo plot_model"),
        Row("export", "export_saved_model"),
        Row("recalibrate", "update_bn"),
        Row("mesh", "DeviceMesh init_device_mesh make_mesh create_device_mesh"),
        Row(
            "shard",
            "DataParallel ModelParallel parallelize_module",
            "nn.shard(trainer, nn.mesh('data=8'), rules).",
        ),
        Row(
            "sharding.global_batch",
            "make_array_from_process_local_data host_local_array_to_global_array DistributedSampler",
        ),
        Row("sharding.data_parallel", "pmap DistributedDataParallel"),
        Row("cores_as_devices", "set_num_threads xla_force_host_platform_device_count"),
        Row("sharding.fsdp", "FullyShardedDataParallel FSDP fully_shard ZeRO"),
        Row("sharding.tensor_parallel", "ColwiseParallel RowwiseParallel"),
        Row("sharding.expert_parallel", "ExpertParallel expert_model_parallel_size"),
        Row("sharding.pipeline", "PipelineStage ScheduleGPipe pipe_split GPipe", "With shard(microbatches=)."),
        Row("ensemble", "VotingClassifier"),
        Row("cross_validate", "cross_val_score KFold StratifiedKFold"),
        Row("sweep", "GridSearchCV RandomizedSearchCV Tuner"),
        Row("points.grid", "ParameterGrid GridSearch"),
        Row("points.random", "ParameterSampler RandomSearch"),
        Row("interop.read", "load_file safe_open from_bytes msgpack_restore", "Weight files of other libraries."),
        Row("interop.write", "save_file save_pretrained", "Files for PyTorch, safetensors and NumPy."),
        Row("interop.to_onnx", "to_onnx onnx_export"),
        Row("interop.flax_module", "linen flax", "A layer of a flax.linen module."),
        Row(
            "interop.load",
            "from_pretrained load_checkpoint convert_state_dict",
            "Weights of PyTorch, Keras, flax.",
        ),
        Row("interop.as_flax", "to_linen ToLinen", "A flax.linen module of a layer."),
        Row("interop.nnx_module", "nnx", "A layer of a flax.nnx module."),
        Row("interop.as_nnx", "to_nnx ToNNX", "A flax.nnx module of a layer."),
        Row("interop.equinox_module", "eqx equinox", "A layer of an Equinox module."),
        Row("data.batches", "DataLoader TensorDataset BatchSampler"),
        Row("data.split", "train_test_split random_split"),
        Row("data.load", "load_dataset load_data"),
        Row("data.one_hot", "to_categorical OneHotEncoder onehot"),
        Row("data.encode", "LabelEncoder StringLookup"),
        Row("regularizers.l1", "L1"),
        Row("regularizers.l2", "L2 weight_decay"),
        Row("regularizers.elastic_net", "L1L2"),
        Row("constraints.max_norm", "MaxNorm"),
        Row("constraints.unit_norm", "UnitNorm"),
        Row("constraints.non_negative", "NonNeg"),
    ),
    "Augmentation": (
        Row("augment.affine", "RandomAffine RandomAffineTransform"),
        Row("augment.autocontrast", "RandomAutocontrast AutoContrast"),
        Row("augment.blur", "GaussianBlur gaussian_blur RandomGaussianBlur"),
        Row("augment.brightness", "RandomBrightness adjust_brightness random_brightness"),
        Row("augment.center_crop", "CenterCrop"),
        Row("augment.chain", "Compose Pipeline"),
        Row("augment.channel_shuffle", "RandomChannelPermutation ChannelShuffle"),
        Row("augment.channel_shift", "RandomChannelShift"),
        Row("augment.contrast", "RandomContrast adjust_contrast random_contrast"),
        Row("augment.crop", "RandomCrop random_crop"),
        Row("augment.cutmix", "CutMix"),
        Row("augment.cutout", "RandomErasing random_erasing", "Its size is fixed."),
        Row("augment.elastic", "ElasticTransform elastic_transform RandomElasticTransform"),
        Row("augment.equalize", "RandomEqualize Equalization equalize_hist"),
        Row(
            "augment.flip",
            "RandomHorizontalFlip RandomVerticalFlip RandomFlip horizontal_flip vertical_flip fliplr flipud "
            "random_flip_left_right random_flip_up_down",
        ),
        Row("augment.gamma", "adjust_gamma RandomGamma"),
        Row("augment.grayscale", "RandomGrayscale rgb_to_grayscale rgb2gray to_grayscale"),
        Row("augment.hue", "RandomHue adjust_hue random_hue"),
        Row("augment.invert", "RandomInvert"),
        Row("augment.mixup", "MixUp"),
        Row("augment.noise", "GaussNoise RandomGaussianNoise"),
        Row("augment.normalization", "Normalize StandardScaler", "Normalization(mean, std).apply takes known ones."),
        Row("augment.pca_color", "FancyPCA pca_colour Lighting"),
        Row("augment.perspective", "RandomPerspective"),
        Row("augment.posterize", "RandomPosterize posterise"),
        Row("augment.rand_augment", "RandAugment"),
        Row("augment.resize", "Resize"),
        Row("augment.resized_crop", "RandomResizedCrop"),
        Row("augment.rotate", "RandomRotation"),
        Row("augment.saturation", "RandomSaturation adjust_saturation RandomColorDegeneration"),
        Row(
            "augment.brightness",
            "ColorJitter RandomColorJitter",
            "Chain it with contrast, saturation and hue.",
        ),
        Row("augment.sharpness", "RandomAdjustSharpness RandomSharpness adjust_sharpness"),
        Row("augment.shear", "RandomShear"),
        Row("augment.solarize", "RandomSolarize Solarization solarise"),
        Row("augment.sometimes", "RandomApply"),
        Row("augment.translate", "RandomTranslation"),
        Row("augment.trivial_augment", "TrivialAugmentWide TrivialAugment"),
        Row("augment.whitening", "LinearTransformation ZCA zca_whitening"),
        Row("augment.zoom", "RandomZoom"),
    ),
    "Arithmetic": (
        Row("ops.attention", "scaled_dot_product_attention dot_product_attention"),
        Row("ops.resize", "interpolate Resizing"),
        Row("ops.unfold", "Unfold im2col extract_patches conv_general_dilated_patches"),
        Row("ops.fold", "Fold col2im"),
        Row("ops.max_pool_with_indices", "max_pool2d_with_indices"),
        Row("ops.max_unpool", "MaxUnpool2d max_unpool2d"),
        Row("ops.non_maximum_suppression", "nms batched_nms"),
        Row("ops.roi_align", "RoIAlign"),
        Row("ops.box_giou", "generalized_box_iou"),
        Row("ops.lp_normalize", "l2_normalize UnitNormalization", "As PyTorch's and Keras's normalize."),
        Row("ops.rotary", "RotaryEmbedding apply_rotary_emb"),
        Row("ops.grid_sample", "GridSample"),
    ),
}


ARGUMENTS = {
    "features": "out_features out_channels units filters num_features embed_dim hidden_size d_model embedding_dim",
    "size": "num_embeddings input_dim output_size patch_size",
    "kernel_size": "window pool_size kernel_shape window_shape",
    "stride": "strides window_strides",
    "dilation": "dilation_rate kernel_dilation rhs_dilation",
    "groups": "feature_group_count num_groups",
    "multiplier": "depth_multiplier",
    "bias": "use_bias center",
    "w_init": "kernel_initializer kernel_init embeddings_initializer embedding_init weight_init",
    "b_init": "bias_initializer bias_init",
    "w_h_init": "recurrent_initializer",
    "preset": "initializer init style",
    "heads": "num_heads nhead n_heads",
    "kv_heads": "num_kv_heads num_key_value_heads",
    "causal": "is_causal",
    "hidden": "dim_feedforward mlp_dim",
    "experts": "num_experts num_local_experts n_experts",
    "k": "num_experts_per_tok top_k num_selected_experts",
    "microbatches": "n_microbatches num_microbatches chunks",
    "layers": "num_layers",
    "rate": "p prob drop_rate dropout_rate",
    "stddev": "std",
    "return_carry": "return_state",
    "classes": "num_classes n_classes nb_classes num_labels",
    "vocabulary": "vocab_size n_vocab num_tokens",
    "latent": "latent_dim z_dim code_size",
    "width": "width_mult width_multiplier",
    "depth_rate": "drop_connect_rate stochastic_depth_prob drop_path_rate",
    "norm": "norm_layer norm_cls",
    "method": "mode interpolation",
    "scale": "scale_factor use_scale",
    "return_weights": "need_weights return_attention_scores output_attentions",
    "steps": "max_new_tokens max_length",
    "stop": "eos_token_id stop_token_ids",
    "factor": "upscale_factor downscale_factor block_size",
    "learning_rate": "lr step_size",
    "b1": "beta_1 beta1",
    "b2": "beta_2 beta2",
    "eps": "epsilon",
    "decay": "alpha",
    "mask": "weight_decay_mask",
    "optimizer": "tx",
    "loss": "loss_fn criterion",
    "members": "num_models",
    "auxiliary": "aux_loss add_loss router_aux_loss_coef",
}

DRAWN = "init finds it from the input."
NOT_HERE = {
    **dict.fromkeys(("in_features", "in_channels", "input_size", "input_shape", "num_input"), DRAWN),
    "activation": "An activation is a layer of its own: nn.serial(nn.dense(3), nn.relu).",
    **dict.fromkeys(("affine", "elementwise_affine"), "scale=False, bias=False omit both."),
    "norm_first": "post_norm=True puts the norms after the additions.",
    "batch_first": "The axes are [batch, time, features].",
    "return_sequences": "All steps are returned; last=True returns the last one only.",
    "data_format": "Channels come last.",
    "params": "Its init takes the params: optimizer.init(params).",
    "betas": "They are two arguments, b1 and b2.",
    "rngs": "Keys are given to init and apply.",
    "device": "jax.device_put moves the params.",
    "flat": "nn.flat(optimizer) is a wrapper: one vector in place of many small params.",
    "dtype": "Params have the dtype of init's x, at least float32; nn.cast computes in another.",
    "compute_dtype": "nn.cast(layer, dtype) computes in another; trainer(precision=) is the switch of a run.",
    "param_dtype": "Params have the dtype of init's x, at least float32.",
}


def unexpected(name: str, parameters: Collection[str]) -> str:
    """Advice for an argument that a function does not have; "" if there is none.

    Args:
      name: the unexpected argument.
      parameters: names of the function's parameters.

    >>> unexpected("lr", ["learning_rate", "b1", "b2"])
    'lr is learning_rate here.'
    """
    for own, others in ARGUMENTS.items():
        if own in parameters and name in others.split():
            return f"{name} is {own} here."
    if name in NOT_HERE:
        return NOT_HERE[name]
    close = difflib.get_close_matches(name, parameters, 1)
    return f"Did you mean {close[0]}?" if close else ""


def here(name: str) -> Row | None:
    """The row of a name of another library or of jaxnn, ignoring case and underscores; None if unknown.

    >>> here("Linear").target, here("BatchNorm2d").target, here("SquaredError").target, here("nonsense")
    ('dense', 'batch_norm', 'losses.squared_error', None)
    """
    known = {_plain(own): Row(target, own) for target, own in reversed(list(_ours()))}
    known |= {_plain(other): row for rows in TABLE.values() for row in rows for other in row.names.split()}
    return known.get(_plain(name))


def missing(module: str, name: str) -> AttributeError:
    """AttributeError for a name that a module does not have; it names the equivalent in jaxnn, if known."""
    text = f"module {module!r} has no attribute {name!r}"
    row = None if name.startswith("__") else here(name)
    if row is not None:
        asked = f"nn{module.removeprefix('jaxnn')}.{name}"
        text = f"{asked} is nn.{row.target} here." + (f" {row.remark}" if row.remark else "")
    return AttributeError(text, name=name, obj=sys.modules[module])


def page() -> str:
    """The table as Markdown."""
    lines = ["# Names from elsewhere", "", "PyTorch, Keras, flax, optax and scikit-learn to `jaxnn as nn`. `nn.Linear`"]
    lines[-1] += " and similar names raise an error that says the same. Made by `python tools/names.py`."
    for title, rows in TABLE.items():
        lines += ["", f"## {title}", "", "| elsewhere | here | |", "|---|---|---|"]
        for row in rows:
            names = ", ".join(f"`{name}`" for name in row.names.split())
            lines.append(f"| {names} | `nn.{row.target}` | {row.remark} |")
    lines += ["", "## Arguments", "", "| elsewhere | here |", "|---|---|"]
    for own, others in ARGUMENTS.items():
        lines.append(f"| {', '.join(f'`{other}`' for other in others.split())} | `{own}` |")
    lines += [f"| `{name}` | {text} |" for name, text in NOT_HERE.items()]
    return "\n".join(lines) + "\n"


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _ours() -> Iterator[tuple[str, str]]:
    """Pairs (path, name) of the public functions and classes, those of the top level first."""
    top = sys.modules["jaxnn"]
    for room, module in [("", top), *((f"{room}.", getattr(top, room, None)) for room in ROOMS)]:
        for name in getattr(module, "__all__", ()):
            if not isinstance(getattr(module, name), ModuleType):
                yield room + name, name
