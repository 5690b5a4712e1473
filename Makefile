# make run                        every article, then outputs/report.md and outputs/report.html
# make run ARTICLE=simpler_glove  one article
# make test                       the tests
# make pages                      tables, numbers and code of the READMEs, from the recorded runs
# PIN=1 installs the exact versions of constraints.txt; PYTHON=python3.12 chooses the interpreter.
PYTHON ?= python3
ARTICLE ?=
VENV := .venv
INSTALL := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(if $(PIN),-c constraints.txt)
PAGES := $(shell grep -rl --include=*.md --exclude-dir=$(VENV) '\[\[\[cog' .)

.PHONY: run test pages clean
run: $(VENV)/installed
	$(VENV)/bin/python reproduce.py $(ARTICLE)

test: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest -n 2

pages: $(VENV)/installed-test
	$(VENV)/bin/python -m cogapp -r -P -I . -p "from docs.pages import *" $(PAGES)

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -r requirements.txt
	@touch $@

$(VENV)/installed-test: $(VENV)/installed requirements-test.txt
	$(INSTALL) -r requirements-test.txt
	@touch $@

clean:
	rm -rf $(VENV) outputs */outputs
