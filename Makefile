# make run                        every article, then outputs/report.md and outputs/report.html
# make run ARTICLE=simpler_glove  one article
# make test                       the tests
# make pages                      tables, numbers and code of the pages, from the recorded runs
# make site                       site/index.html: the pages with formula beside code, readable from the disk
# PIN=1 installs the exact versions of constraints.txt; PYTHON=python3.12 chooses the interpreter.
PYTHON ?= python3
ARTICLE ?=
VENV := .venv
INSTALL := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(if $(PIN),-c constraints.txt)
export PROLOGUE := from docs.pages import *; from docs.reading import *
PAGES := $(shell grep -rl --include=*.md --exclude-dir=$(VENV) '\[\[\[cog' .)

.PHONY: run test pages site clean
run: $(VENV)/installed
	$(VENV)/bin/python reproduce.py $(ARTICLE)

test: $(VENV)/installed-test $(VENV)/installed-docs
	$(VENV)/bin/python -m pytest -n 3 --dist worksteal

pages: $(VENV)/installed-test
	$(VENV)/bin/python -m cogapp -r -P -I . -p "$$PROLOGUE" $(PAGES)

site: $(VENV)/installed-docs
	$(VENV)/bin/python -m docs.site.build

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -r requirements.txt
	@touch $@

$(VENV)/installed-test: $(VENV)/installed requirements-test.txt
	$(INSTALL) -r requirements-test.txt
	@touch $@

$(VENV)/installed-docs: requirements-docs.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -r requirements-docs.txt
	@touch $@

clean:
	rm -rf $(VENV) outputs */outputs site
