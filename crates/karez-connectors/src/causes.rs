//! What led to an error of a client, however deep it lies.

use std::error::Error;
use std::io;
use std::sync::Arc;

/// Whether this holds of an error or of one that led to it.
pub(crate) fn any_cause(error: &(dyn Error + 'static), holds: &dyn Fn(&(dyn Error + 'static)) -> bool) -> bool {
    // What an I/O error wraps is not its source, but that one's source is.
    let wrapped = as_io(error).and_then(io::Error::get_ref);
    holds(error) || wrapped.is_some_and(|e| any_cause(e, holds)) || error.source().is_some_and(|e| any_cause(e, holds))
}

/// An I/O error, shared or not.
pub(crate) fn as_io<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    error.downcast_ref().or_else(|| error.downcast_ref::<Arc<io::Error>>().map(AsRef::as_ref))
}
