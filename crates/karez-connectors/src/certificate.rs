//! Certificates that are not accepted, whatever client says so.

use std::error::Error;

use crate::causes::any_cause;

/// Whether an error comes from a certificate, the server's or the job's, that the other side does not accept: that does not pass by itself.
pub(crate) fn is_of_certificate(error: &(dyn Error + 'static)) -> bool {
    any_cause(error, &|e| matches!(e.downcast_ref(), Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_))))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

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
