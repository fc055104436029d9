#!/usr/bin/env bash
# The servers that the tests talk to. Without arguments: install what is missing, where that is possible without
# asking (Debian or Ubuntu, as root or with password-less sudo). With --missing: say what was not tested for want
# of a server, and how to get it.
set -euo pipefail

packages=()
have_postgres() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null; }
have_postgres || packages+=(postgresql)
command -v openssl >/dev/null || packages+=(openssl)
[ "${#packages[@]}" -eq 0 ] && exit 0

line="apt-get install -y --no-install-recommends ${packages[*]}"
if [ "${1:-}" = --missing ]; then
	echo "not tested, for want of: ${packages[*]}. To install: $line"
	exit 0
fi
command -v apt-get >/dev/null || exit 0
sudo=()
if [ "$(id -u)" -ne 0 ]; then
	sudo -n true 2>/dev/null || exit 0
	sudo=(sudo -n)
fi
echo "installing: ${packages[*]}"
# The tests start servers of their own: the package need not make a cluster nor start one.
conf=/etc/postgresql-common/createcluster.conf
if [ ! -e "$conf" ]; then
	"${sudo[@]}" mkdir -p "$(dirname "$conf")"
	echo 'create_main_cluster = false' | "${sudo[@]}" tee "$conf" >/dev/null
fi
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive $line -o Dpkg::Options::=--force-confold >/dev/null
