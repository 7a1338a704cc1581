#!/bin/bash
# Apicurio Registry, in memory (H2); the Confluent REST API is under /apis/ccompat/v7. 127.0.0.1:${SCHEMA_REGISTRY_PORT:-18081}
. "$(dirname "$0")/service.bash"; . "$(dirname "$0")/host.bash"
port=${SCHEMA_REGISTRY_PORT:-18081} version=3.0.9   # the newest line for Java 17
home=$cache/apicurio-$version
install() {
  need curl curl; java_17
  [ ! -d "$home" ] || return 0
  local archive part; archive=$(artifact io.apicurio:apicurio-registry-app:$version:tar.gz:all); part=$(dirname "$archive")
  tar xzf "$archive" -C "$part"; rm "$archive"; chmod 755 "$part"; mv "$part" "$home"
}
launch() {
  start registry java -Xmx320m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dquarkus.http.host=127.0.0.1 -Dquarkus.http.port="$port" -Dquarkus.management.enabled=false \
    -Dapicurio.ccompat.legacy-id-mode.enabled=false -jar "$home/apicurio-registry-app-$version-runner.jar"
  await 120
}
ready() { curl -fs -m 5 "http://127.0.0.1:$port/apis/ccompat/v7/subjects"; }
info() { echo "SCHEMA_REGISTRY_URL=http://127.0.0.1:$port/apis/ccompat/v7"; }
service "$@"
