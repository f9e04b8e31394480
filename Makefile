# The developers' entrance: one line a target. What they do is said in scripts/ and pyproject.toml.
.PHONY: test lint types demo bench lock

test: ; ./scripts/test
lint: ; .venv/bin/ruff check . && .venv/bin/ruff format --check .
types: ; .venv/bin/mypy
demo: ; ./scripts/demo
bench: ; ./scripts/bench
lock: ; ./scripts/lock
