# The developers' entrance: one line a target. What they do is said in scripts/ and pyproject.toml.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
.PHONY: test lint types demo bench lock

test: ; ./scripts/test
lint: ; ruff check . && ruff format --check .
types: ; mypy
demo: ; ./scripts/demo
bench: ; ./scripts/bench
lock: ; ./scripts/lock
