# make demo   install into .venv and run the main job on data that needs no download
# make test   install into .venv, then lint, types and tests

VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test install install-dev clean

demo: install
	$(BIN)/dim reproduce table1 --data digits
	$(BIN)/dim report

test: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow" --numprocesses auto --maxprocesses 4 --dist loadfile --cov dim --cov-fail-under 90

install: $(VENV)/installed
install-dev: $(VENV)/installed-dev

$(VENV)/installed: pyproject.toml
	test -x $(BIN)/python || python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV)
