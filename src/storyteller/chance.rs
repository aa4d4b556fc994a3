//! Repeatable chance: every decision of the engine is a hash of what led to it. No state, no clock, no generator to
//! carry along; the same names give the same numbers on every replica and in every build.

/// A point in the tree of decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    pub const fn new(seed: u64) -> Self {
        Self(scramble(seed ^ 0x9e37_79b9_7f4a_7c15))
    }

    pub fn with(self, name: &str) -> Self {
        // FNV-1a over the name, then scrambled with what came before.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(scramble(self.0.rotate_left(17) ^ hash))
    }

    pub const fn at(self, number: u64) -> Self {
        Self(scramble(self.0.rotate_left(29) ^ scramble(number.wrapping_add(1))))
    }

    /// An index below `n`; 0 when `n` is 0.
    pub const fn below(self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.0 % n as u64) as usize }
    }
}

/// The finaliser of SplitMix64.
const fn scramble(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_paths_give_equal_numbers_and_order_matters() {
        let key = Key::new(7);
        assert_eq!(key.with("a").at(3), Key::new(7).with("a").at(3));
        assert_ne!(key.with("a").with("b"), key.with("b").with("a"));
        assert_ne!(key.at(0), key.at(1));
    }

    #[test]
    fn numbers_spread_evenly_enough() {
        let mut hits = [0_u32; 7];
        for number in 0..7_000 {
            hits[Key::new(1).at(number).below(7)] += 1;
        }
        assert!(hits.iter().all(|hit| (850..1150).contains(hit)), "{hits:?}");
    }
}
