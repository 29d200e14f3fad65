# The two commands of the README, and `make lint` for a quick look. tox.ini holds the environments behind `make test`.
.PHONY: demo test lint bench clean

demo: .venv/.ready
	@scripts/demo

test: .venv/.ready
	.venv/bin/tox run

lint: .venv/.ready
	.venv/bin/tox run -e lint,type

bench: .venv/.ready
	.venv/bin/python -m benchmarks

clean:
	rm -rf .venv .tox build dist

.venv/.ready: pyproject.toml scripts/bootstrap
	scripts/bootstrap
	@touch $@
