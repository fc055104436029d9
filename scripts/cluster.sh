#!/usr/bin/env bash
# Tenure on this machine as it runs on many, without a container engine: PostgreSQL, three NATS nodes, and two of every
# service as processes of their own, with the configurations of deploy/. Not for production: one machine is one machine.
#
#   scripts/cluster.sh up                build, and start what does not run
#   scripts/cluster.sh status            what runs
#   scripts/cluster.sh build             build again; what is restarted then is the new one
#   scripts/cluster.sh restart NAME...   stop a process, start it, wait until it is ready; one after the other
#   scripts/cluster.sh down              stop everything; what it has stored stays
#   scripts/cluster.sh clean             down, and remove all of it
#
#   TENURE_CLUSTER_DIR    where everything is (default /tmp/tenure-cluster-UID)
#   TENURE_CLUSTER_PORT   the first of 120 loopback ports (default 17800)
#   TENURE_CLUSTER_BUILT  the folder with all programs, where somebody has built them already
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
dir=${TENURE_CLUSTER_DIR:-/tmp/tenure-cluster-$(id -u)}
port=${TENURE_CLUSTER_PORT:-17800}
host=127.0.0.1
patience=60 # seconds, for one process to be ready or to end

declare -A program=([ingest]=hr-ingest [policy]=policy [provision]=connector-worker [audit]=audit-sink [console]=console)
services=(ingest policy provision audit console)
nodes=(nats-1 nats-2 nats-3)
applications=(wiki code warehouse)
replicas=()
for service in "${services[@]}"; do replicas+=("$service-1" "$service-2"); done

# Where who listens.
at() { # service replica (http|grpc|metrics)
	local s r=$2 k=0 n
	for s in "${services[@]}"; do [ "$s" = "$1" ] && break; k=$((k + 1)); done
	case $3 in http) n=0 ;; grpc) n=1 ;; metrics) n=2 ;; esac
	echo "$host:$((port + 40 + 10 * k + 3 * (r - 1) + n))"
}
both() { echo "$(at "$1" 1 grpc),$(at "$1" 2 grpc)"; }
postgres_port=$((port + 30))

# Whom PostgreSQL runs as: root it refuses.
server=()
if [ "$(id -u)" -eq 0 ]; then
	user=postgres
	id postgres >/dev/null 2>&1 || user=nobody
	server=(runuser -u "$user" --)
fi
postgres_bin() { # Debian keeps the server's programs out of the path
	local found
	found=$(compgen -G '/usr/lib/postgresql/*/bin/initdb' | sort -V | tail -1) || found=$(command -v initdb) || {
		echo "PostgreSQL is not installed; scripts/servers.sh installs it" >&2
		return 1
	}
	dirname "$found"
}

running() { [ -e "$dir/run/$1.pid" ] && kill -0 "$(cat "$dir/run/$1.pid")" 2>/dev/null; }

launch() { # name command...
	local name=$1
	shift
	(cd "$dir" && exec setsid "$@" >>"$dir/log/$name.log" 2>&1 </dev/null 9>&-) &
	echo $! >"$dir/run/$name.pid"
}

answers() { # host:port path: does it answer 200?
	(exec 3<>"/dev/tcp/${1%:*}/${1#*:}" && printf 'GET %s HTTP/1.0\r\n\r\n' "$2" >&3 && read -r line <&3 && [[ $line == *" 200 "* ]]) 2>/dev/null
}

await_ready() { # name host:port path
	local end=$((SECONDS + patience))
	until answers "$2" "$3"; do
		running "$1" || { echo "$1 has ended:" && tail -5 "$dir/log/$1.log" && return 1; } >&2
		[ "$SECONDS" -lt "$end" ] || { echo "$1 is not ready after $patience seconds; see $dir/log/$1.log" >&2 && return 1; }
		sleep 0.1
	done
}

start() { # name
	running "$1" && return
	local service=${1%-[123]} replica=${1##*-}
	case $1 in
	nats-*) launch "$1" "$dir/bin/nats-server" -c "$dir/config/$1/cluster.conf" --name "$1" ;;
	wiki | code | warehouse)
		local n=0
		while [ "${applications[$n]}" != "$1" ]; do n=$((n + 1)); done
		launch "$1" "$dir/bin/demo-application" -c "$dir/config/$1.yaml" -address "unix:$dir/run/$1.sock" \
			-journal "$dir/data/$1.journal" -show "$host:$((port + 100 + n))"
		;;
	*) launch "$1" "$dir/bin/${program[$service]}" -c "$dir/config/$service-$replica/tenure.yaml" ;;
	esac
}

ready() { # name
	case $1 in
	nats-*) await_ready "$1" "$host:$((port + 20 + ${1#nats-}))" /healthz ;;
	wiki) await_ready "$1" "$host:$((port + 100))" /accounts ;;
	code) await_ready "$1" "$host:$((port + 101))" /accounts ;;
	warehouse) await_ready "$1" "$host:$((port + 102))" /accounts ;;
	*) await_ready "$1" "$(at "${1%-*}" "${1##*-}" metrics)" /readyz ;;
	esac
}

