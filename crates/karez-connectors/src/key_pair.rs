//! The job's own certificate and its private key, for mutual TLS.

use karez_core::config::ConfigError;
use rustls::InconsistentKeys;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// An option and the PEM file that it names.
pub(crate) type OptionAndFile<'a> = (&'a str, &'a str);

/// Refuses a private key that is not the certificate's: clients name neither file. One that cannot be read is for the client to tell, which reads it as
/// well.
pub(crate) fn check((certificate_option, certificate): OptionAndFile<'_>, (key_option, key): OptionAndFile<'_>) -> Result<(), ConfigError> {
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let (Ok(chain), Ok(private)) = (chain, PrivateKeyDer::from_pem_file(key)) else { return Ok(()) };
    let Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) =
        CertifiedKey::from_der(chain, private, &rustls::crypto::ring::default_provider())
    else {
        return Ok(());
    };
    let wrong = format!("the key in `{key}` is not that of the certificate in `{certificate}` (`{certificate_option}`)");
    Err(ConfigError::new(key_option, wrong).hint("give the files of one certificate and its own key"))
}
