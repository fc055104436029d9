#!/usr/bin/env bash
# Each module must build by itself (the workspace hides a missing requirement), be tidy, and name the same Go version.
set -euo pipefail
version=$(sed -n 's/^go //p' go.work)
for module in "$@"; do
	declared=$(sed -n 's/^go //p' "$module/go.mod")
	if [ "$declared" != "$version" ]; then
		echo "$module/go.mod says go $declared, go.work says go $version" >&2
		exit 1
	fi
	(cd "$module" && GOWORK=off go build ./... && GOWORK=off go mod tidy -diff)
done
