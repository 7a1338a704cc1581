//! Encryption, and who the server must prove to be.

use super::*;

/// Whether a connection with these options is made, and encrypted; else why not.
async fn connects(more: Value) -> Result<bool, String> {
    let mut config = json!({ "url": service("POSTGRES_URL"), "query": "SELECT ssl::text AS s FROM pg_stat_ssl WHERE pid = pg_backend_pid()" });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let source = try_source(&config, None)?;
    let mut reader = open(source.as_ref(), Value::Null).await;
    let (batches, _, _) = drain(reader.as_mut(), 10).await;
    Ok(column(&batches, "s") == ["true"])
}

#[tokio::test]
async fn the_servers_certificate_is_verified_as_asked() {
    let ca = service("POSTGRES_CA");
    assert_eq!(connects(json!({})).await, Ok(true));
    assert_eq!(connects(json!({ "tls": { "mode": "disable" } })).await, Ok(false));
    assert_eq!(connects(json!({ "tls": { "mode": "require" } })).await, Ok(true));
    assert_eq!(connects(json!({ "tls": { "ca": ca } })).await, Ok(true));
    assert_eq!(connects(json!({ "properties": { "sslmode": "verify-full", "sslrootcert": ca } })).await, Ok(true));
    let unknown = connects(json!({ "tls": { "mode": "verify-full" } })).await.unwrap_err();
    assert!(unknown.contains("UnknownIssuer") && unknown.contains("set `tls: {ca: FILE}`"), "{unknown}");
    // The authority that is named is asked for, as in libpq: the server's certificate is not by the one that signed itself here.
    assert_eq!(connects(json!({ "properties": { "sslmode": "require", "sslrootcert": ca } })).await, Ok(true));
    let stranger = connects(json!({ "properties": { "sslmode": "require", "sslrootcert": service("KAFKA_CLIENT_CERTIFICATE") } })).await.unwrap_err();
    assert!(stranger.contains("UnknownIssuer"), "{stranger}");
    let missing = connects(json!({ "tls": { "ca": "/nowhere.pem" } })).await.unwrap_err();
    assert!(missing.contains("`tls.ca`: cannot read certificates from `/nowhere.pem`"), "{missing}");
    let key = std::path::Path::new(&service("KAFKA_CA")).with_file_name("server.key");
    let another = connects(json!({ "tls": { "cert": service("KAFKA_CLIENT_CERTIFICATE"), "key": key } })).await.unwrap_err();
    assert!(another.contains("is not that of the certificate in") && another.contains("(`tls.cert`)"), "{another}");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_full_looks_at_the_name_and_verify_ca_does_not() {
    let ca = service("POSTGRES_CA");
    // The same server under an address that its certificate does not hold.
    let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
    let (here, there) = (listener.local_addr().unwrap().to_string(), address(&service("POSTGRES_URL")));
    let url = service("POSTGRES_URL").replace(&there, &here);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = tokio::net::TcpStream::connect(&there).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
    let full = connects(json!({ "url": url, "tls": { "mode": "verify-full", "ca": ca } })).await.unwrap_err();
    assert!(full.contains("not valid for name") || full.contains("NotValidForName"), "{full}");
    assert_eq!(connects(json!({ "url": url, "tls": { "mode": "verify-ca", "ca": ca } })).await, Ok(true));
}

/// Host and port of a URL.
pub fn address(url: &str) -> String {
    let rest = url.rsplit_once('@').unwrap().1;
    rest.split(['/', '?']).next().unwrap().to_owned()
}