stop() { # name...: all told at once, then waited for
	local name pid end=$((SECONDS + patience))
	for name in "$@"; do running "$name" && kill "$(cat "$dir/run/$name.pid")"; done
	for name in "$@"; do
		while running "$name"; do
			[ "$SECONDS" -lt "$end" ] || { echo "$name does not end" >&2 && return 1; }
			sleep 0.05
		done
		rm -f "$dir/run/$name.pid"
	done
}

build() {
	if [ -n "${TENURE_CLUSTER_BUILT:-}" ]; then
		ln -sf "$TENURE_CLUSTER_BUILT"/* "$dir/bin/"
		return
	fi
	(cd "$root/services" && go build -o "$dir/bin/" ./cmd/... github.com/nats-io/nats-server/v2) # NATS: at the version of services/go.mod
}

# configure writes the configurations of deploy/ with this machine's places and addresses.
configure() {
	local service replica name n places=(-e "s#/etc/tenure/certs#$dir/certs#g" -e "s#\.\./\.\./certs#$dir/certs#g" -e "s#\.\./\.\./secrets#$dir/secrets#g")
	local urls routes
	urls=$(for n in 1 2 3; do echo "tls://$host:$((port + n))"; done | paste -sd,)
	routes=$(for n in 1 2 3; do echo "\"tls://$host:$((port + 10 + n))\""; done | paste -sd,)
	for n in 1 2 3; do
		mkdir -p "$dir/config/nats-$n"
		sed -e "s#/etc/nats/certs#$dir/certs#" -e "s#0\.0\.0\.0:4222#$host:$((port + n))#" -e "s#127\.0\.0\.1:8222#$host:$((port + 20 + n))#" \
			-e "s#\"/data\"#\"$dir/data/nats-$n\"#" "$root/deploy/nats/nats.conf" >"$dir/config/nats-$n/nats.conf"
		sed -e "s#/etc/nats/certs#$dir/certs#" -e "s#0\.0\.0\.0:6222#$host:$((port + 10 + n))#" -e "s#routes: .*#routes: [$routes]#" \
			"$root/deploy/nats/cluster.conf" >"$dir/config/nats-$n/cluster.conf"
	done
	for service in "${services[@]}"; do places+=(-e "s# $service:8081# $(both "$service")#"); done
	for service in "${services[@]}"; do
		for replica in 1 2; do
			mkdir -p "$dir/config/$service-$replica"
			sed "${places[@]}" -e "s#tls://nats:4222#$urls#" -e "/max_bytes:/a\\  replicas: 3" -e "s#@postgres:5432#@$host:$postgres_port#" \
				-e "s#0\.0\.0\.0:8080#$(at "$service" $replica http)#" -e "s#0\.0\.0\.0:8081#$(at "$service" $replica grpc)#" \
				-e "s#0\.0\.0\.0:8082#$(at "$service" $replica metrics)#" -e "s#/var/lib/tenure#$dir/data/$service#" \
				"$root/deploy/config/cluster/$service.yaml" | remote_applications >"$dir/config/$service-$replica/tenure.yaml"
		done
	done
	for name in "${applications[@]}"; do application_config "$name" <"$root/deploy/config/cluster/provision.yaml" >"$dir/config/$name.yaml"; done
}

# remote_applications: a demo application lives in one process, so two workers reach it in a process of its own.
remote_applications() {
	awk -v run="$dir/run" '
		/^  - name: / { name = $3 }
		/^    connector: demo$/ { print "    connector: remote"; print "    address: unix:" run "/" name ".sock"; next }
		/^    config:/ { inside = 1; next }
		inside && /^      / { next }
		{ inside = 0; print }'
}

# application_config is what stands below config: of one application.
application_config() {
	awk -v wanted="$1" '
		/^  - name: / { name = $3 }
		name == wanted && /^    config:/ { inside = 1; sub(/^    config: */, ""); if ($0 != "") print; next }
		inside && /^      / { print; next }
		{ inside = 0 }'
}

