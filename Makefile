# FedI2I. Every target sets itself up; 'make help' lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python
TEST_FILES_AT_ONCE ?= 2
PACKAGES := fedi2i partitions lightning_modules app_custom jobs provision report

.PHONY: help setup data provision poc demo smoke smoke-cyclegan strategies study results-study study-quick study-matching audit report tensorboard \
	lint format types test test-fast test-all coverage docs jobs shape \
	benchmark benchmark-aggregation benchmark-callback benchmark-gpu benchmark-scale benchmark-soak \
	benchmark-upsampling benchmark-matching benchmark-preparation benchmark-volumes benchmark-conditional \
	figures-demo figure-hostile clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-22s %s\n", $$1, $$2}'

setup: $(VENV)/installed ## create .venv and install the pinned packages

$(VENV)/installed: requirements.txt pyproject.toml
	@echo "== installing into $(VENV) (a few minutes the first time)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than 3.11; run 'make PYTHON=/path/to/python3.11 ...'"; exit 2; }
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --disable-pip-version-check --progress-bar on -r requirements.txt
	@$(BIN)/pip install --disable-pip-version-check --quiet --no-deps -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	@echo "== installing what lint, types and tests need"
	@$(BIN)/pip install --disable-pip-version-check --quiet -r requirements-dev.txt
	@touch $@

data: setup ## compute the demo cohort, prepare it, prepare the simulator's default workspace
	@$(BIN)/fedi2i data demo --out data/demo
	@$(BIN)/fedi2i data prepare --data data/demo
	@$(BIN)/fedi2i jobs workspace simulator_workspace --dataset demo=data/demo

demo: data ## the main job: all arms on the demo cohort, table and report (about nine minutes)
	@$(BIN)/fedi2i compare --out runs/demo --title "FedI2I demo: MR T1w to T2w over four sites"
	@$(BIN)/fedi2i report runs/demo
	@echo "== open runs/demo/report.html; curves: make tensorboard"

smoke: setup ## the main job in two to three minutes: tiny settings, still learns
	@$(BIN)/fedi2i data demo --out data/smoke --size smoke
	@$(BIN)/fedi2i compare --experiment jobs/experiments/smoke.yaml --data data/smoke \
		--out runs/smoke --strategies fedavg --title "FedI2I smoke run"
	@$(BIN)/fedi2i report runs/smoke

smoke-cyclegan: setup ## the same without pairs: CycleGAN, about five minutes
	@$(BIN)/fedi2i data demo --out data/smoke --size smoke
	@$(BIN)/fedi2i compare --experiment jobs/experiments/cyclegan_smoke.yaml --data data/smoke \
		--out runs/smoke-cyclegan --strategies fedavg --title "FedI2I smoke run: CycleGAN"
	@$(BIN)/fedi2i report runs/smoke-cyclegan

strategies: data ## every strategy on the demo cohort, quick settings: table and report
	@$(BIN)/fedi2i compare --experiment jobs/experiments/strategies.yaml --strategies all \
		--out runs/strategies --title "FedI2I: every strategy, quick settings"
	@$(BIN)/fedi2i report runs/strategies

study: data ## the default study: every arm with six seeds; interrupted, it goes on
	@$(BIN)/fedi2i study jobs/studies/default.yaml --out runs/study
	@$(BIN)/fedi2i report runs/study

results-study: study ## the default study, and what docs/results and the README show of it
	@mkdir -p docs/results/default
	@cp runs/study/report.html runs/study/report.pdf runs/study/results.csv runs/study/report/findings.txt \
		docs/results/default
	@cp runs/study/report/figures/figure-2.png docs/figures/study-convergence.png
	@$(BIN)/fedi2i report runs/study/seed-101 --figures runs/study/figures
	@cp runs/study/figures/seed-101-strip.png docs/figures/study-strip.png

study-matching: data ## merging finished models, five seeds (about two hours); interrupted, it goes on
	@$(BIN)/fedi2i study jobs/studies/matching.yaml --out runs/study-matching
	@$(BIN)/fedi2i report runs/study-matching

study-quick: data ## a study in short: two strategies, three seeds, half the resolution
	@$(BIN)/fedi2i study jobs/studies/quick.yaml --out runs/study-quick
	@$(BIN)/fedi2i report runs/study-quick
	@echo "== open runs/study-quick/report.html"

# Every process has one thread, and there is one for each core: pieces are many and small.
audit: data ## attack models trained as the demo's, at half size: what leaks (18 minutes of one core)
	@$(BIN)/fedi2i audit jobs/experiments/audit.yaml --out runs/audit --title "Leakage audit of the demo"
	@$(BIN)/fedi2i report runs/audit
	@echo "== open runs/audit/audit.html; pictures: runs/audit/site-only, which stays at the site"

