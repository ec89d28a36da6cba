# make quickstart and make test do all the set-up there is; the rest is for those who change the code.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps

.PHONY: install quickstart test test-slurm test-all chaos docs check format clean

install: $(STAMPS)/install

$(STAMPS)/install: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	# torch first and pinned: left to the resolver, it would be fetched in a newer build with all of CUDA
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/dev: $(STAMPS)/install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

quickstart: install
	$(BIN)/python scripts/train.py --config scripts/recipes/quickstart.yaml --overwrite_output_dir

test: $(STAMPS)/dev
	$(BIN)/python -m pytest --ignore tests/slurm

# a real Slurm of two nodes on this machine: mostly waiting, some 8 minutes
test-slurm: $(STAMPS)/dev
	$(BIN)/python -m pytest tests/slurm

test-all: $(STAMPS)/dev
	$(BIN)/python -m pytest -m "slow or not slow"

chaos: $(STAMPS)/dev
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 PYTHONPATH=. $(BIN)/python tests/studies/chaos.py --kills 200

# an environment of its own: building pages needs none of the package's dependencies
.venv-docs/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt mkdocs-material
	@touch $@

docs: .venv-docs/.stamp
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet

check: $(STAMPS)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python  # else it looks for the packages in whatever python comes first

format: $(STAMPS)/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .venv-docs site runs .pytest_cache .ruff_cache .hypothesis
