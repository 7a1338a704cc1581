//! Encryption, and who the server must prove to be.

use std::sync::Arc;

use karez_core::config::{ConfigError, ConfigErrors};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::options::TlsMode;
use super::super::server::settings::Settings;
use crate::key_pair;

/// What makes connections secure, as the settings say; `config` learns whether they must be.
pub(super) fn connector(settings: &Settings, config: &mut Config) -> Result<MakeRustlsConnect, ConfigErrors> {
    let mode = settings.tls_mode();
    config.ssl_mode(match mode {
        TlsMode::Disable => SslMode::Disable,
        TlsMode::Prefer => SslMode::Prefer,
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
    });
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let wrong = |e: rustls::Error| ConfigError::new("tls", e.to_string());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().map_err(wrong)?;
    let verifier: Arc<dyn ServerCertVerifier> = match mode {
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => Arc::new(Anybody(provider)),
        TlsMode::VerifyCa | TlsMode::VerifyFull => {
            let roots = Arc::new(roots(settings)?);
            let verifier =
                WebPkiServerVerifier::builder_with_provider(roots, provider).build().map_err(|e| ConfigError::new("tls.ca", e.to_string()))?;
            if mode == TlsMode::VerifyFull { verifier } else { Arc::new(AnyName(verifier)) }
        }
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let client = match (&settings.tls.cert, &settings.tls.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates("tls.cert", cert)?;
            key_pair::check(("tls.cert", cert), ("tls.key", key))?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|e| ConfigError::new("tls.key", format!("cannot read a key from `{key}`: {e}")))?;
            builder.with_client_auth_cert(chain, key).map_err(|e| ConfigError::new("tls.key", e.to_string()))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(client))
}

fn certificates(option: &str, file: &str) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let wrong = |e: rustls::pki_types::pem::Error| ConfigError::new(option, format!("cannot read certificates from `{file}`: {e}"));
    let found = CertificateDer::pem_file_iter(file).map_err(wrong)?.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    if found.is_empty() {
        return Err(ConfigError::new(option, format!("`{file}` holds no certificate")).hint("it must be a PEM file"));
    }
    Ok(found)
}

/// The authorities that are trusted.
fn roots(settings: &Settings) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    match &settings.tls.ca {
        Some(file) => {
            for certificate in certificates("tls.ca", file)? {
                roots.add(certificate).map_err(|e| ConfigError::new("tls.ca", format!("`{file}`: {e}")))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(ConfigError::new("tls", "this system has no trusted authorities").hint("set `tls: {ca: FILE}`"));
            }
        }
    }
    Ok(roots)
}

/// Takes any certificate: encryption without identity, as `prefer` and `require` ask for.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, m: &[u8], c: &CertificateDer<'_>, d: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(m, c, d, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(&self, m: &[u8], c: &CertificateDer<'_>, d: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(m, c, d, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes a certificate of a trusted authority for whatever name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The name is looked at last, when the chain has been found good.
        match self.0.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(&self, m: &[u8], c: &CertificateDer<'_>, d: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(m, c, d)
    }

    fn verify_tls13_signature(&self, m: &[u8], c: &CertificateDer<'_>, d: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(m, c, d)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
