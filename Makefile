# The few verbs people expect. `make check` is what CI runs, without the demo.
FUZZTIME ?= 10s

.PHONY: build test check lint race fuzz long demo vectors figures plots clean

build:            ## the binary, in ./quipu
	go build -trimpath -o quipu ./cmd/quipu

test:             ## the README's test command
	go test ./...

lint:             ## gofmt, vet, staticcheck
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run gofmt -w on the files above"; exit 1; }
	go vet ./...
	go tool -modfile=tools/go.mod staticcheck ./...

race:             ## the race detector on the packages with goroutines
	go test -race ./node ./p2p/... ./rpc ./testnet ./chain ./mempool

fuzz:             ## every fuzz target for FUZZTIME
	.ci/fuzz $(FUZZTIME)

long:             ## the longer runs: crash loops, many starts
	QUIPU_LONG=1 go test -timeout 60m ./...

check: lint test race fuzz

demo: build       ## the tour, once; exits 0 or 10
	./quipu demo --once

vectors:          ## make docs/vectors anew; look at the diff
	go test ./chain -run TestVectors -update

figures: build    ## every figure of docs/performance.md, some ten minutes on a quiet machine; then the plots
	go run ./docs/plot -measure ./quipu

plots:            ## docs/figures/*.svg from docs/figures/*.json
	go run ./docs/plot

clean:
	rm -f quipu
