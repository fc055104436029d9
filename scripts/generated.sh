#!/usr/bin/env bash
# The committed Go must be what the protos generate.
set -euo pipefail
root=$(pwd)
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
mkdir "$fresh/proto"
sed -e "s#\.\./bin/tools#$root/bin/tools#" -e '/^clean:/d' proto/buf.gen.yaml >"$fresh/buf.gen.yaml"
(cd proto && "$root/bin/tools/buf" generate --template "$fresh/buf.gen.yaml" -o "$fresh/proto")
if ! diff -r proto/gen "$fresh/proto/gen"; then
	echo 'proto/gen is not what the protos generate: run make generate' >&2
	exit 1
fi
