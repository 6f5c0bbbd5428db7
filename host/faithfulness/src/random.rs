//! CPython's generator, seeded with a text: the published masks and this project's random choices come from it.

use sha2::{Digest, Sha512};

const N: usize = 624;
const M: usize = 397;

/// MT19937 as `random.Random(text)` sets it up.
#[derive(Debug, Clone)]
pub struct Random {
    state: [u32; N],
    next: usize,
}

impl Random {
    /// Bytes of the text, then their SHA-512, are one big number that seeds the generator.
    pub fn seeded(text: &str) -> Random {
        let mut bytes = text.as_bytes().to_vec();
        bytes.extend_from_slice(&Sha512::digest(text.as_bytes()));
        let mut key: Vec<u32> = bytes
            .rchunks(4)
            .map(|chunk| chunk.iter().fold(0, |limb, byte| (limb << 8) | u32::from(*byte)))
            .collect();
        while key.len() > 1 && key.last() == Some(&0) {
            key.pop();
        }
        Random::from_key(&key)
    }

    fn from_key(key: &[u32]) -> Random {
        let mut state = [0_u32; N];
        state[0] = 19_650_218;
        for index in 1..N {
            let last = state[index - 1];
            state[index] = (last ^ (last >> 30))
                .wrapping_mul(1_812_433_253)
                .wrapping_add(index as u32);
        }
        let (mut i, mut j) = (1, 0);
        for _ in 0..N.max(key.len()) {
            let last = state[i - 1];
            state[i] = (state[i] ^ (last ^ (last >> 30)).wrapping_mul(1_664_525))
                .wrapping_add(key[j])
                .wrapping_add(j as u32);
            i += 1;
            j = (j + 1) % key.len();
            if i >= N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        for _ in 0..N - 1 {
            let last = state[i - 1];
            state[i] = (state[i] ^ (last ^ (last >> 30)).wrapping_mul(1_566_083_941)).wrapping_sub(i as u32);
            i += 1;
            if i >= N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        state[0] = 0x8000_0000;
        Random { state, next: N }
    }

    /// The next 32 bits.
    pub fn word(&mut self) -> u32 {
        if self.next == N {
            for index in 0..N {
                let bits = (self.state[index] & 0x8000_0000) | (self.state[(index + 1) % N] & 0x7fff_ffff);
                let twist = if bits & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[index] = self.state[(index + M) % N] ^ (bits >> 1) ^ twist;
            }
            self.next = 0;
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// Between 0 and 1, with 53 bits.
    pub fn unit(&mut self) -> f64 {
        let (high, low) = (self.word() >> 5, self.word() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// Below `n`; 0 for an `n` of 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        let bits = 64 - n.leading_zeros();
        loop {
            let drawn = self.bits(bits);
            if drawn < n {
                return drawn;
            }
        }
    }

    fn bits(&mut self, count: u32) -> u64 {
        match count {
            0 => 0,
            1..=32 => u64::from(self.word() >> (32 - count)),
            _ => {
                let low = u64::from(self.word());
                low | (u64::from(self.word() >> (64 - count)) << 32)
            }
        }
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// `count` different numbers below `n`, in the order they are drawn. `count` is at most `n`.
    pub fn sample(&mut self, n: u64, count: u64) -> Vec<u64> {
        let count = count.min(n);
        let mut pool_limit = 21_u64;
        if count > 5 {
            // 4 to the power of log4(3 · count), rounded up.
            let mut power = 1;
            while power < 3 * count {
                power *= 4;
            }
            pool_limit += power;
        }
        if n <= pool_limit {
            let mut pool: Vec<u64> = (0..n).collect();
            (0..count)
                .map(|index| {
                    let at = self.below(n - index) as usize;
                    let drawn = pool[at];
                    pool[at] = pool[(n - index - 1) as usize];
                    drawn
                })
                .collect()
        } else {
            let mut seen = std::collections::HashSet::new();
            let mut drawn = Vec::new();
            while (drawn.len() as u64) < count {
                let next = self.below(n);
                if seen.insert(next) {
                    drawn.push(next);
                }
            }
            drawn
        }
    }

    /// Puts items in another order (Fisher and Yates, from the end, as CPython shuffles).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            items.swap(last, other);
        }
    }

    /// From a normal distribution of mean 0 and deviation 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}
