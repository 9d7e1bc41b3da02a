# `make install` needs Python 3.11 or newer; the other targets install first where it is needed.

PYTHON := .venv/bin/python
INSTALLED := .venv/installed.lock
PYTEST := $(PYTHON) -m pytest

.PHONY: help install lock demo test test-sqlite test-postgres lint bench faults pictures

help:
	@echo "make install   the environment, in .venv"
	@echo "make demo      the shop with everything it needs; ONCE=1: five orders, then stop"
	@echo "make test      all tests, on SQLite and on PostgreSQL"
	@echo "make lint      ruff and mypy"
	@echo "make faults    the long tests that kill processes and servers"
	@echo "make pictures  every screen of the admin, in .pictures; the best in docs/pictures"
	@echo "make bench     measure, beside other projects"
	@echo "make lock      requirements.lock from pyproject.toml, with uv; UPGRADE=--upgrade"

install: $(INSTALLED)

# The stamp is a copy of the lock that .venv was made from.
$(INSTALLED): requirements.lock
	@for python in python3.11 python3 python; do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        exec $$python -m venv .venv; \
	    fi; \
	done; \
	echo "Python 3.11 or newer is needed; put python3.11 on the PATH." >&2; exit 1
	@# Without resolving: the lock is whole, and older pips look for newer versions of what it
	@# names with extras.
	$(PYTHON) -m pip --disable-pip-version-check install --quiet --no-deps --require-hashes \
	    -r requirements.lock
	@cp requirements.lock $@

# Needs uv. Without --upgrade the versions in the lock stay as long as pyproject.toml allows them.
lock:
	uv pip compile pyproject.toml --group dev --all-extras --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-emit-find-links \
	    --custom-compile-command "make lock" --quiet --output-file requirements.lock $(UPGRADE)
	uv pip compile pyproject.toml --extra postgres --constraint requirements.lock --universal \
	    --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	    --custom-compile-command "make lock" --quiet --no-annotate \
	    --output-file benchmarks/ours/requirements.txt

demo: install
	$(PYTHON) manage.py demo $(if $(ONCE),--once)

# On both databases, because they lock differently; side by side, because tests mostly wait. What
# they cover is measured on SQLite alone: measuring takes a third of the time.
test: install
	@$(MAKE) --no-print-directory -j2 test-sqlite test-postgres

test-sqlite: install
	COVERAGE_FILE=$(CURDIR)/.coverage $(PYTEST) --cov

# Its output comes at its end: two streams at once cannot be read.
test-postgres: install
	@$(PYTEST) --postgres > .tests-postgres.log 2>&1; \
	status=$$?; cat .tests-postgres.log; exit $$status

lint: install
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

bench: install
	$(PYTHON) -m benchmarks

# Needs Chromium on the PATH.
pictures: install
	$(PYTEST) tests/acceptance/test_admin_pictures.py -m browser --timeout 1800 --pictures .pictures
	cp .pictures/docs/*.png docs/pictures/

faults: install
	$(PYTEST) -m faults --timeout 1800 -s
	$(PYTEST) -m faults --timeout 1800 -s --postgres
