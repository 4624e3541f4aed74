# Two commands for a newcomer with Python 3.11, make and a C compiler:
#   make demo   set up, run the quick suite on the embedded base, print the table and where it is
#   make test   set up, then every check: format, lint, types, tests
# Both can be repeated: what is there already is kept.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test install

demo: install
	$(BIN)/retainbench run quick --out runs/quick

test: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --cache-dir .mypy_cache/bases harness/models/embedded/fruitfly/build.py
	PYTHONPATH=.dev $(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (a few minutes the first time)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@
