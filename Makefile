# Locker's own commands. `make run` shows everything once; `make test` runs every test.
# All that is needed beyond Go comes through go.mod.

SHELL   := bash
BIN     := bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
GOBUILD := CGO_ENABLED=0 go build -ldflags '$(LDFLAGS)'
PREFIX  ?= $(HOME)/.local

# One set of flags for all, so that programs and tests share what was compiled.
export GOFLAGS := $(GOFLAGS) -trimpath

.PHONY: run build install tools test race lint fuzz soak suites bugs large bench bench-live bench-restore bench-upload bench-peers plots cover cross clean generate

run: build            ## everything once, in a throw-away folder
	@bash daemon/cmd/locker/demo.sh $(CURDIR)/$(BIN) $(CURDIR)/testdata/exports

build:                ## the three programs, into bin/
	@mkdir -p $(BIN)
	$(GOBUILD) -o $(BIN)/ ./daemon/cmd/locker ./plugins/locker-plugins
	$(GOBUILD) -o $(BIN)/locker-rclone ./plugins/remotes/rclone

install: build        ## into $(PREFIX)/bin
	install -d $(PREFIX)/bin
	install -m 755 $(BIN)/locker $(BIN)/locker-plugins $(BIN)/locker-rclone $(PREFIX)/bin/

tools:                ## other people's programs that tests compare with, where they can be installed
	@bash .ci/tools

test:                 ## every test
	CGO_ENABLED=0 go test -timeout 40m ./...

race:                 ## the tests of what runs concurrently, under the race detector
	CGO_ENABLED=1 go test -race -timeout 30m ./crypto/... ./daemon/gate/... ./daemon/replica/... ./daemon/store/... ./manifests/... ./plugins/ ./plugins/internal/...

lint:                 ## gofmt, vet, staticcheck, known vulnerabilities
	@files=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$files" || { echo "gofmt: $$files"; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	@bash .ci/vulncheck

cross:                ## compiles for every system, without cgo
	@bash .ci/cross

FUZZTIME ?= 30s
fuzz:                 ## each fuzz target for FUZZTIME
	@for pkg in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$pkg 2>/dev/null | grep '^Fuzz'); do \
	    echo "$$pkg $$target"; CGO_ENABLED=0 go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg || exit 1; \
	  done; done

MINUTES ?= 60
soak:                 ## the long simulations for MINUTES, with their seeds printed
	LOCKER_SOAK=$(MINUTES) CGO_ENABLED=0 go test -v -timeout 0 -run 'Soak|Simulation|Crash|Random' ./daemon/replica/... ./daemon/store/...

suites:               ## the whole of the replica's suites: attacks, slow clouds, failing calls, rules switched off
	LOCKER_SUITES=1 CGO_ENABLED=0 go test -v -timeout 1h -run '^(TestSimulation|TestSimulationRepeats|TestHostile|TestLaggy|TestNthCall|TestRules)$$' ./daemon/replica

bugs:                 ## puts known bugs back, one at a time, and sees each one caught
	LOCKER_BUGS=1 CGO_ENABLED=0 go test -v -timeout 1h -run '^TestBugs$$' ./daemon/replica

LARGE ?= 5368709120
large:                ## one blob of 5 GB there and back: memory, disk, kills
	LOCKER_LARGE=$(LARGE) CGO_ENABLED=0 go test -v -count=1 -timeout 3h -run '^TestLargeBlob$$' ./daemon/replica

bench:                ## the benchmarks that the README records
	CGO_ENABLED=0 go test -run '^$$' -bench . -benchtime 3x -timeout 60m ./crypto ./daemon/store ./daemon/replica ./daemon/gate ./plugins/host ./daemon/cmd/locker

bench-live:           ## one change of a million records, and news between two devices, 50 ms from an S3
	CGO_ENABLED=0 go test -run '^$$' -bench 'OneChange|News' -benchtime 15x -timeout 30m ./daemon/cmd/locker

bench-restore:        ## when the first query is answered, of 10^4 to 10^7 records
	LOCKER_BENCH_RECORDS=10000000 CGO_ENABLED=0 go test -run '^$$' -bench FirstQuery -benchtime 1x -timeout 120m ./daemon/cmd/locker

bench-upload:         ## the first upload of a million records and 1 GB of pictures, and their restore
	LOCKER_BENCH_RECORDS=1000000 LOCKER_BENCH_PICTURES=340 CGO_ENABLED=0 go test -run '^$$' -bench FirstUpload -benchtime 1x -timeout 30m ./daemon/replica

bench-peers:          ## the same data saved by restic, borg and rclone, what is installed of them
	@bash .ci/peers
	LOCKER_BENCH_RECORDS=1000000 LOCKER_BENCH_PICTURES=340 CGO_ENABLED=0 go test -v -run '^$$' -bench Peers -benchtime 1x -timeout 60m ./daemon/replica

plots:                ## what things cost against size, counted: daemon/replica/plots/
	@mkdir -p daemon/replica/plots
	LOCKER_PLOTS=$(CURDIR)/daemon/replica/plots LOCKER_PLOT_RECORDS=1000000 CGO_ENABLED=0 go test -count=1 -timeout 30m -run '^TestPlots$$' ./daemon/replica
	LOCKER_YEAR=$(CURDIR)/daemon/replica/plots/year.md CGO_ENABLED=0 go test -count=1 -timeout 30m -run '^TestYear$$' ./daemon

cover:                ## coverage by package
	CGO_ENABLED=0 go test -timeout 30m -coverprofile=cover.out ./... && go tool cover -func=cover.out | tail -1

generate:             ## what is generated: the wire code, the list of plugins, the schemas' page
	go generate ./...

clean:
	rm -rf $(BIN) cover.out
