"""Keys of a configuration that change no size: a reader that doesn't ask for them misses nothing.

What is in neither list and isn't read becomes a note. So a key belongs here only if no family's weights, cache or
experts per token depend on it.
"""

from __future__ import annotations

_FRAGMENTS = """
    _activation _bos_ _end_id _eos_ _eps _impl _in_fp32 _init_ _loss_ _pad_id _start_id _token_id _yarn act_fn
    activation_ alibi_bias alpha_factor audio_token aux_loss beta_factor cache_dtype capacity checkpoint classifier_
    clip_threshold drop_path drop_rate dropout embedding_scale embeddings_scale epsilon expert_group flash_attn
    grid_pinpoints hidden_act id2label image_mean image_std image_token in_multiplier init_std initializer jitter
    kernel_dtype key_multiplier label2id layerdrop length_penalty lm_head_multiplier log_scaling logit_scale
    logits_scaling longrope loss_coef lower_bound mask_feature mask_time max_inference mlp_multipliers mtp_ mup_
    norm_topk normalization_constant num_beams num_labels out_multiplier parallel_size pdrop pooling pretraining_tp
    problem_type random_seed renormalize rope_base rope_factor rope_freq rope_impl rope_inter rope_local rope_max
    rope_param rope_pct rope_percent rope_ratio rope_scal rope_theta rope_type rotary route_scale routed_scaling
    router_dtype router_logits scaling_factor score_func scoring_func second_expert sinkhorn soft_cap softcap
    softmax_scale spec_augment ssm_dtype ssm_multipliers std_dev summary_ suppress_tokens swiglu_alpha temperature
    time_step_ token_index tokenizer top_p topk_method transformers_version video_token vision_token width_scale
    yarn_ z_loss
"""
FRAGMENTS = tuple(_FRAGMENTS.split())
"""Parts of names of keys about tokens, training, numerics and positions computed on the fly."""

_NAMES = """
    L_bp_cycles activation add_router_probs afn altup_active_idx altup_coef_clip altup_correct_scale
    apply_query_key_layer_scaling apply_residual_connection_post_layernorm approx_mode architectures
    attention_multiplier attention_type attention_value_scale attn_scale attn_type attn_uses_sequence_id auto_map
    bad_words_ids batch_prioritized_routing batch_size bf16 bi_data block_per_row block_size chunk_size
    chunk_size_feed_forward chunkwise_kernel clamp_len clip_qkv conv_window cross_attention_hidden_size
    decoder_start_token deepstack description dim_model_base disable_ngram_loss diversity_penalty do_sample dtype
    early_stopping embedding_fraction embedding_multiplier enable_moe_fp32_combine encoder_no_repeat_ngram_size
    end_n_top ep_size eps expert_selection_fn finetuning_task floor_scale force_dequant fp16 fp32
    fp32_residual_connection global_block_size hash_code_len hc_magnitude image_seq_length init init_cutoff_factor
    init_device initial_context_length initial_prior_diagonal_n_blocks initial_prior_first_n_blocks interleaved_qkv
    is_decoder is_encoder_decoder is_gated_act keep_window_size kv_cache_quant langs language license local_radius
    lsh_backward mamba_chunk_size mask_index max_batch_size max_length max_logits max_num_tiles
    max_relative_positions max_sequence_length median_filter_width mem_len min_length mm_projector_type
    mm_tokens_per_image model_max_length model_name model_type moe_norm_min moe_normalize_expert_weights n_group
    name no_repeat_ngram no_repeat_ngram_size norm_after norm_reduction_force_float32
    normalize_router_prob_before_dropping num_hash num_landmarks num_logits_to_keep num_nextn_predict_layers
    num_random_blocks num_return_sequences onnx_export onnx_safe original_max_position_embeddings output_attentions
    output_hidden_states output_multiplier output_past output_scores pad_head_dim_to_multiple_of
    pad_vocab_size_multiple pool_q_only pooler_hidden_size pos_emb_type position_bias_max_distance
    position_encoding_2d pre_seq_len prefix prefix_lm prefix_projection pruned_heads qk_scale_factor quant_mode
    query_pre_attn_scalar relative_attention_max_distance relative_max_distance remove_invalid_values
    reorder_and_upcast_attn repetition_penalty rescale_embeddings rescale_every rescale_prenorm_residual resid_scale
    residual_multiplier return_dict return_dict_in_generate return_last_states reuse_len
    router_ignore_padding_tokens safe_gate same_length scale_attn_by_inverse_layer_idx scale_attn_weights
    scale_decoder_outputs scale_depth scale_emb scale_embedding scale_qk_dot_by_d segment_means_seq_len separate_cls
    seq_aux seq_length sequence_kernel slow_but_exact softmax_precision source sparse_pred_ignore_index
    stagger_local_blocks start_n_top step_kernel swiglu_limit swin_norm task_specific_params task_type
    task_type_vocab_size tf_legacy_loss tie_last_hidden_states token_healing top_k topk_group torch_dtype
    torchscript training truncate_seq trust_remote_code typical_p unk_index unpadded_vocab_size url
    use_associative_scan use_bfloat16 use_bidirectional_attention use_cache use_cache_quantization use_dynamic_ntk
    use_expectation use_expert_bias use_fast_hash use_logn_attn use_long_context use_mamba_kernels use_mambapy
    use_mem_eff_path use_mems_eval use_mems_train use_mrope use_mtp use_parallel_residual use_xent_loss
    video_attn_type video_seq_length vision_soft_tokens_per_image vision_vocab_size vocabulary_map weight_mode
    wrap_layers xla_device
"""
NAMES = frozenset(_NAMES.split())
"""Whole names of such keys."""


def is_harmless(name: str) -> bool:
    """Whether a key, given with the dotted path to it, changes no size."""
    last = name.rpartition(".")[2]
    return last in NAMES or last.startswith("_") or any(part in last for part in FRAGMENTS)
