#!/bin/bash
# PostgreSQL 18: TLS on, SCRAM passwords, logical decoding. 127.0.0.1:${POSTGRES_PORT:-15432}
# superuser karez/karez, database karez; user plain/plain without rights to create. Client: postgres.sh psql ARG…
# POSTGRES_EXTRA: lines added to postgresql.conf when its data is made.
. "$(dirname "$0")/service.bash"; . "$(dirname "$0")/host.bash"
port=${POSTGRES_PORT:-15432} version=18.6.0 home=$cache/postgres-$version bin=$cache/postgres-$version/bin
install() {
  need psql postgresql-client; need python3 python3; need xz xz-utils
  [ -d "$home" ] || { local arch=amd64 jar part; [ "$(uname -m)" != aarch64 ] || arch=arm64v8
    jar=$(artifact io.zonky.test.postgres:embedded-postgres-binaries-linux-$arch:$version); part=$(dirname "$jar")
    python3 -c "import zipfile,sys; z=zipfile.ZipFile(sys.argv[1]); n=[x for x in z.namelist() if x.endswith('.txz')][0]; open(sys.argv[2],'wb').write(z.read(n))" "$jar" "$part/pg.txz"
    rm "$jar"; tar xJf "$part/pg.txz" -C "$part"; rm "$part/pg.txz"; chmod 755 "$part"; mv "$part" "$home"; }
}
launch() {
  local data=$dir/data-maven
  user kzpg; as kzpg "$data" "$dir/sock"; certs_for kzpg
  if [ ! -f "$data/PG_VERSION" ]; then
    echo karez >"$dir/pw"; chmod 644 "$dir/pw"
    "${as[@]}" "$bin/initdb" --no-sync -D "$data" -U karez --pwfile="$dir/pw" -A scram-sha-256 -E UTF8 --locale=C >"$dir/initdb.log"
    cat >>"$data/postgresql.conf" <<C
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
max_connections = 200
max_prepared_transactions = 50
max_wal_size = 512MB
ssl = on
ssl_cert_file = '$dir/tls/server.pem'
ssl_key_file = '$dir/tls/server.key'
ssl_ca_file = '$dir/tls/ca.pem'
${POSTGRES_EXTRA:-}
C
    echo "host replication all 127.0.0.1/32 scram-sha-256" >>"$data/pg_hba.conf"
  fi
  start postgres "${as[@]}" "$bin/postgres" -D "$data" -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories="$dir/sock"
  await 60
  sql -d postgres -c "create database karez" 2>/dev/null || true
  sql -d karez -c "create role plain login password 'plain'" 2>/dev/null || true
}
sql() { PGPASSWORD=karez psql -qX -h 127.0.0.1 -p "$port" -U karez "$@"; }
ready() { sql -d postgres -c 'select 1'; }
info() { echo "POSTGRES_URL=postgres://karez:karez@127.0.0.1:$port/karez"; echo "POSTGRES_CA=$tls/ca.pem"; }
stop() {   # SIGINT: a fast shutdown; SIGTERM waits for every client
  local f=$dir/postgres.pid pid i; if alive "$f"; then read -r pid _ <"$f"; kill -INT "$pid"; for i in $(seq 100); do alive "$f" || break; sleep 0.1; done; crash; fi; rm -f "$f"
}
[ "${1:-}" != psql ] || { shift; sql -d karez "$@"; exit; }
service "$@"
