# make demo            the whole system on a simulated drive       make demo DATA=path   the same on your KITTI or nuScenes folder
# make bench           sparse layers, networks, node and scaling: tables, CSV and pictures in out/bench (about 40 minutes)
# make label-efficiency   what a tenth of the labels is worth: docs/reports/label_efficiency.md (about 80 minutes; SCALE=full for a GPU)
# make occle-ablation  what each part of OccLE's recipe is worth: docs/reports/occle_ablation.md (about 80 minutes; SCALE=full for a GPU)
# make soak            twenty minutes of the live node: memory, files, latency
# make test            lint, types and tests                       make test-slow        the tests that take minutes
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: venv demo test test-slow bench label-efficiency occle-ablation soak clean

venv: $(INSTALLED)

# torch goes first and alone: the rest then finds it installed and leaves it as it is.
$(INSTALLED): setup.py pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV) || { echo "no virtual environment could be made; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "installing into $(VENV): torch, the ROS 2 wheels and tools; this takes a few minutes the first time"
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[ros,engines,train,test]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/occle demo $(if $(DATA),--data "$(DATA)")

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile test --ignore test/ros
	$(BIN)/python -m pytest -n 2 --dist loadfile test/ros

bench: $(INSTALLED)
	$(BIN)/python -m benchmark.networks
	$(BIN)/python -m benchmark.node
	$(BIN)/python -m benchmark.roofline
	$(BIN)/python -m benchmark.scaling
	$(BIN)/python -m benchmark.sparse_layers

soak: $(INSTALLED)
	$(BIN)/python -m benchmark.soak --minutes 20

label-efficiency: $(INSTALLED)
	$(BIN)/python -m occle_train.experiments.label_efficiency

occle-ablation: $(INSTALLED)
	$(BIN)/python -m occle_train.experiments.occle_ablation

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

clean:
	rm -rf out build install log dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -type d -exec rm -rf {} +
