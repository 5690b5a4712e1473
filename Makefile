# make run                        every article, then outputs/report.md and outputs/report.html
# make run ARTICLE=simpler_glove  one article
# make test                       the tests
# PIN=1 installs the exact versions of constraints.txt; PYTHON=python3.12 chooses the interpreter.
PYTHON ?= python3
ARTICLE ?=
VENV := .venv
INSTALL := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(if $(PIN),-c constraints.txt)

.PHONY: run test clean
run: $(VENV)/installed
	$(VENV)/bin/python reproduce.py $(ARTICLE)

test: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest -n 2

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -r requirements.txt
	@touch $@

$(VENV)/installed-test: $(VENV)/installed requirements-test.txt
	$(INSTALL) -r requirements-test.txt
	@touch $@

clean:
	rm -rf $(VENV) outputs */outputs
