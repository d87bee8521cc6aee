# One virtual environment serves everything; PYTHON chooses the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# make examples mnist1d SHORT=--short: in some minutes, which proves that they run, and not every figure
SHORT ?=

# The tests start many processes: each finds the modules compiled.
export PYTHONDONTWRITEBYTECODE =

# percent of the package's lines that the tests run
FLOOR := 97

.PHONY: demo examples mnist1d test coverage browser nightly bench docs site lint types wheel release clean

demo: $(VENV)/.examples  ## installs the library and trains on real handwritten digits
	$(BIN)/python examples/quickstart.py

examples: $(VENV)/.examples  ## the other examples, each asserts its own figure
	$(BIN)/python examples/from_scratch.py
	JAXNN_CPU_DEVICES=8 $(BIN)/python examples/colab.py $(SHORT)
	$(BIN)/python examples/perceptron.py $(SHORT)
	$(BIN)/python examples/approximation.py $(SHORT)
	$(BIN)/python examples/linear.py $(SHORT)
	$(BIN)/python examples/activations.py
	$(BIN)/python examples/optimizers.py $(SHORT)
	$(BIN)/python examples/dimensions.py
	$(BIN)/python examples/overfitting.py
	$(BIN)/python examples/selection.py $(SHORT)
	$(BIN)/python examples/imbalance.py $(SHORT)
	$(BIN)/python examples/diagnosis.py $(SHORT)
	$(BIN)/python examples/normalization.py $(SHORT)
	$(BIN)/python examples/depth.py $(SHORT)
	$(BIN)/python examples/vit.py $(SHORT)
	$(BIN)/python examples/robust_loss.py
	$(BIN)/python examples/vowels.py
	$(BIN)/python examples/through_time.py $(SHORT)
	$(BIN)/python examples/characters.py $(SHORT)
	$(BIN)/python examples/restore.py $(SHORT)
	$(BIN)/python examples/forecast.py $(SHORT)
	$(BIN)/python examples/video.py $(SHORT)
	$(BIN)/python examples/clips.py $(SHORT)
	$(BIN)/python examples/augmentations.py
	$(BIN)/python examples/augmentation_gain.py $(SHORT)
	$(BIN)/python examples/imagenet.py
	$(BIN)/python examples/transfer.py $(SHORT)
	$(BIN)/python examples/attribution.py $(SHORT)
	$(BIN)/python examples/inside.py $(SHORT)
	$(BIN)/python examples/one_shot.py $(SHORT)
	$(BIN)/python examples/search.py $(SHORT)
	$(BIN)/python examples/localize.py $(SHORT)
	$(BIN)/python examples/detect.py $(SHORT)
	$(BIN)/python examples/nuclei.py $(SHORT)
	$(BIN)/python examples/segment.py $(SHORT)
	$(BIN)/python examples/faces.py $(SHORT)
	$(BIN)/python examples/serving.py $(SHORT)
	$(BIN)/python examples/at_scale.py $(SHORT)
	$(BIN)/python examples/policies.py $(SHORT)
	$(BIN)/python examples/physics.py $(SHORT)
	$(BIN)/python examples/autoencoder.py $(SHORT)
	$(BIN)/python examples/vae.py $(SHORT)
	$(BIN)/python examples/gan.py $(SHORT)
	$(BIN)/python examples/autoregressive.py $(SHORT)
	$(BIN)/python examples/diffusion.py $(SHORT)

mnist1d: $(VENV)/.examples  ## the paper's table and more, in some minutes
	$(BIN)/python examples/mnist1d.py $(SHORT)

test: $(VENV)/.all  ## installs everything and runs the tests
	$(BIN)/python -m pytest -n auto --dist worksteal -m 'not nightly'

browser:  ## Chromium, for the page of examples/serving.py and for the site: 120 MB from Debian's packages, half a minute
	(command -v chromium && command -v chromedriver) || \
	  (apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver)

coverage: $(VENV)/.all  ## the tests of make test with the lines that they run, into build/coverage; fails below the floor
	$(BIN)/python -m pytest -n auto --dist worksteal -m 'not nightly' --cov --cov-report=html --cov-report=term --cov-fail-under=$(FLOOR)

nightly: $(VENV)/.all  ## the tests that `make test` leaves out
	$(BIN)/python -m pytest -n auto --dist worksteal -m nightly

bench: .venv-bench/.ready  ## jaxnn and its peers, hours on an idle machine; rows by ROWS="mlp cnn"
	.venv-bench/bin/python benchmarks/peers.py $(ROWS) --save

docs: .venv-docs/.ready  ## the site, into build/docs; any warning is an error
	.venv-docs/bin/python -m sphinx -b html -W --keep-going -q -d build/doctrees docs build/docs

site: docs  ## the built site in Chromium (`make browser`): links, overflow, axe-core, search
	.venv-docs/bin/python tools/site.py build/docs

lint: $(VENV)/.all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: $(VENV)/.all
	$(BIN)/mypy

wheel: $(VENV)/.all  ## builds the wheel, and trains with it from another directory
	rm -rf dist
	$(BIN)/python -m build --wheel --no-isolation
	$(PYTHON) tools/smoke.py dist/*.whl

release: $(VENV)/.all  ## sdist and wheel of the last commit, checked, and tested by rows of ROWS="python3.11=0.10.0 python3.13=0.10.2"
	$(BIN)/python tools/release.py $(ROWS)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.examples: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[examples]'
	touch $@

$(VENV)/.all: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[all]'
	touch $@ $(VENV)/.examples

.venv-bench/.ready: benchmarks/peers-requirements.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --requirement $< --editable .
	touch $@

.venv-docs/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) .venv-bench .venv-docs build dist out
