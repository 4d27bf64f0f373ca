#!/bin/sh
# Makes the Go stubs of the API in sayso/v1, with the plugins that go.mod names. Needs protoc 3.15 or newer.
set -eu
cd "$(dirname "$0")"
GOBIN=$PWD/bin go install tool
PATH=$PWD/bin:$PATH protoc -I ../../protos \
    --go_out=. --go_opt=paths=source_relative \
    --go-grpc_out=. --go-grpc_opt=paths=source_relative \
    ../../protos/sayso/v1/*.proto
