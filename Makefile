PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/.demo
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-slow lint format docs diagram bench bench-gpu label-efficiency occle-ablation soak clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-18s %s\n", $$1, $$2}'

venv: $(INSTALLED) ## install everything into .venv

# torch goes first and alone: the rest then finds it installed and leaves it as it is. A torch of your own stays.
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints/pip.txt
$(DEMO): setup.py constraints/pip.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.11")'
	@$(PYTHON) -m venv $(if $(ROS_DISTRO),--system-site-packages) $(VENV) || { echo "no virtual environment could be made; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "installing into $(VENV): torch, the ROS 2 wheels and tools; this takes a few minutes the first time"
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(PIP) torch==2.13.0
	$(PIP) -e '.[ros,engines,simulate]'
	@touch $@

$(INSTALLED): $(DEMO) pyproject.toml
	$(PIP) -e '.[ros,engines,train,test,docs]'
	@touch $@

demo: $(DEMO) ## the whole system on a simulated drive; DATA=path: on your KITTI or nuScenes folder; BUNDLE=path: your network
	$(BIN)/occle demo $(if $(DATA),--data "$(DATA)") $(if $(BUNDLE),--bundle "$(BUNDLE)")

# A worker that dies ends the run: pytest-xdist may wait for it for ever. So does a test that hangs.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 0 --timeout 300 --timeout-method thread
test: lint ## lint, types and tests
	$(PYTEST) test --ignore test/ros
	$(PYTEST) test/ros

test-slow: $(INSTALLED) ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

lint: $(INSTALLED) ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --explicit-package-bases examples scripts

format: $(INSTALLED) ## format the code and apply the fixes of the linter
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED) ## the documentation site, in out/site
	$(BIN)/python -m occle_ros.tools.doc_pages docs/reference
	$(BIN)/python -m mkdocs build --strict

diagram: ## the architecture picture (Graphviz: apt install graphviz)
	dot -Tsvg docs/images/architecture.dot -o docs/images/architecture.svg

bench: $(INSTALLED) ## speed of layers, networks and node: tables, CSV and pictures in out/bench (about 40 minutes)
	$(BIN)/python -m benchmark.engines.networks
	$(BIN)/python -m benchmark.sparse.backends
	$(BIN)/python -m benchmark.node.end_to_end
	$(BIN)/python -m benchmark.engines.roofline
	$(BIN)/python -m benchmark.engines.scaling
	$(BIN)/python -m benchmark.sparse.layers

bench-gpu: $(INSTALLED) ## all figures of a GPU in at most eight minutes: out/gpu/gpu.md and gpu.json
	$(BIN)/python -m benchmark.gpu

label-efficiency: $(INSTALLED) ## docs/reports/label_efficiency.md (three seeds, about four hours; PRESET=full for a GPU)
	$(BIN)/python -m occle_train.experiments.label_efficiency

occle-ablation: $(INSTALLED) ## docs/reports/occle_ablation.md (about 80 minutes a seed, three seeds; PRESET=full for a GPU)
	$(BIN)/python -m occle_train.experiments.occle_ablation

soak: $(INSTALLED) ## twenty minutes of the live node: memory, files, latency
	$(BIN)/python -m benchmark.node.soak --minutes 20

clean: ## remove what was built, not .venv
	rm -rf out build install log dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -type d -exec rm -rf {} +
