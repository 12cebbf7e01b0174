.PHONY: check lint types tests slow format wheel

check: lint types tests

lint:
	ruff check .
	ruff format --check .

types:
	mypy

tests:
	pytest

slow:
	pytest -m slow

format:
	ruff check --fix .
	ruff format .

wheel:
	python -m build --wheel
