//! A registry behind TLS, and behind TLS that asks for the client's certificate.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::*;

/// How long one direction is waited for before the other is looked at.
const TURN: Duration = Duration::from_millis(2);

/// A file of the certificates that the services' script makes.
fn certificate(file: &str) -> PathBuf {
    PathBuf::from(service("KAFKA_CA")).with_file_name(file)
}

/// Opens a port that speaks TLS and passes everything on to the registry, as a gateway does; gives the registry's address behind it.
fn gateway(asks_for_certificate: bool) -> String {
    let chain = |file| CertificateDer::pem_file_iter(certificate(file)).unwrap().map(Result::unwrap);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let config = if asks_for_certificate {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(chain("ca.pem"));
        config.with_client_cert_verifier(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap())
    } else {
        config.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_file(certificate("server.key")).unwrap();
    let config = Arc::new(config.with_single_cert(chain("server.pem").collect(), key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = reqwest::Url::parse(&service("SCHEMA_REGISTRY_URL")).unwrap();
    let behind = url.socket_addrs(|| None).unwrap()[0];
    let address = format!("https://localhost:{}{}", listener.local_addr().unwrap().port(), url.path());
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (tls, registry) = (ServerConnection::new(Arc::clone(&config)).unwrap(), TcpStream::connect(behind).unwrap());
            client.set_read_timeout(Some(TURN)).unwrap();
            registry.set_read_timeout(Some(TURN)).unwrap();
            std::thread::spawn(move || pass(StreamOwned::new(tls, client), registry));
        }
    });
    address
}

/// Carries bytes both ways until one end closes.
fn pass(mut client: impl Read + Write, mut registry: impl Read + Write) {
    let mut piece = [0; 8192];
    let mut carry = |from: &mut dyn Read, to: &mut dyn Write| match from.read(&mut piece) {
        Ok(0) => false,
        Ok(n) => to.write_all(&piece[..n]).and_then(|()| to.flush()).is_ok(),
        Err(e) => matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    };
    while carry(&mut client, &mut registry) && carry(&mut registry, &mut client) {}
}

/// Registers a schema, writes by it, and reads by what another client gets of it.
async fn serves(options: &Value) {
    let (topic, format) = (unique("tls"), format(json!("avro")));
    let mut encoder = encoder(&format);
    reached(options).prepare(encoder.as_mut(), None, &topic, Part::Value).await.unwrap();
    let (read, bad) = decode(&reached(options), decoder(&format).as_mut(), &encode(encoder.as_mut())).await;
    assert_eq!((read.unwrap(), bad), (rows(), Vec::new()));
    reached(options).check().await.unwrap();
}

fn reached(options: &Value) -> SchemaRegistry {
    SchemaRegistry::new(&serde_json::from_value(options.clone()).unwrap()).unwrap()
}

async fn refused(options: &Value) {
    let error = reached(options).check().await.unwrap_err();
    assert!(!error.is_retryable() && error.to_string().to_lowercase().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_registry_behind_tls_is_trusted_by_its_authority_alone() {
    let url = gateway(false);
    serves(&json!({ "url": url, "ca": service("KAFKA_CA") })).await;
    // The system's authorities, and another.
    refused(&json!({ "url": url })).await;
    refused(&json!({ "url": url, "ca": certificate("client.pem") })).await;
}

#[tokio::test]
async fn a_registry_that_asks_for_a_certificate_is_shown_the_jobs() {
    let url = gateway(true);
    let ca = service("KAFKA_CA");
    let mine = json!({ "url": url, "ca": ca, "certificate": service("KAFKA_CLIENT_CERTIFICATE"), "key": service("KAFKA_CLIENT_KEY") });
    serves(&mine).await;
    refused(&json!({ "url": url, "ca": ca })).await;
    let another = json!({ "url": url, "ca": ca, "certificate": service("KAFKA_CLIENT_CERTIFICATE"), "key": certificate("server.key") });
    let error = SchemaRegistry::new(&serde_json::from_value(another).unwrap()).err().unwrap().to_string();
    assert!(error.contains("is not that of the certificate in") && error.contains("(`certificate`)"), "{error}");
}
