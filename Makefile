# Everything is set up in .venv on first use; only Python 3.10+ and make are needed.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

# Built or fetched once and kept; the names change with what they are made from.
CACHE := $(abspath $(or $(BEAM_CORESETS_CACHE),.cache))
key = $(firstword $(shell cat $(1) 2>/dev/null | cksum))
JOB_SERVER := templates/flink/job-server
FLINK_JAR := $(CACHE)/flink/job-server-$(call key,$(JOB_SERVER)/pom.xml $(shell find $(JOB_SERVER)/src -name '*.java' | sort)).jar
BROKER := templates/kafka/broker/pom.xml
KAFKA := $(CACHE)/kafka/$(call key,$(BROKER))
PRISM_VERSION := v2.77.0
PRISM := $(CACHE)/prism-$(PRISM_VERSION)/prism
COMPOSE_VERSION := v2.40.3
KUSTOMIZE_VERSION := v5.7.1
OPERATOR_VERSION := 1.10.0
AXE_VERSION := 4.14.1
AXE := $(CACHE)/axe-$(AXE_VERSION)/axe.min.js
TEMPLATE_TOOLS := $(CACHE)/templates-$(COMPOSE_VERSION)-$(KUSTOMIZE_VERSION)-$(OPERATOR_VERSION)

.PHONY: demo demo-stream test test-fast test-slow test-lowest test-flink test-flink-cluster test-kafka test-pages test-templates prism job-server broker lint docs peers clean

demo: .venv/installed-base
	$(BIN)/python -m beam_coresets.pipelines.demos batch

# A minute of a stream on Flink, one of whose shards stands still for a while: needs Java and Maven.
demo-stream: .venv/installed-base $(FLINK_JAR)
	$(BIN)/python -m beam_coresets.pipelines.demos stream --jar $(FLINK_JAR)

test: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-fast: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-slow: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

# With the lowest versions that setup.py allows: numbers, formats, and each command end to end.
LOWEST := .venv-lowest/bin/python
test-lowest: .venv-lowest/installed
	NUMBA_CACHE_DIR=$(CURDIR)/.venv-lowest/kernels $(LOWEST) -m pytest -n 2 --dist worksteal -m "not slow" -W ignore::DeprecationWarning \
	  tests/points tests/shards tests/coordinator tests/transforms/base tests/transforms/coordinator \
	  tests/transforms/reading tests/transforms/rows tests/transforms/shards tests/transforms/streams \
	  tests/transforms/writing tests/transforms/test_summarize.py tests/test_codec.py tests/test_golden.py \
	  tests/test_newer_forms.py tests/test_readme.py tests/test_tables.py

# Streaming on Flink's embedded cluster: needs Java and Maven.
test-flink: .venv/installed-dev $(FLINK_JAR)
	BEAM_CORESETS_FLINK_JAR=$(FLINK_JAR) $(BIN)/python -m pytest tests/flink -m "not cluster"

# On a cluster of processes, with a Kafka broker, while they are stopped and killed: a minute or two each.
test-flink-cluster: .venv/installed-dev $(FLINK_JAR) $(KAFKA)
	BEAM_CORESETS_FLINK_JAR=$(FLINK_JAR) BEAM_CORESETS_KAFKA=$(KAFKA) $(BIN)/python -m pytest tests/flink -m cluster

# The same with a real Kafka broker on loopback.
test-kafka: .venv/installed-dev $(FLINK_JAR) $(KAFKA)
	BEAM_CORESETS_FLINK_JAR=$(FLINK_JAR) BEAM_CORESETS_KAFKA=$(KAFKA) $(BIN)/python -m pytest tests/kafka

# Streaming on Prism: needs Go.
prism: .venv/installed-dev $(PRISM)
	BEAM_CORESETS_PRISM=$(PRISM) $(BIN)/python -m pytest tests/prism

# Pages in headless Chromium (Debian: chromium), with axe-core (npm); alert rules by promtool (Debian: prometheus).
test-pages: .venv/installed-browser $(AXE)
	BEAM_CORESETS_AXE=$(AXE) $(BIN)/python -m pytest tests/browser tests/templates/test_monitoring.py