postgres_up() {
	local bin data=$dir/postgres/data name
	bin=$(postgres_bin)
	if [ ! -e "$data/PG_VERSION" ]; then
		mkdir -p "$dir/postgres"
		cp "$root"/deploy/postgres/* "$dir/certs/postgres.crt" "$dir/certs/postgres.key" "$dir/certs/ca.crt" "$dir/postgres"
		[ "${#server[@]}" -eq 0 ] || chown -R "${server[2]}" "$dir/postgres"
		(cd "$dir/postgres" && "${server[@]}" "$bin/initdb" -D "$data" -U postgres -A trust --data-checksums -E UTF8 --locale=C >/dev/null)
	fi
	(cd "$dir/postgres" && "${server[@]}" "$bin/pg_ctl" -D "$data" status >/dev/null) && return
	local settings="-c port=$postgres_port -c listen_addresses=$host -c unix_socket_directories=$dir/postgres -c ssl=on"
	settings+=" -c ssl_cert_file=$dir/postgres/postgres.crt -c ssl_key_file=$dir/postgres/postgres.key -c ssl_ca_file=$dir/postgres/ca.crt"
	settings+=" -c hba_file=$dir/postgres/pg_hba.conf -c ident_file=$dir/postgres/pg_ident.conf -c max_connections=400"
	(cd "$dir/postgres" && "${server[@]}" "$bin/pg_ctl" -D "$data" -l "$dir/postgres/log" -w -o "$settings" start >/dev/null 9>&-)
	local psql=("${server[@]}" "$bin/psql" -h "$dir/postgres" -p "$postgres_port" -U postgres -v ON_ERROR_STOP=1 -q)
	if [ -z "$(cd "$dir/postgres" && "${psql[@]}" -Atc "SELECT 1 FROM pg_database WHERE datname = 'tenure'")" ]; then
		(cd "$dir/postgres" && "${psql[@]}" -f "$dir/postgres/init.sql")
	fi
}

postgres_down() {
	[ -e "$dir/postgres/data/postmaster.pid" ] || return 0
	(cd "$dir/postgres" && "${server[@]}" "$(postgres_bin)/pg_ctl" -D "$dir/postgres/data" -m fast -w stop >/dev/null)
}

up() {
	local name
	mkdir -p "$dir"
	chmod 711 "$dir" # PostgreSQL's user passes through; everything else is the owner's alone
	exec 9>"$dir/lock"
	flock -n 9 || { echo "another cluster.sh is at work in $dir" >&2 && exit 1; }
	umask 077
	mkdir -p "$dir"/{bin,config,data,log,run,secrets}
	trap 'echo "starting failed; stopping what was started" >&2; down' ERR
	build
	"$root/scripts/certs.sh" "$dir/certs" >/dev/null
	[ -e "$dir/secrets/acme-hr" ] || echo "whsec_$(openssl rand -base64 32)" >"$dir/secrets/acme-hr"
	configure
	postgres_up
	for name in "${nodes[@]}" "${applications[@]}"; do start "$name"; done
	for name in "${nodes[@]}" "${applications[@]}"; do ready "$name"; done
	for name in "${replicas[@]}"; do start "$name"; done # in any order: they wait for each other
	for name in "${replicas[@]}"; do ready "$name"; done
	trap - ERR
	status
	cat <<-END

		Webhooks of acme-hr: https://$(at ingest 1 http)/v1/webhooks/acme-hr, and $(at ingest 2 http); secret: $dir/secrets/acme-hr
		Logs: $dir/log. Try, as the operator ada:

		  export TENURE_SERVER=$(at console 1 grpc) TENURE_CA_FILE=$dir/certs/ca.crt TENURE_CERT_FILE=$dir/certs/ada.crt TENURE_KEY_FILE=$dir/certs/ada.key
		  $dir/bin/tenure model apply $root/deploy/config/model && $dir/bin/tenure apps list
		  scripts/cluster.sh restart policy-1
	END
}

down() {
	[ -d "$dir/run" ] || return 0
	stop "${replicas[@]}"
	stop "${applications[@]}"
	stop "${nodes[@]}"
	postgres_down
}

status() {
	local name where
	for name in postgres "${nodes[@]}" "${applications[@]}" "${replicas[@]}"; do
		case $name in
		postgres) where=$host:$postgres_port ;;
		nats-*) where=$host:$((port + ${name#nats-})) ;;
		wiki) where=http://$host:$((port + 100))/accounts ;;
		code) where=http://$host:$((port + 101))/accounts ;;
		warehouse) where=http://$host:$((port + 102))/accounts ;;
		*) where="grpc $(at "${name%-*}" "${name##*-}" grpc), probes and figures $(at "${name%-*}" "${name##*-}" metrics)" ;;
		esac
		if [ "$name" = postgres ] && [ -e "$dir/postgres/data/postmaster.pid" ] || running "$name"; then
			printf '%-12s runs at %s\n' "$name" "$where"
		else
			printf '%-12s does not run\n' "$name"
		fi
	done
}

known() { # name
	local name
	for name in "${nodes[@]}" "${applications[@]}" "${replicas[@]}"; do [ "$name" = "$1" ] && return; done
	echo "there is no $1; see scripts/cluster.sh status" >&2
	return 1
}

case ${1:-} in
up) up ;;
build) build ;;
down) down ;;
status) status ;;
restart)
	shift
	for name in "$@"; do
		known "$name"
		stop "$name"
		start "$name"
		ready "$name"
	done
	;;
clean)
	down
	rm -rf "$dir"
	;;
*)
	sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
	exit 2
	;;
esac
