# Everything is installed into .venv and node_modules, from constraints.txt and package-lock.json.
# `make` alone lists the targets.

# The first of these that is there and starts: a version manager's shim may stand for none.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3.14 python3,\
	$(shell $(name) -c 'import sys; print(sys.executable)' 2>/dev/null)))
VENV := .venv
BIN := $(VENV)/bin
PROTOC := build/protoc
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
BUF := node_modules/.bin/buf
PIP_AUDIT := build/pip-audit/bin/pip-audit
PROTOS := $(wildcard protos/sayso/v1/*.proto)
FORKS := gateway/connectors/media_forking
ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

##@ Use

.PHONY: demo
demo: $(VENV)/.base  ## enroll and verify the clips of demo/audio on a real server; SAYSO_DEMO_AUDIO=folder for your own, MODEL=file.onnx for another model than CAM++
	@$(choose_demo_model); export SAYSO_MODEL; $(BIN)/sayso demo

.PHONY: demo-gateway
demo-gateway: $(VENV)/.dev  ## a recording as calls of Twilio, Genesys and Asterisk at once, and the webhooks of their ends; ARGS='call.wav --speaker slt'
	@$(BIN)/python -m demo.gateway $(ARGS)

.PHONY: sample-corpus
sample-corpus: $(VENV)/.base  ## a small corpus of made voices to try training on: build/sample/manifest.csv
	@$(BIN)/python -m demo.make_corpus build/sample

##@ Measure

DATA ?= ../shared/data/manifest.csv
CARD := build/card
SYSTEMS := build/systems
EVALUATE = $(BIN)/sayso-evaluate
JUDGED = --model models/sayso.onnx --manifest $(DATA) --split dev

.PHONY: model-card
model-card: $(VENV)/.dev  ## measure the model that ships and write models/README.md; DATA=manifest.csv
	$(EVALUATE) $(JUDGED) --output $(CARD)/recorded
	$(EVALUATE) conditions $(JUDGED) --output $(CARD)/recorded --replicates 0 \
		--clips 200 --speech 1,3,full --snr clean,10 --codec none,mulaw,opus
	$(EVALUATE) $(JUDGED) --cross-channel --output $(CARD)/cross
	$(BIN)/python -m benchmarks.accuracy.model_card $(CARD) $(SYSTEMS)

.PHONY: model-table
model-table: $(VENV)/.dev $(CAMPPLUS)  ## measure all models on the same trials, into models/README.md and docs/learn/models.md; DATA=manifest.csv
	$(BIN)/python -m benchmarks.accuracy.model_table --get $(CAMPPLUS) --manifest $(DATA)

.PHONY: calibration
calibration: $(VENV)/.dev  ## calibrate a model that ships, on trials like a service's; MODEL=file.onnx, DATA=manifest.csv
	$(BIN)/python -m benchmarks.accuracy.calibration_trials $(DATA) build/calibration
	$(BIN)/sayso-export calibrate $(or $(MODEL),models/sayso.onnx) --manifest $(DATA) --split dev \
		--trials build/calibration/trials.txt --enrollments build/calibration/enrollments.txt \
		--in-place --score as_norm --cohort-split train --cohort-speakers 100

.PHONY: promises
promises: $(VENV)/.dev  ## does the promised false-match rate hold on lines, codecs, hum? MODEL=file.onnx, DATA=manifest.csv
	$(BIN)/python -m benchmarks.accuracy.calibration_trials $(DATA) build/calibration
	$(EVALUATE) promises --model $(or $(MODEL),models/sayso.onnx) --manifest $(DATA) --split dev \
		--trials build/calibration/trials.txt --enrollments build/calibration/enrollments.txt \
		--output build/promises

.PHONY: compare-systems
compare-systems: $(VENV)/.dev  ## models beside Resemblyzer and MFCC, clean, telephone, noisy: build/systems; MODELS='new.onnx old.onnx', ARGS=--record
	$(BIN)/python -m benchmarks.accuracy.compare_systems $(SYSTEMS) $(or $(MODELS),models/sayso.onnx) --manifest $(DATA) $(ARGS)

.PHONY: bench-evaluation
bench-evaluation: $(VENV)/.dev  ## metrics of ten million scores, beside scikit-learn: benchmarks/results/evaluation.json
	$(BIN)/python -m benchmarks.speed.evaluation

.PHONY: bench-tune
bench-tune: $(VENV)/.dev  ## `sayso tune` on simulated operators' lines: benchmarks/results/tune.json; ARGS='models/sayso.onnx campplus.onnx'
	$(BIN)/python -m benchmarks.accuracy.tuned_lines $(DATA) $(ARGS)

.PHONY: bench-search
bench-search: $(VENV)/.base  ## exact search among a million voices: benchmarks/results/search.json
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.search

.PHONY: bench-train
bench-train: build/peers/.installed  ## clips a second of training beside its model alone and SpeechBrain's: benchmarks/results/train.json; ARGS='--device cpu'
	build/peers/bin/python -m benchmarks.speed.train $(ARGS)

.PHONY: bench-streaming
bench-streaming: $(VENV)/.base  ## calls held at once, idle calls: benchmarks/results/streaming.json; ARGS='--model file --label small --target 60'
	$(BIN)/python -m benchmarks.speed.streaming $(ARGS)

.PHONY: bench
bench: $(VENV)/.dev redis-server peers  ## every benchmark of serving in turn, then the report: an hour of an idle machine
	$(MAKE) bench-serving bench-latency bench-peers bench-cpu bench-workers bench-stores
	$(MAKE) bench-requests ARGS='--requests 30000'
	$(MAKE) bench-evaluation bench-search bench-streaming bench-report

BENCHES := bench-serving bench-latency bench-peers bench-cpu bench-workers bench-requests bench-stores bench-gateway
.PHONY: $(BENCHES)
bench-serving:  ## windows a second of a server beside its session in a bare loop
bench-latency:  ## p50, p95, p99 of Verify against load, with a picture
bench-peers: peers  ## beside SpeechBrain, sherpa-onnx, Resemblyzer and Triton
bench-cpu:  ## options of the model's session; ARGS='--label small --model models/sayso-small.onnx'
bench-workers:  ## two processes beside one
bench-requests:  ## memory over many requests, and the start; ARGS='--requests 100000'
bench-gateway:  ## what the gateway adds to a call, and a soak of 200 calls; ARGS='--calls 12 --seconds 15'
bench-stores: redis-server  ## lookups among a million speakers in Redis and in SQLite
$(BENCHES): bench-%: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.$* $(ARGS)

.PHONY: gpu-check
gpu-check: $(VENV)/.dev  ## CUDA beside the CPU: parity, windows a second, streams, memory; says what it skips
	$(BIN)/python -m benchmarks.speed.gpu_check $(ARGS)

.PHONY: peers
peers: build/peers/.installed build/triton/.installed  ## what bench-peers compares with

.PHONY: soak
soak: $(VENV)/.dev redis-server  ## ten minutes of mixed calls on each store, with flat memory; ARGS='--minutes 1'
	$(BIN)/python -m benchmarks.speed.soak $(ARGS)

.PHONY: attack
attack: $(VENV)/.base  ## what answers tell of a stored voice: benchmarks/results/attack.json; ARGS='--victims 1 --probes 40'
	$(BIN)/python -m benchmarks.security.attack --data $(DATA) $(ARGS)

.PHONY: bench-report
bench-report: $(VENV)/.base  ## write benchmarks/results into docs/benchmarks.md, a dozen figures into the README
	$(BIN)/python -m benchmarks.report

.PHONY: streaming-figures
streaming-figures: $(VENV)/.dev  ## how soon the sequential test decides, into docs/integrate/decisions.md; DATA=manifest.csv
	$(BIN)/python -m benchmarks.accuracy.early_decisions --manifest $(DATA) $(ARGS)

.PHONY: spoofing-figures
spoofing-figures: $(VENV)/.dev  ## what a countermeasure hears, into docs/security/spoofing.md; SPOOFS=spoofs/manifest.csv ARGS=ours=model.onnx
	$(BIN)/python -m benchmarks.accuracy.spoofing $(SPOOFS) $(ARGS)

.PHONY: household-figures
household-figures: $(VENV)/.dev  ## error rates of claims of several speakers, into docs/integrate/households.md; DATA=manifest.csv
	$(BIN)/python -m benchmarks.accuracy.households --manifest $(DATA) $(ARGS)

.PHONY: template-figures
template-figures: $(VENV)/.dev  ## what protected templates cost, into docs/security/encryption.md; DATA=manifest.csv
	$(BIN)/python -m benchmarks.accuracy.protected_templates --manifest $(DATA) $(ARGS)

.PHONY: voice-figures
voice-figures: $(VENV)/.dev  ## how well the checks of an enrolment work, into docs/operate/voices.md; DATA=manifest.csv
	$(BIN)/python -m benchmarks.accuracy.enrollment_checks --manifest $(DATA) $(ARGS)

##@ Develop

.PHONY: dev
dev: $(VENV)/.dev  ## .venv with all that training and the tests need (torch too, 5 GB)

.PHONY: check
check: lint test  ## lint, then test

# Each worker takes half of the tests in their order, and what the other has left once it has done
# its own: a module's fixtures are made once, or twice where it is cut.
PYTEST = $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

.PHONY: test
test: $(VENV)/.dev redis-server sipp  ## run the tests, on every core, without the long ones; ARGS='-k store' chooses
	$(PYTEST) -m 'not slow' $(ARGS)

.PHONY: test-all
test-all: $(VENV)/.dev redis-server sipp  ## run all tests, the long campaigns and large volumes too
	HOSTILE_INPUTS=500 $(PYTEST) $(ARGS)

.PHONY: pins
pins: $(VENV)/.dev  ## write the demo's scores by the models that ship, for the tests: after a change of a model
	$(BIN)/python -m tests.models.pins

.PHONY: reliability
reliability: $(VENV)/.dev redis-server  ## what breaks, in its long version: kills, power cuts, full disks, hostile clients
	$(BIN)/python -m pytest tests/reliability tests/service/store/test_model.py --long $(ARGS)
	$(BIN)/python -m tests.reliability.results

.PHONY: image
image:  ## build the image `sayso` with docker, podman or buildah; TARGET=cuda for an NVIDIA GPU, campplus with CAM++
	@$(build_image)

.PHONY: image-check
image-check:  ## build the image and serve from it where no container engine runs: with buildah, as root; TARGET=campplus
	@command -v buildah >/dev/null && command -v mmdebstrap >/dev/null || { $(call apt_install,buildah mmdebstrap); }
	tests/tooling/check_image.sh $(TARGET)

SUITE ?= trixie

.PHONY: debian-check
debian-check:  ## the demo and the service's tests on Debian 13 and its Python, as root; SUITE=sid, ARGS='-n auto tests/service'
	@command -v mmdebstrap >/dev/null || { $(call apt_install,mmdebstrap); }
	tests/tooling/check_debian.sh $(SUITE) $(or $(ARGS),tests/service)

.PHONY: fuzz
fuzz: $(VENV)/.dev  ## coverage-guided fuzzing of every decoder and of messages; ARGS='--minutes 20'
	HOSTILE_INPUTS=1000 $(BIN)/python -m pytest -q tests/fuzz
	$(BIN)/python -m tests.fuzz $(ARGS)

.PHONY: lint
lint: $(VENV)/.dev $(PROTOC)/.made node_modules/.installed  ## style, types, import directions, protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy demo benchmarks examples/python
	$(BIN)/mypy tests
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BUF) lint protos
	@$(protos_drift)
	@$(protos_breaking)

# Stubs work with protobuf of the major version that made them and with the next: made by 6, they let
# `sayso-client` stand beside packages that do not take 7 yet.
$(PROTOC)/.made: $(VENV)/.base
	$(BIN)/python -m venv $(PROTOC)
	$(PROTOC)/bin/python -m pip install --quiet --disable-pip-version-check \
		grpcio-tools==1.76.0 'setuptools<81' mypy-protobuf==5.1.0
	touch $@

.PHONY: protos
protos: $(PROTOC)/.made  ## regenerate the stubs in client/sayso/v1, and those of platforms' protos in gateway/
	@$(call stubs_into,client)
	@$(call foreign_stubs_into,.)

.PHONY: reference
reference: $(VENV)/.dev  ## write docs/settings.md and docs/integrate/api.md from the code
	$(BIN)/python -m benchmarks.reference

PROMETHEUS_RULE := deploy/kubernetes/monitoring/prometheusrule.yaml

.PHONY: skeletons
skeletons: $(VENV)/.dev  ## trace the graphs without weights that `sayso models get` fills: models/*.graph.gz
	$(BIN)/python -m exporters.skeleton

.PHONY: prometheus-rule
prometheus-rule:  ## write the PrometheusRule of deploy/kubernetes from the alerts
	mkdir -p build
	{ sed '/^spec:/q' $(PROMETHEUS_RULE); sed 's/^\(.\)/  \1/' deploy/prometheus/alerts.yml; } > build/rule.yaml
	mv build/rule.yaml $(PROMETHEUS_RULE)

# Google's generator for OpenAPI is written in Go.
OPENAPI := build/go/bin/protoc-gen-openapi

.PHONY: openapi
openapi: $(VENV)/.dev $(OPENAPI)  ## write protos/openapi.yaml from the protos (needs Go)
	PATH="$(abspath $(dir $(OPENAPI))):$$PATH" $(BIN)/python -m grpc_tools.protoc -I protos \
		--openapi_out=naming=proto,fq_schema_naming=false,enum_type=string,title=Sayso,version=v1:protos \
		$(PROTOS)

$(OPENAPI):
	GOBIN="$(abspath $(dir $@))" go install github.com/google/gnostic/cmd/protoc-gen-openapi@v0.7.0

.PHONY: constraints
constraints: build/uv/bin/uv  ## remake constraints.txt from pyproject.toml; ARGS=--upgrade takes newer versions
	printf '%s\n' $(SILERO_VAD) $(RESEMBLYZER) | $< pip compile --quiet --all-extras --no-annotate $(ARGS) \
		--python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-emit-package sayso-client \
		--custom-compile-command 'make constraints' --output-file constraints.txt pyproject.toml -
	printf '%s\n' $(SILERO_VAD) $(RESEMBLYZER) | $< pip compile --quiet --all-extras --no-annotate --no-header \
		--python-version 3.14 --python-platform x86_64-manylinux_2_28 --no-emit-package sayso-client --constraint constraints.txt pyproject.toml - \
		> build/constraints-newest.txt  # what only newer interpreters need
	{ grep '^#' constraints.txt; grep -hv '^#' constraints.txt build/constraints-newest.txt | LC_ALL=C sort -t= -k1,1 -u; } \
		> build/constraints.txt && mv build/constraints.txt constraints.txt

.PHONY: sbom
sbom: build/serving/.installed build/cyclonedx/bin/cyclonedx-py  ## what an image installs, with versions and licences (CycloneDX): build/sbom.json
	build/cyclonedx/bin/cyclonedx-py environment build/serving/bin/python \
		--pyproject pyproject.toml --output-reproducible --output-file build/sbom.json

.PHONY: audit
audit: $(PIP_AUDIT)  ## ask for known vulnerabilities of every pinned version: build/audit.json
	@mkdir -p build
	@$(audited)

.PHONY: clean
clean:  ## remove what was installed, built or cached
	rm -rf $(VENV) node_modules build dist .*_cache .hypothesis

.PHONY: help
help:  ## list these targets
	@awk -F ':.*## ' '/^##@/ { print "\n" substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- Python: two levels in one .venv, each with a stamp, so that a second call installs nothing ---

# Voice activity's model comes in a package that depends on torch, which serving never needs: it is
# always installed with --no-deps, and so is not among the dependencies in pyproject.toml.
SILERO_VAD := silero-vad==6.2.3

# A published model whose weights come with its package: the tests adopt and serve it.
RESEMBLYZER := resemblyzer==0.1.4 webrtcvad-wheels==2.0.14.post1

# Its serializers are a second reading of the platforms' protocols, for the tests of the gateway.
PIPECAT := pipecat-ai==1.14.0 aiofiles==25.1.0 docstring-parser==0.18.0 loguru==0.7.3 loudness==0.2.0 \
	sentencex==1.0.32 wait-for2==0.4.1

# Asks the gateway as an application of Voice ID does; dateutil and urllib3, which it needs too, are there.
BOTO3 := boto3==1.44.8 botocore==1.44.8 jmespath==1.1.0 s3transfer==0.19.3 six==1.17.0

$(BIN)/python:
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null \
		|| { echo 'Sayso needs Python 3.11 to 3.14: make PYTHON=/path/to/python3.13' >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip' 2>/dev/null || { $(call apt_install,python3-venv); }
	"$(PYTHON)" -m venv $(VENV)

$(VENV)/.base: pyproject.toml client/pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing the service into $(VENV) (half a minute)'
	@$(PIP) install -c constraints.txt -e ./client -e .
	@$(PIP) install -c constraints.txt --no-deps silero-vad
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	@echo 'Installing training and development tools into $(VENV) (5 GB, some minutes)'
	@$(PIP) install -c constraints.txt -e '.[train,dev]'
	@$(PIP) install -c constraints.txt --no-deps resemblyzer webrtcvad-wheels
	@$(PIP) install --no-deps $(PIPECAT) $(BOTO3)
	@touch $@

build/uv/bin/uv:
	$(PYTHON) -m venv build/uv
	build/uv/bin/pip --disable-pip-version-check --quiet install uv

# Peers see what .venv has, torch too, beside what is theirs.
define sees_venv
site='import site; print(site.getsitepackages()[0])'; \
$(BIN)/python -c "$$site" > "$$($(1)/bin/python -c "$$site")/sayso.pth"
endef

build/peers/.installed: | $(VENV)/.dev
	$(BIN)/python -m venv build/peers
	build/peers/bin/python -m pip --disable-pip-version-check --quiet install --no-deps \
		sherpa-onnx==2.0.1 sherpa-onnx-core==2.0.1 speechbrain==1.1.2 \
		hyperpyyaml==1.2.3 ruamel.yaml==0.18.17 huggingface_hub==2.4.0 sentencepiece==0.2.3
	@$(call sees_venv,build/peers)
	@touch $@

build/triton/.installed: | $(VENV)/.dev
	$(BIN)/python -m venv build/triton
	build/triton/bin/python -m pip --disable-pip-version-check --quiet install nvidia-pytriton==0.7.0
	@$(call sees_venv,build/triton)
	@touch $@

build/cyclonedx/bin/cyclonedx-py:
	$(PYTHON) -m venv build/cyclonedx
	build/cyclonedx/bin/pip --disable-pip-version-check --quiet install cyclonedx-bom

build/pip-audit/bin/pip-audit:
	$(PYTHON) -m venv build/pip-audit
	build/pip-audit/bin/pip --disable-pip-version-check --quiet install pip-audit

# As the Dockerfile installs.
build/serving/.installed: pyproject.toml client/pyproject.toml constraints.txt | $(BIN)/python
	$(PYTHON) -m venv --clear --without-pip build/serving
	$(PIP) --python build/serving/bin/python install -c constraints.txt ./client '.[g722,gateway,tracing,vault]'
	$(PIP) --python build/serving/bin/python install -c constraints.txt --no-deps silero-vad
	@touch $@

# An index may serve packages and no advisories: nothing known is then no finding.
define audited
rm -f build/audit.json; \
$(PIP_AUDIT) --requirement constraints.txt --no-deps --disable-pip --progress-spinner off \
	--format json --output build/audit.json 2> build/audit.log; status=$$?; \
checked=$$(grep -o '"vulns"' build/audit.json 2>/dev/null | wc -l); \
skipped=$$(grep -o '"skip_reason"' build/audit.json 2>/dev/null | wc -l); \
if [ "$$checked" = 0 ]; then \
	echo 'audit: NOTHING was checked: no advisory service answers here; see build/audit.log'; \
else \
	echo "audit: $$checked packages checked, $$skipped that the advisory service does not know"; \
	[ "$$status" = 0 ] || { cat build/audit.log; echo 'audit: see build/audit.json' >&2; exit 1; }; \
fi
endef

# --- Debian packages, installed when missing and possible ---

.PHONY: redis-server
redis-server:
	@command -v redis-server >/dev/null || { $(call apt_install,redis-server); }

# Tests of SIPREC skip without it.
.PHONY: sipp
sipp:
	-@command -v sipp >/dev/null || { $(call apt_install,sip-tester); }

define apt_install
echo 'Installing $(1)'; \
if [ "$$(id -u)" = 0 ]; then sudo=; else sudo='sudo -n'; fi; \
{ $$sudo apt-get -qq update && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qqy install --no-install-recommends $(1); } \
|| { echo '$(1) is needed and could not be installed: apt-get install $(1)' >&2; exit 1; }
endef

# --- The demo's model ---

CAMPPLUS := build/campplus.onnx

$(CAMPPLUS): models/campplus.json models/campplus.graph.gz | $(VENV)/.base
	@$(BIN)/sayso models get campplus --output $@

# CAM++ unless a model is named, made again after its calibration changed; else the one that ships.
define choose_demo_model
SAYSO_MODEL="$(or $(MODEL),$$SAYSO_MODEL)"; \
if [ -z "$$SAYSO_MODEL" ]; then \
	SAYSO_MODEL=$(CAMPPLUS); \
	[ $(CAMPPLUS) -nt models/campplus.json ] \
		|| $(BIN)/sayso models get campplus --output $(CAMPPLUS) \
		|| { echo 'CAM++ cannot be had: the demo runs with the model that ships'; SAYSO_MODEL=models/sayso.onnx; }; \
fi
endef

# --- The image ---

TARGET ?= cpu
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' client/sayso/__init__.py)
IMAGE_TAGS = $(if $(filter cpu,$(TARGET)),latest $(VERSION),$(TARGET) $(VERSION)-$(TARGET))

# An engine may be installed and not run. Podman and buildah keep the health check in Docker's format.
define build_image
for engine in docker podman buildah; do $$engine info >/dev/null 2>&1 && break; engine=; done; \
[ "$$engine" ] || { echo 'No container engine runs here. Install docker, podman or buildah; \
make image-check builds and runs the image without one.' >&2; exit 1; }; \
set -x; BUILDAH_FORMAT=docker $$engine build --target $(TARGET) $(IMAGE_TAGS:%=--tag sayso:%) $(ARGS) .
endef

# --- Protos ---

node_modules/.installed: package.json package-lock.json
	@command -v npm >/dev/null \
		|| { echo 'Linting the protos needs Node.js: apt-get install npm' >&2; exit 1; }
	npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# Only protos with a service get gRPC stubs.
define stubs_into
export PATH="$(abspath $(PROTOC)/bin):$$PATH"; \
python -m grpc_tools.protoc -I protos --python_out=$(1) --mypy_out=quiet:$(1) $(PROTOS) && \
python -m grpc_tools.protoc -I protos --grpc_python_out=$(1) \
	--mypy_grpc_out=quiet,generate_concrete_servicer_stubs:$(1) $$(grep -l '^service ' $(PROTOS))
endef

# Platforms' protos are not of our API: neither buf's rules nor its freeze are for them.
define foreign_stubs_into
export PATH="$(abspath $(PROTOC)/bin):$$PATH"; \
python -m grpc_tools.protoc -I . --python_out=$(1) --mypy_out=quiet:$(1) $(wildcard $(FORKS)/*.proto)
endef

define protos_drift
rm -rf build/protos && mkdir -p build/protos && { $(call stubs_into,build/protos); } && \
{ $(call foreign_stubs_into,build/protos); } && \
diff -r -x __init__.py -x __pycache__ client/sayso/v1 build/protos/sayso/v1 && \
for stub in $(FORKS)/*_pb2.py*; do diff $$stub build/protos/$$stub || exit 1; done \
	&& echo 'protos: the committed stubs are what the protos generate' \
	|| { echo 'protos: stale stubs; run `make protos` and commit the result' >&2; exit 1; }
endef

# v1 is frozen: what protos/v1.binpb describes may be added to, and nothing in it may change.
define protos_breaking
$(BUF) breaking protos --against protos/v1.binpb && echo 'buf breaking: v1 is as it was frozen'
endef
