#!/usr/bin/env bash
# Certificates for a trial on one machine or in compose: a certificate authority of its own, one certificate a service
# (its common name is the service's name, which is its identity), one for NATS, one for PostgreSQL and one for an
# operator. Not for production: use your own authority there.
#
#   scripts/certs.sh DIR [HOST...]   HOST: further names or addresses they are reached by, besides localhost and 127.0.0.1
set -euo pipefail
dir=${1:?usage: scripts/certs.sh DIR [HOST...]}
shift
days=825
mkdir -p "$dir"
chmod 700 "$dir"
cd "$dir"
umask 077

if [ ! -e ca.key ]; then
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days $days -subj '/CN=tenure trial authority' \
		-addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign,cRLSign' \
		-keyout ca.key -out ca.crt 2>/dev/null
fi

issue() { # name
	[ -e "$1.crt" ] && return
	local names="DNS:$1,DNS:localhost,IP:127.0.0.1,IP:::1"
	for host in "${hosts[@]}"; do
		if [[ $host =~ ^[0-9.]+$ || $host == *:* ]]; then names+=",IP:$host"; else names+=",DNS:$host"; fi
	done
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr" 2>/dev/null
	openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days $days -out "$1.crt" \
		-extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$names") 2>/dev/null
	rm "$1.csr"
}

hosts=("$@")
for name in ingest policy provision audit console viewer nats postgres ada; do issue "$name"; done
echo "certificates in $dir: ca.crt, and one .crt and .key for each of ingest policy provision audit console viewer nats postgres and the operator ada"
