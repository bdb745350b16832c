//! Bytes that must not be shown.

use std::fmt;

/// The most bytes that a registry keeps as one secret: room for a key and a chain of certificates.
pub const MAX_SECRET_BYTES: usize = 64 << 10;

/// Opaque secret bytes. `Debug` redacts them, and there is no `Display` and no serialisation.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// A secret of these bytes. A registry refuses an empty one and one above [`MAX_SECRET_BYTES`].
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Secret {
        Secret(bytes.into_boxed_slice())
    }

    /// The bytes, for whoever must use them; never for a log.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)).matches("redacted").count(), 2);
        assert!(!format!("{secret:?} {secret:#?}").contains("hunter2"));
        assert_eq!(secret.expose(), b"hunter2");
    }
}