report: setup ## write the demo's report again from its run files
	@$(BIN)/fedi2i report runs/demo

provision: setup ## startup kits of the project in kits/ (private keys: keep them to yourself)
	@$(BIN)/fedi2i provision kits

poc: data ## server and four sites on this machine over TLS, two submissions, stop (five minutes)
	@$(BIN)/fedi2i provision poc

tensorboard: setup ## curves and panels of all runs at http://localhost:6006
	@$(BIN)/tensorboard --logdir runs

jobs: setup ## write the committed job folders again from jobs/experiments/demo.yaml
	@$(BIN)/fedi2i jobs committed

lint: $(VENV)/installed-dev docs ## ruff: rules and format; the container files; the documents' links
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/hadolint provision/container/Dockerfile
	@$(BIN)/yamllint -d relaxed --no-warnings provision/container/compose.yaml

# Strict: a link from one document to another that leads nowhere is an error.
docs: $(VENV)/installed-dev ## the documents as a site, with pages from the docstrings, in build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "== documents: build/site/index.html"

format: $(VENV)/installed-dev ## let ruff format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

types: $(VENV)/installed-dev ## mypy --strict on our packages
	@$(BIN)/mypy

# Simulator runs wait and start processes much of the time: two files at a time fill two cores.
# Threads of torch below that would only compete. tests/conftest.py begins with the longest files, and
# says which tests stay on one worker: those of a file, and those of the one federation.
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(TEST_FILES_AT_ONCE) --dist loadfile --no-loadscope-reorder

test: $(VENV)/installed-dev ## all tests but the nightly ones, which have a faster stand-in here
	@$(PYTEST) -m "not nightly"

test-fast: $(VENV)/installed-dev ## the tests without end-to-end runs
	@$(PYTEST) -m "not slow and not nightly"

test-all: $(VENV)/installed-dev ## all tests, the nightly ones too
	@$(PYTEST)

coverage: $(VENV)/installed-dev ## 'make test', and which lines of our packages it runs
	@$(PYTEST) -m "not nightly" $(PACKAGES:%=--cov=%) --cov-report=term:skip-covered

benchmark: data ## wall time of the federation against a plain PyTorch loop
	@$(RUN) benchmarks/federation_overhead.py

benchmark-aggregation: setup ## time and memory of every aggregator beside FedAvg
	@$(RUN) benchmarks/aggregation.py

benchmark-scale: data ## seconds, bytes and server memory per round for 2 to 32 sites
	@$(RUN) benchmarks/scale.py
	@$(RUN) benchmarks/scale.py --model medium --sites 2 4 8 16
	@$(RUN) benchmarks/scale.py --model large --sites 4 --compression none fp16

benchmark-soak: data ## fifty rounds: memory and open files of every process
	@$(RUN) benchmarks/soak.py

benchmark-callback: setup ## cost of the strategies' gradient callback in a training step
	@$(RUN) benchmarks/strategy_callback.py

figures-demo: demo ## the demo, and the first figure of the README from its run
	@$(BIN)/fedi2i report runs/demo --figures runs/demo/figures
	@cp runs/demo/figures/demo-strip.png docs/figures

benchmark-upsampling: data ## ways of upsampling in the generator: step time, PSNR, checkerboard
	@$(RUN) benchmarks/upsampling.py

benchmark-preparation: data ## subjects per second cold and cached, memory, training from the cache
	@$(RUN) benchmarks/preparation.py

benchmark-matching: data ## FedMA's coordinate descent: merged pairs with and without it; resumes
	@$(RUN) benchmarks/matching.py

benchmark-volumes: setup ## patches of volumes: time of a cut and a step, memory by patch and volume
	@$(RUN) benchmarks/volumes.py

benchmark-conditional: data ## one conditional generator, separate models and their chain (a quarter of an hour)
	@$(RUN) benchmarks/conditional.py

benchmark-gpu: data ## on a GPU: equal to the CPU, time and memory of every network, federated rounds
	@$(RUN) benchmarks/gpu.py --out runs/gpu.md

shape: setup ## files per 1,000 code lines by package, and the widest folders
	@$(RUN) benchmarks/shape.py

figure-hostile: data ## one hostile site of four: FedAvg beside the robust means (a figure in docs)
	@$(RUN) benchmarks/hostile_site.py

clean: ## remove runs, workspaces and caches; keeps .venv and data
	@rm -rf runs simulator_workspace simulator_workspace_state build dist \
		.mypy_cache .ruff_cache .pytest_cache
