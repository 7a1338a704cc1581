# What a service needs of the host: programs, artifacts from Maven's repositories, another user, test certificates. Sourced after service.bash.

# need COMMAND PACKAGE…: installs Debian packages, without their own services being started
need() {
  if command -v "$1" >/dev/null; then return; fi
  local command=$1; shift
  [ "$(id -u)" = 0 ] || { echo "$name: $command is missing. Install $* (this script does it where it runs as root)" >&2; return 1; }
  command -v apt-get >/dev/null || { echo "$name: $command is missing, and there is no apt to install it with. Install what Debian calls $*" >&2; return 1; }
  ( flock 7; ! command -v "$command" >/dev/null || exit 0
    policy=/usr/sbin/policy-rc.d mine=
    [ -s $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy; mine=$policy; }
    code=0; { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -yq --no-install-recommends "$@"; } >"$dir/apt.log" 2>&1 8>&- 9>&- || code=$?
    [ -z "$mine" ] || rm -f "$mine"
    [ $code = 0 ] || { echo "$name: apt could not install $*:" >&2; tail -5 "$dir/apt.log" >&2; }
    exit $code
  ) 7>"$cache/.lock-apt"
}

java_17() {
  need java openjdk-17-jre-headless; local v; v=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
  [ "${v:-0}" -ge 17 ] || { echo "$name: needs Java 17 or newer, and \`java\` is ${v:-of an unknown version}" >&2; return 1; }
}

maven() { # a second time where it fails: two at once may meet in the repository
  need mvn maven; java_17
  nice mvn -q -B -Dstyle.color=never "$@" >&2 8>&- 9>&- || nice mvn -q -B -Dstyle.color=never "$@" >&2 8>&- 9>&-
}

# artifact GROUP:ARTIFACT:VERSION[:TYPE[:CLASSIFIER]]: fetches the file, alone into a new folder, and prints its path
artifact() { local into; into=$(mktemp -d "$cache/fetch.$name.XXXXXX") && maven dependency:copy -Dartifact="$1" -DoutputDirectory="$into" && echo "$into"/*; }

# jars FOLDER GROUP:ARTIFACT:VERSION…: these and what they need, once; $exclude: extra <exclusion>s for each
jars() {
  local into=$1 part a g deps=; shift; [ ! -d "$into" ] || return 0
  for a in "$@"; do IFS=: read -r g a v <<<"$a"
    deps+="<dependency><groupId>$g</groupId><artifactId>$a</artifactId><version>$v</version>${exclude:+<exclusions>$exclude</exclusions>}</dependency>"; done
  part=$(mktemp -d "$cache/fetch.$name.XXXXXX"); chmod 755 "$part"
  echo "<project><modelVersion>4.0.0</modelVersion><groupId>karez</groupId><artifactId>$name</artifactId><version>1</version><packaging>pom</packaging><dependencies>$deps</dependencies></project>" >"$part/pom.xml"
  maven -f "$part/pom.xml" dependency:copy-dependencies -DoutputDirectory="$part" && mv "$part" "$into"
}

# user NAME: the account that a server runs as which refuses root
user() { id "$1" >/dev/null 2>&1 || [ "$(id -u)" != 0 ] || ( flock 7; id "$1" >/dev/null 2>&1 || useradd -r -M -d /nonexistent -s /usr/sbin/nologin "$1" ) 7>"$cache/.lock-user"; }

# as=(as USER): the prefix for a server that refuses root; empty when we are not root. USER gets the folders given
as() {
  local user=$1; shift; as=(); mkdir -p "$@"
  if [ "$(id -u)" = 0 ]; then chown -R "$user": "$@"; as=(setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups); fi
}

# certs: once in $tls: a test CA (ca.pem), server.{pem,key,p12} for localhost and 127.0.0.1, client.{pem,key,p12} for CN=client, trust.p12.
# PKCS12 password: changeit. certs_for USER: server.pem, server.key and ca.pem copied to $dir/tls, readable by USER only
tls=${KAREZ_SERVICES_TLS:-$services/tls}
certs() { mkdir -p "$tls"; [ -e "$tls/.done" ] || ( flock 7; make_certs ) 7>"$tls/.lock"; }
make_certs() {
  [ ! -e "$tls/.done" ] || return 0
  need openssl openssl; java_17; (
    cd "$tls"
    openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=test CA" -keyout ca.key -out ca.pem
    for who in server:localhost client:client; do f=${who%:*}
      openssl req -newkey rsa:2048 -nodes -subj "/CN=${who#*:}" -keyout $f.key -out $f.csr
      openssl x509 -req -in $f.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -out $f.pem \
        -extfile <(printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n')
      openssl pkcs12 -export -in $f.pem -inkey $f.key -certfile ca.pem -name $f -passout pass:changeit -out $f.p12
    done
    rm -f trust.p12 ./*.csr; keytool -importcert -noprompt -alias ca -file ca.pem -storetype PKCS12 -storepass changeit -keystore trust.p12
    chmod 644 ./*; [ -s trust.p12 ] && [ -s client.p12 ] && [ -s server.p12 ] && touch .done
  ) >"$tls/log" 2>&1 || { tail -5 "$tls/log" >&2; return 1; }
}
certs_for() { certs; mkdir -p "$dir/tls"; cp "$tls"/{server.pem,server.key,ca.pem} "$dir/tls/"; chmod 600 "$dir/tls/server.key"; [ "$(id -u)" != 0 ] || chown -R "$1": "$dir/tls"; }
