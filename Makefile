# Every target makes .venv first when it is missing or older than what it is made from.
PYTHON ?= python3
BIN := .venv/bin
GPU := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi >/dev/null 2>&1 && echo ",gpu")

.PHONY: help install demo run test check thorough fmt bench pictures clean

help:
	@echo "make demo    tune the starter model, measure it, ask it (no GPU, no account; some minutes)"
	@echo "make run     serve the app on port 7860 of this machine; it prints the address to open"
	@echo "make test    the tests, less the slow ones"
	@echo "make check   lint, format, types and the tests"
	@echo "make thorough  the longest tests: thousands of random inputs (half an hour)"
	@echo "make pictures the pictures of the README anew, from the page over a new starter run (some minutes)"
	@echo "make install only make .venv (with Unsloth where nvidia-smi answers)"

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "medcot needs Python 3.11 or 3.12; say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev$(GPU)]"
	touch $@

demo: .venv/.installed
	$(BIN)/medcot quickstart

run: .venv/.installed
	$(BIN)/python app.py

test: .venv/.installed
	$(BIN)/python -m pytest -m "not slow and not thorough"

check: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# The types in the times that the tests wait; whichever fails, so does this.
	$(BIN)/mypy & types=$$!; $(BIN)/python -m pytest -m "not thorough"; tests=$$?; wait $$types && exit $$tests

# Thousands of random files, texts and answers, and every family of models exported: half an hour on two cores.
thorough: .venv/.installed
	$(BIN)/python -m pytest -m thorough --timeout 1200

fmt: .venv/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.installed
	$(BIN)/python benchmarks/startup.py

# The pictures in README.md, from the page over a real starter run that is made first: some minutes, with Chromium.
pictures: .venv/.installed
	$(BIN)/python benchmarks/pictures.py

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build *.egg-info
