.PHONY: check lint types tests slow peer-tests format wheel docs

MODULES := $(subst /,.,$(patsubst %/__init__,%,$(patsubst %.py,%,$(filter-out %/__main__.py,$(shell find sb3_tare -name '*.py' | sort)))))
API := docs/api

check: lint types tests

lint:
	ruff check .
	ruff format --check .

types:
	mypy

tests:
	pytest -n auto

slow:
	pytest -m slow

peer-tests:
	python tests/peers

format:
	ruff check --fix .
	ruff format .

wheel:
	python -m build --wheel

# Warned about otherwise: a package that is named beside its modules, and names that Stable-Baselines3 imports for mypy alone.
docs:
	python -W "ignore:The module specification" -W "ignore:Error parsing type annotation" -m pdoc --output-directory $(API) $(MODULES)
