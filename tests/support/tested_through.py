"""Modules without a test file of their own, each with the tests that would fail if it were wrong.

A module stands here when what it does can be told right from wrong only in the whole that it is a part of, or when its
tests would repeat those of the module that is built on it. `tests/test_mirror.py` holds that these tests reach it.
"""

from __future__ import annotations

# test file -> modules, each group with its reason.
TESTED_THROUGH: dict[str, tuple[str, ...]] = {
    # Images from a checkpoint to an answer: right when transformers gives the same tokens, and each fault is seen.
    "scenarios/test_image_models.py": (
        "exporter/estimates/feature_sizes.py",
        "exporter/contract/image_prompt.py",
        "exporter/gate/shown_reference.py",
        "exporter/sources/image_text.py",
        "exporter/sources/text_part.py",
        "exporter/tracing/image_decoder.py",
        "exporter/tracing/trace_images.py",
        "exporter/tracing/unpacked_tiles.py",
        "exporter/tracing/vision.py",
        "runtimes/backends/ort_cpu/vision.py",
        "runtimes/shown/image_reader.py",
        "runtimes/images/preparation.py",
    ),
    # The same for recordings.
    "scenarios/test_audio_models.py": (
        "exporter/sources/audio_processor.py",
        "exporter/sources/feature_ways.py",
        "exporter/tracing/trace_recordings.py",
        "runtimes/backends/ort_cpu/hearing.py",
        "runtimes/shown/recording_reader.py",
    ),
    "exporter/gate/test_hearing.py": ("exporter/gate/shown.py",),
    "exporter/gate/test_weights.py": ("exporter/gate/single_node.py",),
    "exporter/sources/test_image_ways.py": (
        "runtimes/images/best_resolution.py",
        "runtimes/images/patches.py",
        "runtimes/images/whole_patches.py",
        "runtimes/images/closest_canvas.py",
        "runtimes/images/one_size.py",
        "runtimes/images/tiles.py",
    ),
    "exporter/gate/test_images.py": ("exporter/tracing/one_image.py",),
    "exporter/sources/reranking/test_prompt.py": ("exporter/sources/reranking/named_prompts.py",),
    # What a run or a report is made of: right when the run is.
    "benchmarks/compare/test_run.py": ("benchmarks/peers/run_transformers.py",),
    "benchmarks/compare/test_judging.py": ("benchmarks/peers/run_source.py",),
    "exporter/diagnosis/test_several_graphs.py": ("exporter/diagnosis/graph_part.py",),
    "benchmarks/compare/test_inputs.py": ("benchmarks/compare/feeding.py",),
    "benchmarks/peers/test_hearing.py": ("benchmarks/peers/source_speech.py",),
    "benchmarks/peers/test_shown.py": ("benchmarks/compare/shown_sets.py",),
    "benchmarks/peers/test_run_jisu.py": ("benchmarks/peers/worker.py",),
    "benchmarks/studies/test_embedding_speed.py": ("benchmarks/peers/run_embedder.py",),
    "benchmarks/report/test_report.py": ("benchmarks/report/schema.py",),
    "benchmarks/report/test_kinds.py": (
        "benchmarks/report/generating_kinds.py",
        "benchmarks/report/hearing_kind.py",
        "benchmarks/report/reading_kinds.py",
        "benchmarks/report/reported_kind.py",
        "benchmarks/report/shown_kinds.py",
    ),
    "benchmarks/report/test_verdict.py": ("benchmarks/report/speed_verdict.py",),
    "benchmarks/studies/test_harness_overhead.py": ("benchmarks/compare/trials.py",),
    # Faults, files and configurations that a study is made of.
    "benchmarks/robustness/test_subjects.py": (
        "benchmarks/robustness/answers.py",
        "benchmarks/robustness/other_kinds.py",
        "benchmarks/robustness/questions.py",
        "benchmarks/robustness/source_answers.py",
    ),
    "benchmarks/studies/test_planted_faults.py": (
        "benchmarks/studies/computation_fault_list.py",
        "benchmarks/studies/fault_list.py",
        "benchmarks/studies/faults.py",
        "benchmarks/studies/graph_faults.py",
    ),
    "benchmarks/studies/test_second_opinions.py": (
        "benchmarks/studies/gguf_architectures.py",
        "benchmarks/studies/gguf_tensors.py",
        "benchmarks/studies/gguf_writing.py",
    ),
    "benchmarks/studies/test_trace_families.py": (
        "benchmarks/studies/random_weights.py",
        "benchmarks/studies/sentences.py",
        "benchmarks/studies/tiny_configurations.py",
        "benchmarks/studies/tried_export.py",
    ),
    # What is kept between two steps: right when the second step resumes it.
    "calibration/statistics/test_collect.py": ("calibration/statistics/statistics.py",),
    # Commands that only parse and print: their tests call the command.
    "exporter/test_calibration_run.py": (
        "exporter/commands/calibrate.py",
        "exporter/quantization/calibration_shards.py",
        "exporter/quantization/from_statistics.py",
    ),
    "exporter/commands/test_export.py": ("exporter/commands/checkpoint_arguments.py",),
    "exporter/jobs/test_ray_tasks.py": ("exporter/commands/ray_argument.py", "exporter/jobs/termination.py"),
    "exporter/quantization/test_sensitivity.py": (
        "exporter/commands/sensitivity.py",
        "exporter/quantization/sensitivity_tasks.py",
    ),
    "exporter/test_verification.py": ("exporter/commands/verify.py", "exporter/sources/recorded_source.py"),
    # A protocol: right when every backend keeps it.
    "scenarios/test_backends.py": ("exporter/contract/backend.py",),
    "runtimes/generation/test_prompts.py": ("exporter/contract/naming.py",),
    # The steps of a diagnosis: right when the planted fault is named.
    "exporter/diagnosis/test_diagnose.py": (
        "exporter/diagnosis/cut_graph.py",
        "exporter/diagnosis/finding.py",
        "exporter/diagnosis/graph_run.py",
        "exporter/diagnosis/landmarks.py",
        "exporter/diagnosis/narrow.py",
        "exporter/diagnosis/source_states.py",
        "exporter/diagnosis/subgraph.py",
        "exporter/diagnosis/subject.py",
    ),
    # Estimates are compared with what an export then takes.
    "exporter/test_dry_run.py": ("exporter/estimates/size_estimate.py",),
    # Models that hear, exported and run beside those of transformers.
    "scenarios/test_speech_runs.py": (
        "exporter/contract/speech_backend.py",
        "exporter/tracing/encoder_input.py",
        "exporter/tracing/frames.py",
        "runtimes/backends/ort_cpu/speech.py",
        "runtimes/speech/transcript.py",
    ),
    "exporter/gate/test_speech.py": (
        "exporter/gate/frames.py",
        "exporter/gate/prove_speech.py",
        "exporter/gate/proving.py",
    ),
    # The checks of the gate that a model of numpy with planted faults goes through.
    "exporter/gate/test_run.py": (
        "exporter/gate/cache.py",
        "exporter/gate/exam.py",
        "exporter/gate/greedy.py",
        "exporter/gate/prefill.py",
        "exporter/gate/result.py",
    ),
    "exporter/gate/test_prove.py": (
        "exporter/gate/facts.py",
        "exporter/gate/open_candidate.py",
        "exporter/gate/stored.py",
        "exporter/sources/spans.py",
    ),
    "exporter/quantization/test_calibration_data.py": ("exporter/gate/evaluation_text.py",),
    "exporter/gate/test_folder.py": ("exporter/graph/graph_signature.py", "exporter/packaging/folder_files.py"),
    # What the passes are written with: right when they are.
    "exporter/passes/test_compute_rope_tables.py": ("exporter/graph/evaluate.py",),
    "exporter/passes/test_count_in_gpu_memory.py": ("exporter/graph/match.py",),
    "exporter/passes/test_quantize_weights.py": ("exporter/graph/merge_weights.py",),
    "exporter/passes/test_recipes.py": ("exporter/passes/run_recipe.py", "exporter/passes/steps.py"),
    # Layers that a model of ours is made of.
    "exporter/models/test_language_model.py": ("exporter/models/body.py", "exporter/models/recurrent.py"),
    # The other side of a pipe to another program: right when the question is answered.
    "exporter/test_second_opinion.py": (
        "exporter/opinions/asking.py",
        "exporter/opinions/llama_cpp_worker.py",
        "exporter/opinions/questions.py",
        "exporter/opinions/transformers_worker.py",
        "exporter/opinions/worker.py",
    ),
    "exporter/opinions/test_comparison.py": ("exporter/opinions/limits.py", "exporter/precision/logit_errors.py"),
    "exporter/quantization/test_keep.py": ("exporter/quantization/kept_types.py",),
    "exporter/quantization/test_options.py": ("exporter/quantization/run.py",),
    # Parts of a reader: right when the file is read.
    "exporter/sources/test_adapter.py": ("exporter/sources/adapter_config.py",),
    "exporter/sources/gguf/test_config.py": (
        "exporter/sources/gguf/architectures.py",
        "exporter/sources/gguf/comparison.py",
        "exporter/sources/gguf/gemma4.py",
        "exporter/sources/gguf/heads.py",
        "exporter/sources/gguf/key_places.py",
        "exporter/sources/gguf/keys.py",
        "exporter/sources/gguf/rotary.py",
        "exporter/sources/gguf/structure.py",
    ),
    "exporter/sources/gguf/test_tokenizer.py": (
        "exporter/sources/gguf/generation.py",
        "exporter/sources/gguf/splits.py",
    ),
    "exporter/sources/test_facts.py": ("exporter/sources/unreadable_settings.py",),
    "exporter/sources/test_folder.py": (
        "exporter/sources/folder_contents.py",
        "exporter/sources/model.py",
        "exporter/sources/outline.py",
        "exporter/sources/provenance.py",
        "exporter/sources/quiet.py",
        "exporter/sources/safetensors_files.py",
    ),
    "exporter/sources/test_stored_tensors.py": ("exporter/sources/stored_weights.py",),
    "exporter/sources/test_tokenizer_rules.py": ("exporter/sources/tokenizer.py",),
    "exporter/sources/quantized/test_reading.py": ("exporter/sources/quantized/opening.py",),
    "exporter/sources/quantized/test_affine.py": ("exporter/sources/quantized/table.py",),
    # Parts of a trace: right when the graph gives the source's numbers.
    "exporter/tracing/test_causal_lm.py": (
        "exporter/tracing/cache.py",
        "exporter/tracing/positions.py",
        "exporter/tracing/routing.py",
    ),
    "exporter/tracing/test_encoder_decoder.py": (
        "exporter/tracing/relative_biases.py",
        "exporter/tracing/trace_encoder.py",
        "exporter/tracing/two_caches.py",
    ),
    "exporter/tracing/test_trace.py": (
        "exporter/tracing/stamp.py",
        "exporter/tracing/torch_exporter.py",
        "exporter/tracing/translations.py",
    ),
    "scenarios/test_own_exports.py": ("exporter/tracing/trace_source.py", "exporter/tracing/whole_text.py"),
    # Parts of a backend: right when the backend is.
    "scenarios/test_text_to_text_runs.py": (
        "runtimes/backends/encoder_decoder.py",
        "runtimes/backends/ort_cuda/encoder.py",
    ),
    "runtimes/backends/ort_cpu/test_backend.py": (
        "runtimes/backends/ort/graph_interface.py",
        "runtimes/backends/ort/signature.py",
        "runtimes/backends/ort_cpu/call.py",
    ),
    "runtimes/backends/ort_cuda/test_backend.py": (
        "runtimes/backends/ort_cuda/call.py",
        "runtimes/backends/ort_cuda/device_state.py",
        "runtimes/backends/ort_cuda/open.py",
        "runtimes/backends/ort_cuda/session.py",
    ),
    "exporter/gate/test_one_pass.py": ("exporter/gate/one_pass_exam.py",),
    "exporter/gate/test_held_out.py": ("exporter/gate/classification.py",),
    "runtimes/test_text_reader.py": (
        "runtimes/reading/filling.py",
        "runtimes/reading/tagging.py",
        "runtimes/reading/token_rows.py",
    ),
    "runtimes/commands/test_embed.py": ("runtimes/commands/text_arguments.py",),
    "exporter/contract/test_one_pass_backend.py": (
        "runtimes/backends/ort/rows.py",
        "runtimes/backends/ort_cpu/one_pass.py",
        "runtimes/backends/ort_cuda/one_pass.py",
        "runtimes/backends/padded_one_pass.py",
        "runtimes/backends/tensorrt/one_pass.py",
        "runtimes/backends/torch/one_pass.py",
    ),
    "runtimes/backends/tensorrt/test_build.py": (
        "runtimes/backends/tensorrt/compilation.py",
        "runtimes/backends/tensorrt/plan_graph.py",
    ),
    "runtimes/backends/tensorrt/test_refusal.py": ("runtimes/backends/tensorrt/try_build.py",),
    # Parts of a chat: right when the conversation is what the template says.
    "runtimes/chat/test_chat_encoder.py": ("runtimes/chat/control_tokens.py", "runtimes/chat/messages.py"),
    "runtimes/chat/test_chat_template.py": ("runtimes/chat/data_marks.py", "runtimes/chat/template_budget.py"),
    "runtimes/commands/test_generate.py": ("runtimes/commands/engine_arguments.py",),
    # Parts of a generation: right when its tokens are.
    "runtimes/test_engine.py": (
        "runtimes/engine_errors.py",
        "runtimes/generation/beam_run.py",
        "runtimes/generation/runs.py",
    ),
    "runtimes/generation/test_model_defaults.py": (
        "runtimes/generation/row_rules.py",
        "runtimes/generation/token_rules.py",
    ),
}

