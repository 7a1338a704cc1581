//! Certificates that are not accepted, whatever client says so.

use std::error::Error;
use std::io;
use std::sync::Arc;

/// Whether an error comes from a certificate, the server's or the job's, that the other side does not accept: that does not pass by itself.
pub(crate) fn is_of_certificate(error: &(dyn Error + 'static)) -> bool {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return matches!(tls, rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_));
    }
    // What an I/O error wraps is not its source, but that one's source is.
    let io = error.downcast_ref::<io::Error>().or_else(|| error.downcast_ref::<Arc<io::Error>>().map(AsRef::as_ref));
    let wrapped = io.and_then(io::Error::get_ref);
    wrapped.is_some_and(|wrapped| is_of_certificate(wrapped)) || error.source().is_some_and(is_of_certificate)
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, CertificateError};

    use super::*;

    #[test]
    fn however_deep_it_lies_it_is_found_and_other_errors_are_not_taken_for_it() {
        let refused = || rustls::Error::AlertReceived(AlertDescription::BadCertificate);
        assert!(is_of_certificate(&io::Error::other(io::Error::other(refused()))));
        assert!(is_of_certificate(&krafka::KrafkaError::Network(Arc::new(io::Error::other(refused())))));
        assert!(is_of_certificate(&io::Error::other(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))));
        assert!(!is_of_certificate(&io::Error::other(rustls::Error::HandshakeNotComplete)));
        assert!(!is_of_certificate(&io::Error::other("connection refused")));
    }
}