# Deployments, held against their own tools and schemas: needs Go and Maven.
test-templates: .venv/installed-templates $(TEMPLATE_TOOLS)
	BEAM_CORESETS_TEMPLATE_TOOLS=$(TEMPLATE_TOOLS) $(BIN)/python -m pytest tests/templates/test_flink_templates.py

# What streaming on a laptop needs: the Flink job server as .cache/flink/job-server.jar, a broker on localhost:9092.
job-server: $(FLINK_JAR)
	ln -sf $(FLINK_JAR) $(CACHE)/flink/job-server.jar
	@echo $(CACHE)/flink/job-server.jar

broker: $(KAFKA)
	@$(PYTHON) $(dir $(BROKER))run.py $(KAFKA)

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

# The docs as a site: .site/index.html. A link or an anchor that leads nowhere ends the build.
docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	BEAM_CORESETS_SITE=.site $(BIN)/python -m pytest tests/test_site.py

# Some of the peers ask for NumPy 1, so they get an environment of their own.
peers: .venv/installed-dev .venv-peers/installed
	$(BIN)/python benchmarks/peers.py

$(FLINK_JAR):
	@echo "building the Flink job server (once, some minutes)"
	mvn -q -B -f $(JOB_SERVER)/pom.xml package -Doutput=$(CACHE)/flink/build
	mv $(CACHE)/flink/build/job-server.jar $@
	rm -rf $(CACHE)/flink/build

$(KAFKA):
	@echo "fetching a Kafka broker (once)"
	rm -rf $@.part
	mvn -q -B -f $(BROKER) dependency:copy-dependencies -DoutputDirectory=$@.part
	mv $@.part $@

$(AXE):
	rm -rf $(@D)
	mkdir -p $(@D)
	cd $(@D) && npm pack --silent axe-core@$(AXE_VERSION) && tar -xzf axe-core-$(AXE_VERSION).tgz
	mv $(@D)/package/axe.min.js $@
	rm -rf $(@D)/package $(@D)/*.tgz

$(PRISM):
	@echo "building Prism (once, some minutes)"
	GOBIN=$(@D) go install github.com/apache/beam/sdks/v2/go/cmd/prism@$(PRISM_VERSION)

# Compose can't be built by `go install`: its module excludes versions of others.
$(TEMPLATE_TOOLS):
	@echo "building docker-compose and kustomize (once, some minutes)"
	rm -rf $@.part
	mkdir -p $@.part/source
	cd $@.part/source && go mod init tools && go get github.com/docker/compose/v2/cmd@$(COMPOSE_VERSION)
	cd $@.part/source && go build -o ../docker-compose github.com/docker/compose/v2/cmd
	GOBIN=$@.part go install sigs.k8s.io/kustomize/kustomize/v5@$(KUSTOMIZE_VERSION)
	mvn -q -B dependency:copy -Dartifact=org.apache.flink:flink-kubernetes-operator-api:$(OPERATOR_VERSION) \
	  -DoutputDirectory=$@.part -Dmdep.stripVersion
	rm -rf $@.part/source
	mv $@.part $@

.venv/installed-base: setup.py pyproject.toml
	@echo "setting up .venv (once, about a minute)"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -e .
	touch $@

.venv/installed-dev: .venv/installed-base
	$(BIN)/python -m pip install -q -e '.[dev]'
	touch $@

.venv/installed-browser: .venv/installed-dev
	$(BIN)/python -m pip install -q -e '.[browser]'
	touch $@

.venv/installed-docs: .venv/installed-dev
	$(BIN)/python -m pip install -q -e '.[docs]'
	touch $@

.venv/installed-templates: .venv/installed-dev
	$(BIN)/python -m pip install -q -e '.[templates]'
	touch $@

.venv-lowest/installed: setup.py pyproject.toml tests/lowest.py
	test -x $(LOWEST) || $(PYTHON) -m venv .venv-lowest
	$(PYTHON) tests/lowest.py > .venv-lowest/constraints.txt
	$(LOWEST) -m pip install -q -c .venv-lowest/constraints.txt -e '.[test]'
	touch $@

.venv-peers/installed:
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install -q coresets bico scikit-learn threadpoolctl faiss-cpu superkmeans river k-means-constrained
	touch $@

clean:
	rm -rf .venv .venv-lowest .venv-peers .demo .site build *.egg-info
