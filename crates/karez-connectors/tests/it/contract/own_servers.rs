//! Servers that are killed in the middle, and a broker behind a network that fails: each its test's own.

use std::sync::{Arc, Mutex};

use karez_testkit::{OwnServer, Proxy, Server};

use super::Remote;
use super::ends::{Kafka, Mariadb, Mysql, Postgres};
use super::network::{self, written_through_outages};

/// Rows are written and committed while the server, killed with -9 before, comes up again, three times.
async fn written_through_crashes<E: Remote>(server: Server) {
    let own = Arc::new(Mutex::new(tokio::task::spawn_blocking(move || OwnServer::start(server)).await.unwrap().unwrap()));
    let address = own.lock().unwrap().address().to_owned();
    let end = E::at(&address).await;
    written_through_outages(&end, &end.sink(), || {
        let own = Arc::clone(&own);
        own.lock().unwrap().crash().unwrap();
        tokio::task::spawn_blocking(move || own.lock().unwrap().up().unwrap())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_server_rows_written_to_postgres_through_crashes_arrive_once() {
    written_through_crashes::<Postgres>(Server::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_server_rows_written_to_mysql_through_crashes_arrive_once() {
    written_through_crashes::<Mysql>(Server::Mysql).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_server_rows_written_to_mariadb_through_crashes_arrive_once() {
    written_through_crashes::<Mariadb>(Server::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_server_rows_written_to_kafka_through_crashes_arrive_once() {
    written_through_crashes::<Kafka>(Server::Kafka).await;
}

/// A broker sends its clients to the address that it advertises, so it must know of the network: all cases share one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_server_kafka_keeps_its_promises_over_a_network_that_fails() {
    let port = OwnServer::free_port(Server::Kafka).unwrap();
    let proxy = Arc::new(Proxy::to(("127.0.0.1", port)));
    let extra = format!("advertised.listeners=PLAINTEXT://{}", proxy.address());
    let _broker = tokio::task::spawn_blocking(move || OwnServer::start_at(Server::Kafka, port, &[("KAFKA_EXTRA", &extra)])).await.unwrap().unwrap();
    network::written(&Kafka::behind(&proxy)).await;
    network::read(&Kafka::behind(&proxy)).await;
    network::lost_answers(&Kafka::behind(&proxy)).await;
    network::slow(&Kafka::behind(&proxy)).await;
    proxy.back();
}
