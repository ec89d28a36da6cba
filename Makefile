# make quickstart and make test do all the set-up there is; the rest is for those who change the code.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps

.PHONY: install quickstart test test-plain-cpu test-gpu test-slurm test-all chaos docs check format clean

install: $(STAMPS)/install

$(STAMPS)/install: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	# torch first and pinned: left to the resolver, it would be fetched in a newer build with all of CUDA
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[report]'
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/dev: $(STAMPS)/install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

# on a CPU a process per core trains faster than one process with threads; a power of two, to share the recipe's windows evenly
QUICKSTART := scripts/recipes/quickstart.yaml
quickstart: install
	@cores=$$(nproc 2>/dev/null || echo 1); processes=1; \
	nvidia-smi -L >/dev/null 2>&1 && cores=1; \
	while [ $$((2 * processes)) -le $$cores ] && [ $$processes -lt 8 ]; do processes=$$((2 * processes)); done; \
	set -- scripts/train.py --config $(QUICKSTART) --overwrite_output_dir; \
	if [ $$processes -gt 1 ]; then \
		windows=$$(sed -n 's/^per_device_train_batch_size: *//p' $(QUICKSTART)); \
		set -- -m accelerate.commands.launch --config_file accelerate_configs/cpu_ddp.yaml --num_processes $$processes \
			"$$@" --per_device_train_batch_size $$((windows / processes)); \
	fi; \
	echo "python $$*"; \
	exec $(BIN)/python "$$@"

# files of tests run side by side, one on each core; the tests of a file run one after the other, since they share runs
SIDE_BY_SIDE := --dist loadfile --numprocesses "$$(nproc 2>/dev/null || echo 1)" --maxprocesses 8
test: $(STAMPS)/dev
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) --ignore tests/slurm

# what depends on precision, as on a CPU without bf16 units: the first two variables make torch multiply as there (bf16 at 1 to
# 3 GFLOP/s), the third hides the units, which torch still reports
PLAIN_CPU := ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 QA_ACCEL_CPU_BF16=0
DEPENDS_ON_PRECISION := distributed/test_precision distributed/test_accelerator system/test_bench training/test_trainer \
	models/test_attention_on_cpu models/test_fast_layers training/test_compile training/test_step \
	training/test_packed_compile models/test_attention
test-plain-cpu: $(STAMPS)/dev
	$(PLAIN_CPU) $(BIN)/python -m pytest $(SIDE_BY_SIDE) $(DEPENDS_ON_PRECISION:%=tests/%.py)

# what only a GPU can show
test-gpu: $(STAMPS)/dev
	$(BIN)/python -m pytest -m cuda

# a real Slurm of two nodes on this machine: mostly waiting, some 8 minutes
test-slurm: $(STAMPS)/dev
	$(BIN)/python -m pytest tests/slurm

test-all: $(STAMPS)/dev
	$(BIN)/python -m pytest -m "slow or not slow"

chaos: $(STAMPS)/dev
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 PYTHONPATH=. $(BIN)/python tests/studies/chaos.py --kills 200

# a separate environment: building pages needs none of the package's dependencies
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
