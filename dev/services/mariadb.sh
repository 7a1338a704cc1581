#!/bin/bash
# MariaDB from Debian: TLS on, binlog in row format with GTIDs, local_infile. 127.0.0.1:${MARIADB_PORT:-13306}
# user karez/karez (all rights), plain/plain (may only connect), database karez. Client: mariadb.sh sql ARG…
. "$(dirname "$0")/service.bash"; . "$(dirname "$0")/host.bash"
port=${MARIADB_PORT:-13306}
install() { need mariadbd mariadb-server mariadb-client; }
root() { mariadb --no-defaults -S "$dir/run/sock" -u root "$@"; }
launch() {
  user mysql; as mysql "$dir/data" "$dir/run"; certs_for mysql
  [ -d "$dir/data/mysql" ] || "${as[@]}" mariadb-install-db --no-defaults --datadir="$dir/data" --auth-root-authentication-method=normal --skip-test-db >"$dir/install.log" 2>&1
  start mariadbd "${as[@]}" mariadbd --no-defaults --datadir="$dir/data" --socket="$dir/run/sock" --pid-file="$dir/run/pid" --port="$port" --bind-address=127.0.0.1 \
    --log-bin=binlog --binlog-format=ROW --binlog-row-image=FULL --binlog-row-metadata=FULL --expire-logs-days=1 --server-id=1 --gtid-strict-mode=ON --local-infile=ON \
    --max-connections=300 --innodb-buffer-pool-size=256M --character-set-server=utf8mb4 --ssl-ca="$dir/tls/ca.pem" --ssl-cert="$dir/tls/server.pem" --ssl-key="$dir/tls/server.key"
  local i; for i in $(seq 200); do root -e 'select 1' >/dev/null 2>&1 && break; alive "$dir/mariadbd.pid" || break; sleep 0.3; done
  root -e "create database if not exists karez; create user if not exists karez@'127.0.0.1' identified by 'karez'; create user if not exists karez@localhost identified by 'karez';
    grant all on *.* to karez@'127.0.0.1' with grant option; grant all on *.* to karez@localhost with grant option;
    create user if not exists plain@'127.0.0.1' identified by 'plain'; create user if not exists plain@localhost identified by 'plain'"
  await 60
}
client() { mariadb --no-defaults -h 127.0.0.1 -P "$port" -u karez -pkarez --local-infile=1 "$@"; }
ready() { client -e 'select 1' karez; }
info() { echo "MARIADB_URL=mysql://karez:karez@127.0.0.1:$port/karez"; echo "MARIADB_CA=$tls/ca.pem"; }
[ "${1:-}" != sql ] || { shift; client karez "$@"; exit; }
service "$@"
