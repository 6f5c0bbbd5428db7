//! The random permutation of PyTorch's CPU generator, so that rows come in the order in which `Trainer` takes them.

/// MT19937 as `init_genrand` seeds it.
pub struct Mersenne {
    state: [u32; N],
    next: usize,
}

const N: usize = 624;
const M: usize = 397;

impl Mersenne {
    /// PyTorch keeps 64 bits of a seed, and seeds this generator with the lower half.
    pub fn new(seed: u64) -> Mersenne {
        let mut state = [0; N];
        state[0] = seed as u32;
        for index in 1..N {
            let last: u32 = state[index - 1];
            state[index] = 1_812_433_253_u32
                .wrapping_mul(last ^ (last >> 30))
                .wrapping_add(index as u32);
        }
        Mersenne { state, next: N }
    }

    pub fn draw(&mut self) -> u32 {
        if self.next == N {
            self.refill();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn refill(&mut self) {
        for index in 0..N {
            let y = (self.state[index] & 0x8000_0000) | (self.state[(index + 1) % N] & 0x7fff_ffff);
            let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[index] = self.state[(index + M) % N] ^ (y >> 1) ^ twist;
        }
        self.next = 0;
    }

    /// `torch.randperm(n)` of this generator.
    pub fn permutation(&mut self, n: usize) -> Vec<u32> {
        let mut all: Vec<u32> = (0..n as u32).collect();
        for index in 0..n.saturating_sub(1) {
            let other = index + self.draw() as usize % (n - index);
            all.swap(index, other);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_numbers_are_those_of_the_reference() {
        let mut generator = Mersenne::new(42);
        let drawn: Vec<u32> = (0..3).map(|_| generator.draw()).collect();
        assert_eq!(drawn, [1_608_637_542, 3_421_126_067, 4_083_286_876]);
    }

    #[test]
    fn permutations_are_those_of_the_reference() {
        let permutation = |seed, n| Mersenne::new(seed).permutation(n);
        assert_eq!(permutation(42, 11), [6, 8, 9, 2, 1, 10, 0, 7, 3, 5, 4]);
        assert_eq!(permutation(43, 11), [3, 9, 4, 2, 8, 7, 6, 10, 1, 5, 0]);
        assert_eq!(permutation(42, 2251)[..5], [910, 1068, 229, 1097, 2227]);
        assert_eq!(permutation(7, 1), [0]);
        assert!(permutation(7, 0).is_empty());
    }
}
