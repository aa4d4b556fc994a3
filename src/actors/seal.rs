//! Sealing of small secrets at rest: AES-256-GCM with a random nonce before the ciphertext.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

/// A key for at most 2^32 seals (random nonces). Has no `Debug`.
pub(super) struct SealingKey(RandomizedNonceKey);

impl SealingKey {
    pub fn new(key: [u8; 32]) -> Self {
        Self(RandomizedNonceKey::new(&AES_256_GCM, &key).expect("AES-256 takes 32 bytes"))
    }

    /// `context` is not kept, but must be the same to open.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut body = plain.to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(context), &mut body)
            .expect("far below the 64 GiB that one seal takes");
        [nonce.as_ref().as_slice(), &body].concat()
    }

    /// `None` unless sealed by this key for this context and unchanged since.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.0.open_in_place(nonce, Aad::from(context), &mut body).ok()?.len();
        body.truncate(length);
        Some(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_what_it_sealed_for_the_same_context() {
        let key = SealingKey::new([7; 32]);
        let sealed = key.seal(b"here", b"a secret");
        assert_eq!(key.open(b"here", &sealed).as_deref(), Some(b"a secret".as_slice()));
        assert_eq!(key.open(b"there", &sealed), None);
        assert_eq!(SealingKey::new([8; 32]).open(b"here", &sealed), None);
        assert_eq!(key.open(b"here", &sealed[..5]), None);
        let mut changed = sealed.clone();
        changed[NONCE_LEN] ^= 1;
        assert_eq!(key.open(b"here", &changed), None);
        assert_ne!(key.seal(b"here", b"a secret"), sealed, "never the same nonce");
        assert!(!sealed.windows(8).any(|window| window == b"a secret"));
    }
}
