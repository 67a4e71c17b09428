# leaklab: see README.md. "make repro" runs the main job, "make test" the tests.

GO      ?= go
VERSION ?= $(shell git describe --always --dirty 2>/dev/null || echo development)
# What the runtimes need to be built, beyond Go: the old engines use cgo.
TOOLS   := gcc git

# What the project's own Vagrant box and its end-to-end test need.
VAGRANT_PACKAGES := vagrant vagrant-libvirt libvirt-daemon-system libvirt-clients qemu-system-x86 qemu-utils mmdebstrap \
	dnsmasq-base iptables nftables openssh-client e2fsprogs

# Specs that run side by side: most of the time they wait for something to settle.
PROCS   ?= 3

export CGO_ENABLED ?= 0

.PHONY: repro test unit e2e bench lint build deps clean vagrant-box vagrant-deps e2e-vagrant

repro: deps build ## install what is missing, build, run all that this machine can run
	bin/leaklab run

test: unit e2e ## unit tests, then the real thing

build: ## leave bin/leaklab, one static binary
	$(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/leaklab ./cmd/leaklab

unit: ## fast tests, on any machine
	$(GO) vet ./...
	$(GO) test $$($(GO) list ./... | grep -v /e2e)

e2e: deps build ## every arm through the real command (Ginkgo; FLAGS adds its flags)
	@mkdir -p leaklab-results
	LEAKLAB_BIN=$(CURDIR)/bin/leaklab $(GO) tool ginkgo -v -procs=$(PROCS) -timeout=50m -label-filter='!vagrant' \
		-output-dir=leaklab-results -junit-report=e2e.xml -json-report=e2e.json $(FLAGS) ./e2e

vagrant-box: bin/testbox.box ## the project's own Vagrant box, from this machine's apt

bin/testbox.box: $(wildcard vagrant/testbox/*) | vagrant-deps
	sh vagrant/testbox/build.sh $(CURDIR)/$@

e2e-vagrant: build vagrant-box ## up, run, lose and destroy a real box (libvirt, emulated; takes a while)
	LEAKLAB_BIN=$(CURDIR)/bin/leaklab LEAKLAB_TESTBOX=$(CURDIR)/bin/testbox.box \
		$(GO) test ./e2e -count=1 -timeout 90m -ginkgo.v -ginkgo.label-filter=vagrant $(FLAGS)

vagrant-deps: ## install Vagrant, libvirt, QEMU and mmdebstrap, where they are missing
	@for tool in vagrant libvirtd virsh qemu-system-x86_64 qemu-img mmdebstrap dnsmasq iptables; do \
		command -v $$tool >/dev/null && continue; \
		if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(VAGRANT_PACKAGES) && break; \
		else \
			echo "$$tool is missing: install $(VAGRANT_PACKAGES) (as root on Debian, make does)" >&2; exit 1; \
		fi; \
	done

bench: deps build ## ratios measured in one run
	LEAKLAB_BIN=$(CURDIR)/bin/leaklab $(GO) test ./e2e -run '^$$' -bench . -benchtime 1x -count=1 -timeout 30m
	$(GO) test ./harness/bisect -run '^$$' -bench . -benchtime 200x -count=1

lint: ## vet and staticcheck
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

deps: ## install the tools that building the runtimes needs, where they are missing
	@for tool in $(TOOLS); do \
		command -v $$tool >/dev/null && continue; \
		if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc libc6-dev git && break; \
		else \
			echo "$$tool is missing: install gcc, libc6-dev and git (as root on Debian, make does)" >&2; exit 1; \
		fi; \
	done

clean: ## remove what was built here and what killed runs have left
	-[ ! -x bin/leaklab ] || bin/leaklab clean
	rm -rf bin leaklab-results
