# make demo: the main job, offline once installed. make test: all tests. Each makes .venv when it is missing.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

PLUGINS := $(patsubst %/pyproject.toml,./%,$(wildcard plugins/*/pyproject.toml))

.PHONY: demo test wheel-test lint bench bench-gpu docs fuzz

demo: .venv/demo.done
	$(BIN)/cdslm-eval demo --out demo

test: .venv/dev.done
	$(BIN)/python -m pytest -n 2 --dist worksteal --doctest-modules cdslm_eval tests plugins

# some minutes of hostile names, manifests, tables, results, stores and audio; what breaks a reader joins tests/fuzz_corpus
fuzz: .venv/dev.done
	$(BIN)/python tests/fuzz.py --seconds 180

# every wheel in an empty environment, dependencies from the package index
wheel-test: .venv/dev.done
	$(BIN)/python -m pytest -q tests/packaging/bare_install.py

lint: .venv/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# not quiet: that would also hide the warnings which strict counts; the theme warns of a future mkdocs, which constraints.txt keeps out
docs: .venv/docs.done
	$(BIN)/python docs/build/gallery.py
	DISABLE_MKDOCS_2_WARNING=true NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --site-dir site

bench: .venv/dev.done
	$(PIP) -e '.[bench]'
	$(BIN)/python -m pytest benchmarks -q -o python_files="bench_*.py" --benchmark-json=benchmarks/results/latest.json

# by the python of the environment that has torch; installs nothing and needs no network
bench-gpu:
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) benchmarks/bench_gpu.py --out benchmarks/results/gpu.json $(BENCH_GPU)

.venv/demo.done: pyproject.toml constraints.txt $(wildcard plugins/perceptual/pyproject.toml plugins/phones/pyproject.toml)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e '.[speech]'
	# the demo shows DNSMOS next to pJSD where its runtime has a wheel; nothing is compiled here
	$(PIP) --only-binary :all: -e ./plugins/perceptual || echo "plugins/perceptual has no wheels for this machine; the demo goes without DNSMOS"
	# the neural recognizer, under the same rule
	$(PIP) --only-binary :all: -e ./plugins/phones || echo "plugins/phones has no wheels for this machine; the demo recognizes phones with pocketsphinx"
	touch $@

.venv/dev.done: .venv/demo.done requirements-dev.txt $(wildcard plugins/*/pyproject.toml)
	$(PIP) torch==2.13.0
	$(PIP) -e '.[model,speech]' -r requirements-dev.txt $(foreach plugin,$(PLUGINS),-e '$(plugin)[test]')
	# it declares torchaudio, which its model does not use and whose default build replaces torch
	$(PIP) --no-deps audiobox-aesthetics
	# they declare torchaudio, which the network of distillmos does not use; the second is the reference of its test
	$(PIP) --no-deps distillmos xls-r-sqa
	# it declares webrtcvad, which is compiled and which its weights do not use
	$(PIP) --no-deps Resemblyzer
	# it declares a web client, which its trainer does not use
	$(PIP) --no-deps pytorch-lightning
	# it declares torch, which its ONNX network does not use
	$(PIP) --no-deps silero-vad
	touch $@

.venv/docs.done: .venv/dev.done requirements-docs.txt
	$(PIP) -r requirements-docs.txt
	touch $@
