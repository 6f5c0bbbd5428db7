//! Resampling: seeded draws, the bootstrap over clusters, and the one that needs no draws.

use crate::proportion::Counts;

/// SplitMix64: small, seeded, the same on every machine.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    #[allow(clippy::should_implement_trait)] // an endless stream of numbers is more than an iterator promises
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, all equally likely to within 2^-64.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

/// The value at `share` of sorted values, interpolated between neighbours as numpy's default does.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

/// Draws whole clusters with replacement and evaluates `figure` on each draw, which gets the numbers of the drawn
/// clusters; gives the 95% percentile interval. A draw on which the figure is not a number is left out.
pub fn cluster_bootstrap(
    clusters: usize,
    draws: usize,
    seed: u64,
    mut figure: impl FnMut(&[usize]) -> f64,
) -> Option<(f64, f64)> {
    if clusters == 0 {
        return None;
    }
    let mut random = Random::new(seed);
    let mut drawn = vec![0; clusters];
    let mut figures = Vec::with_capacity(draws);
    for _ in 0..draws {
        drawn.iter_mut().for_each(|place| *place = random.below(clusters));
        let value = figure(&drawn);
        if value.is_finite() {
            figures.push(value);
        }
    }
    if figures.is_empty() {
        return None;
    }
    figures.sort_by(f64::total_cmp);
    Some((percentile(&figures, 0.025), percentile(&figures, 0.975)))
}

/// The bootstrap distribution of a paired difference of shares, exactly: a mean of n draws is trinomial.
#[derive(Debug, Clone)]
pub struct BinaryBootstrap {
    /// The chance of each sum from −n to n.
    chances: Vec<f64>,
    pairs: usize,
}

impl BinaryBootstrap {
    pub fn new(counts: &Counts) -> Self {
        let n = counts.pairs() as usize;
        let [down, up] = [counts.first, counts.second].map(|count| count as f64 / n as f64);
        let same = 1.0 - down - up;
        // After k draws the sum s stands at place s + k.
        let mut chances = vec![1.0];
        for _ in 0..n {
            let mut next = vec![0.0; chances.len() + 2];
            for (place, chance) in chances.iter().enumerate() {
                next[place] += chance * down;
                next[place + 1] += chance * same;
                next[place + 2] += chance * up;
            }
            chances = next;
        }
        BinaryBootstrap { chances, pairs: n }
    }

    /// The least difference with a cumulative chance of at least `share`.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sum = 0.0;
        for (place, chance) in self.chances.iter().enumerate() {
            sum += chance;
            if sum >= share {
                return (place as f64 - self.pairs as f64) / self.pairs as f64;
            }
        }
        1.0
    }

    /// P(difference < 0) and P(difference ≤ 0).
    pub fn at_most_nothing(&self) -> (f64, f64) {
        let below: f64 = self.chances[..self.pairs].iter().sum();
        (below, below + self.chances[self.pairs])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_bootstrap_needs_no_draws() {
        let bootstrap = BinaryBootstrap::new(&Counts {
            both: 6,
            first: 2,
            second: 7,
            neither: 5,
        });
        assert_eq!((bootstrap.quantile(0.025), bootstrap.quantile(0.975)), (0.0, 0.5));
        let (below, at_most) = bootstrap.at_most_nothing();
        assert!((at_most - 0.053_633_7).abs() < 1e-7, "{at_most}");
        assert!((below - 0.024_770_3).abs() < 1e-7, "{below}");
    }

    #[test]
    fn clusters_are_drawn_whole_and_repeatably() {
        let base = "10010100100110001010";
        let tuned = "11011101010111011001";
        let mut clusters: Vec<(char, f64, f64)> = Vec::new();
        for ((name, b), t) in "aabbbcddeefffghhijjk".chars().zip(base.chars()).zip(tuned.chars()) {
            let difference = f64::from(t == '1') - f64::from(b == '1');
            match clusters.iter_mut().find(|(known, ..)| *known == name) {
                Some((_, sum, count)) => {
                    *sum += difference;
                    *count += 1.0;
                }
                None => clusters.push((name, difference, 1.0)),
            }
        }
        let figure = |drawn: &[usize]| {
            let sum: f64 = drawn.iter().map(|place| clusters[*place].1).sum();
            sum / drawn.iter().map(|place| clusters[*place].2).sum::<f64>()
        };
        let interval = cluster_bootstrap(clusters.len(), 20_000, 1, figure).unwrap();
        assert!(
            (interval.0 - 0.042).abs() < 0.01 && (interval.1 - 0.474).abs() < 0.01,
            "{interval:?}"
        );
        assert_eq!(cluster_bootstrap(clusters.len(), 20_000, 1, figure), Some(interval));
        assert_eq!(cluster_bootstrap(0, 10, 1, figure), None);
    }
}
