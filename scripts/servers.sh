#!/usr/bin/env bash
# The servers that the tests talk to. Without arguments: install what is missing, where that is possible without
# asking (Debian or Ubuntu, as root or with password-less sudo). With --missing: say what was not tested for want
# of a server, and how to get it.
set -euo pipefail

packages=()
have_postgres() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null; }
have_postgres || packages+=(postgresql)
command -v openssl >/dev/null || packages+=(openssl)
[ -x /usr/sbin/slapd ] || command -v slapd >/dev/null || packages+=(slapd)
command -v ldapsearch >/dev/null || packages+=(ldap-utils)
command -v psql >/dev/null || packages+=(postgresql-client)
command -v curl >/dev/null || packages+=(curl)
command -v strace >/dev/null || packages+=(strace)
command -v ip >/dev/null || [ -x /usr/sbin/ip ] || packages+=(iproute2)
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)

# The SCIM application that the tests talk to comes from npm, at the versions of its lock file.
scim=services/connectors/scim/testdata/scimmy
scim_modules() {
	cd "$(dirname "$0")/../$scim"
	if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
		echo "installing: the packages of $scim"
		npm ci --silent --no-audit --no-fund --ignore-scripts
		touch node_modules/.package-lock.json
	fi
}
if [ "${#packages[@]}" -eq 0 ]; then
	[ "${1:-}" = --missing ] || scim_modules
	exit 0
fi

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
# Nor should the packages' own services start.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
	"${sudo[@]}" chmod 755 "$policy"
	trap '"${sudo[@]}" rm -f "$policy"' EXIT
fi
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive $line -o Dpkg::Options::=--force-confold >/dev/null
scim_modules
