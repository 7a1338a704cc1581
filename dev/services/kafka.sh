#!/bin/bash
# Apache Kafka in KRaft mode. Profiles (KAFKA_PROFILE), each with its own data and ports, counted from a first one (KAFKA_PORT):
#   plain    one broker, PLAINTEXT 127.0.0.1:9092 (controller 9093)
#   secure   one broker with ACLs: SASL_PLAINTEXT :9192, SASL_SSL :9193 (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512), mutual TLS :9194 (controller 9195);
#            users admin/admin-secret (super), alice/alice-secret (no rights until an ACL gives some); ready files for Java clients in $dir/clients
#   cluster  three brokers, PLAINTEXT :9292 :9294 :9296 (controllers one above), replication 3, min.insync.replicas 2
# Besides up|down|status|wipe:  crash [NODE]: kill -9, `up` starts it again on its data
#   tool CLASS ARG…: a Java tool, as `kafka.sh tool TopicCommand --bootstrap-server 127.0.0.1:9092 --list`
# KAFKA_EXTRA: lines added to server.properties at up. KAFKA_HEAP: JVM heap options.
# KAFKA_TRANSACTION_VERSION: transaction.version of a broker formatted now (1 or 2; the release's default is 2).
. "$(dirname "$0")/service.bash"; . "$(dirname "$0")/host.bash"
version=${KAFKA_VERSION:-4.3.1} log4j=org.apache.logging.log4j:log4j-slf4j-impl:2.25.4
broker=$cache/kafka-$version tools=$cache/kafka-tools-$version
profile=${KAFKA_PROFILE:-plain} top=$dir; dir=$top/$profile; mkdir -p "$dir"
nodes=1; [ "$profile" != cluster ] || nodes="1 2 3"
# A broker that is measured is compiled whole; the others start sooner without.
jvm=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xms128m -Xmx384m)
case $profile in plain) base=9092 jvm=(-Xms256m -Xmx512m);; secure) base=9192;; cluster) base=9292;; *) echo "KAFKA_PROFILE: plain, secure or cluster" >&2; exit 2;; esac
base=${KAFKA_PORT:-$base}

install() {
  need ps procps; java_17
  exclude='<exclusion><groupId>org.apache.kafka</groupId><artifactId>kafka-tools-api</artifactId></exclusion>' jars "$broker" org.apache.kafka:kafka_2.13:"$version" $log4j
}

logging() { printf '%s\n' appender.out.type=Console appender.out.name=out appender.out.target=SYSTEM_ERR \
  appender.out.layout.type=PatternLayout "appender.out.layout.pattern=[%d] %p %m (%c{1})%n" "rootLogger=$1,out"; }

launch() {
  local n
  logging INFO >"$dir/broker.properties"; logging ERROR >"$dir/tool.properties"
  if [ "$profile" = secure ]; then certs; clients; fi
  for n in $nodes; do node "$n" & done; wait
  await 120
}

node() { # NODE: formats its folder if that is new, and starts it
  local n=$1 d=$dir/$1 format=() u m; alive "$dir/$n.pid" && return; mkdir -p "$d"
  properties "$n" >"$d/server.properties"
  if [ "$profile" = secure ]; then secure >>"$d/server.properties"
    for u in admin alice; do for m in 256 512; do format+=(--add-scram "SCRAM-SHA-$m=[name=$u,password=$u-secret]"); done; done; fi
  [ -z "${KAFKA_TRANSACTION_VERSION:-}" ] || format+=(--feature "transaction.version=$KAFKA_TRANSACTION_VERSION")
  [ -e "$d/data/meta.properties" ] || java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmx128m -cp "$broker/*" -Dlog4j2.configurationFile="$dir/tool.properties" kafka.tools.StorageTool format \
    -t a2FyZXotdGVzdC1jbHVzdA -c "$d/server.properties" "${format[@]}" >"$d/format.log" 2>&1 8>&- 9>&- || { echo "kafka: the folder of node $n could not be formatted:" >&2; tail -5 "$d/format.log" >&2; return 1; }
  start "$n" java "${jvm[@]}" ${KAFKA_HEAP:-} -Djava.awt.headless=true -Dlog4j2.configurationFile="$dir/broker.properties" -cp "$broker/*" kafka.Kafka "$d/server.properties"
}

# every broker has logged that it is started (logged once it is unfenced) and listens
ready() { local n; for n in $nodes; do alive "$dir/$n.pid" && grep -q "Kafka Server started" "$dir/$n.log" && (: <"/dev/tcp/127.0.0.1/$(port "$n")") || return 1; done; }

port() { echo $((base + 2 * ($1 - 1))); }   # of a node
controller() { if [ "$profile" = secure ]; then echo $((base + 3)); else echo $(($(port "$1") + 1)); fi; }
info() {
  case $profile in
    plain) echo "KAFKA_BOOTSTRAP=127.0.0.1:$base";;
    cluster) echo "KAFKA_CLUSTER=$(for n in $nodes; do echo "127.0.0.1:$(port "$n")"; done | paste -sd,)";;
    secure) printf '%s\n' KAFKA_SASL=127.0.0.1:$base KAFKA_SASL_SSL=127.0.0.1:$((base + 1)) KAFKA_MTLS=127.0.0.1:$((base + 2)) "KAFKA_CLIENTS=$dir/clients" "KAFKA_CA=$tls/ca.pem" \
      "KAFKA_CLIENT_CERTIFICATE=$tls/client.pem" "KAFKA_CLIENT_KEY=$tls/client.key";;
  esac
}

