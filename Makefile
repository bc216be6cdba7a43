# The developer's verbs. `make demo` and `make test` are all the set-up there is.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
WORKERS ?= 2
# what one process compiles to bytecode the others read, and the many that the tests start
export PYTHONDONTWRITEBYTECODE :=
# a worker has a core: threads of BLAS would wait for each other
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadfile \
	--no-loadscope-reorder
PIP    := $(PY) -m pip install -q --disable-pip-version-check -c constraints.txt

.PHONY: demo test coverage test-slow test-cuda fuzz pipelines lint build clean

demo: $(VENV)/.installed
	$(PY) -m nwb_lrrnn demo

test: $(VENV)/.installed-test
	$(PYTEST) $(PYTEST_ARGS)

# Left out is what reaches the same lines again: through scikit-learn's tools, in the README, on planted systems.
coverage: $(VENV)/.installed-test
	$(PYTEST) --cov --cov-report=term $(PYTEST_ARGS) \
		--ignore-glob='tests/test_contract*' --ignore=tests/test_readme.py --ignore=tests/test_examples.py \
		--ignore=tests/test_truth_metamorphic.py --ignore=tests/test_smc_planted.py

test-slow: $(VENV)/.installed-test
	$(PY) -m pytest -m slow $(PYTEST_ARGS)

test-cuda: $(VENV)/.installed-test
	$(PY) -m pytest -m cuda $(PYTEST_ARGS)

# FUZZ="--number 500 --calls spikes" for less; lists what is neither a reading nor a sentence
fuzz: $(VENV)/.installed-test
	cd tests && ../$(PY) -m fuzz --workers $(WORKERS) $(FUZZ)

# The Snakefile of the examples, by snakemake itself, on two recordings; a second run has nothing to do.
PIPELINE := $(VENV)/pipeline
pipelines: $(VENV)/.installed $(VENV)/.installed-snakemake
	rm -rf $(PIPELINE) && mkdir -p $(PIPELINE)/recordings
	$(PY) -c "import runpy, pathlib; \
		runpy.run_path('examples/many_recordings.py')['make_recordings'](pathlib.Path('$(PIPELINE)/recordings'))"
	cd $(PIPELINE) && for turn in 1 2; do PATH="$(CURDIR)/$(VENV)/bin:$$PATH" ../snakemake/bin/snakemake --cores 2 --quiet \
		--snakefile $(CURDIR)/examples/pipelines/Snakefile --config options="--model linear --rank 2 --bin-size 0.05"; done
	test "$$(wc -l < $(PIPELINE)/summary.csv)" -eq 3

$(VENV)/.installed-snakemake: $(VENV)/bin/python
	$(PYTHON) -m venv $(VENV)/snakemake
	$(VENV)/snakemake/bin/python -m pip install -q --disable-pip-version-check "snakemake>=9,<10"
	touch $@

lint: $(VENV)/.installed-test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright

build: $(VENV)/.installed-test
	$(PY) -m build

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[plot]'
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) dist build .pytest_cache .numba_cache .ruff_cache