# Modules whose names are put together from parts where they are run, and where that is.
RUN_BY_NAME: dict[str, str] = {
    "exporter/opinions/llama_cpp_worker.py": "exporter/second_opinion.py",
    "exporter/opinions/transformers_worker.py": "exporter/second_opinion.py",
    "benchmarks/peers/run_embedder.py": "benchmarks/studies/embedding_speed.py",
}

# Modules that no test runs, each with the reason.
NOT_TESTED: dict[str, str] = {
    "jisu/__main__.py": "one call of what test_command_line.py tests; test_folder_names.py runs it",
    "benchmarks/peers/run_genai.py": "needs onnxruntime-genai, which is installed for comparisons only",
    "benchmarks/peers/run_transcriber.py": "needs a checkpoint and faster-whisper, installed for comparisons only",
    "benchmarks/peers/run_llama_cpp.py": "needs llama-cpp-python, which is installed for comparisons only",
    "benchmarks/peers/run_openvino.py": "needs openvino-genai, which is installed for comparisons only",
    "benchmarks/robustness/__main__.py": "a command of minutes that calls what test_attempt.py and test_trials.py test",
    "benchmarks/studies/greedy_parity.py": "a study of minutes, run by hand on a real model",
    "benchmarks/studies/measure_weight_algorithms.py": "a study of hours, run by hand on a real model",
}

# Tests of no single module: of the house rules, of the packaging, of what tests are written with, of whole programs.
WITHOUT_MODULE: dict[str, str] = {
    "test_action.py": "the action of GitHub that action.yml describes",
    "test_architecture.py": "who imports whom",
    "test_docs.py": "the pages",
    "test_error_messages.py": "what errors say",
    "test_machine_independence.py": "exports on different machines",
    "test_mirror.py": "where tests lie",
    "test_packaging.py": "the wheel",
    "test_words.py": "the words of code and pages",
}