properties() { # NODE
  local n replicas=1 isr=1 voters= listeners=PLAINTEXT://127.0.0.1:$(port "$1") inter=PLAINTEXT
  [ "$profile" != cluster ] || { replicas=3; isr=2; }
  [ "$profile" != secure ] || { inter=SASL_PLAINTEXT; listeners=SASL_PLAINTEXT://127.0.0.1:$base,SASL_SSL://127.0.0.1:$((base + 1)),SSL://127.0.0.1:$((base + 2)); }
  for n in $nodes; do voters+=,$n@127.0.0.1:$(controller "$n"); done
  cat <<P
process.roles=broker,controller
node.id=$1
controller.quorum.voters=${voters#,}
controller.listener.names=CONTROLLER
listeners=$listeners,CONTROLLER://127.0.0.1:$(controller "$1")
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
inter.broker.listener.name=$inter
log.dirs=$dir/$1/data
num.partitions=4
default.replication.factor=$replicas
min.insync.replicas=$isr
offsets.topic.replication.factor=$replicas
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$isr
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=$replicas
share.coordinator.state.topic.min.isr=$isr
share.coordinator.state.topic.num.partitions=8
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
log.index.size.max.bytes=1048576
broker.heartbeat.interval.ms=1000
broker.session.timeout.ms=$([ $replicas = 1 ] && echo 3000 || echo 9000)
${KAFKA_EXTRA:-}
P
}

secure() {
  local l m plain=org.apache.kafka.common.security.plain.PlainLoginModule scram=org.apache.kafka.common.security.scram.ScramLoginModule
  cat <<P
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
# ANONYMOUS is the controller's plaintext listener
super.users=User:admin;User:CN=client;User:ANONYMOUS
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=PLAIN
ssl.keystore.type=PKCS12
ssl.keystore.location=$tls/server.p12
ssl.keystore.password=changeit
ssl.truststore.type=PKCS12
ssl.truststore.location=$tls/trust.p12
ssl.truststore.password=changeit
listener.name.ssl.ssl.client.auth=required
P
  for l in sasl_plaintext sasl_ssl; do
    echo "listener.name.$l.plain.sasl.jaas.config=$plain required username=\"admin\" password=\"admin-secret\" user_admin=\"admin-secret\" user_alice=\"alice-secret\";"
    for m in 256 512; do echo "listener.name.$l.scram-sha-$m.sasl.jaas.config=$scram required;"; done
  done
}

# files for Java clients: {admin,alice}-{sasl_plaintext,sasl_ssl}-{plain,scram-sha-256,scram-sha-512}.properties, mtls.properties
clients() {
  local u p m trust="ssl.truststore.type=PKCS12 ssl.truststore.location=$tls/trust.p12 ssl.truststore.password=changeit"
  mkdir -p "$dir/clients"
  printf '%s\n' security.protocol=SSL $trust ssl.keystore.type=PKCS12 "ssl.keystore.location=$tls/client.p12" ssl.keystore.password=changeit >"$dir/clients/mtls.properties"
  for u in admin alice; do for p in SASL_PLAINTEXT SASL_SSL; do for m in PLAIN SCRAM-SHA-256 SCRAM-SHA-512; do
    { printf '%s\n' security.protocol=$p sasl.mechanism=$m; [ $p = SASL_PLAINTEXT ] || printf '%s\n' $trust
      echo "sasl.jaas.config=org.apache.kafka.common.security.$([ $m = PLAIN ] && echo plain.Plain || echo scram.Scram)LoginModule required username=\"$u\" password=\"$u-secret\";"
    } >"$dir/clients/$(echo "$u-$p-$m" | tr A-Z a-z).properties"; done; done; done
}

# all at once: the last of a quorum can't be shut down in order
stop() {
  local f i pid; for f in "$dir"/*.pid; do if alive "$f"; then read -r pid _ <"$f"; kill "$pid"; fi; done
  for i in $(seq 50); do running || break; sleep 0.2; done; crash
}

lock() { exec 9>"$dir/.lock"; flock 9; }
case ${1:-} in
  up) lock; ready >/dev/null 2>&1 || { locked install; launch; }; info;;   # only the brokers that are not there
  crash) if [ $# -gt 1 ]; then lock; if alive "$dir/$2.pid"; then read -r pid _ <"$dir/$2.pid"; kill -9 "$pid"; while alive "$dir/$2.pid"; do sleep 0.05; done; fi; rm -f "$dir/$2.pid"; else service crash; fi;;
  tool) class=$2; shift 2; case $class in *.*) ;; *) class=org.apache.kafka.tools.$class;; esac
    [ "$class" != org.apache.kafka.tools.ConsoleConsumer ] || class=org.apache.kafka.tools.consumer.ConsoleConsumer
    # the tools come apart: they need clients of their own version
    [ -d "$tools" ] || locked jars "$tools" org.apache.kafka:kafka-tools:"$version" $log4j
    logging ERROR >"$dir/tool.properties"
    exec java -Xmx256m -Dlog4j2.configurationFile="$dir/tool.properties" -cp "$tools/*" "$class" "$@";;
  *) service "$@";;
esac
