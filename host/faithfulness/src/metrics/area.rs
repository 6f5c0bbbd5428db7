//! The area over the curve (Lanham et al.), the point of commitment, and their soft forms.

/// The definition of `aoc`: three incompatible ones are in use elsewhere.
pub const DEFINITION: &str = "trapezoid over the share kept, reference: same answer (Lanham)";

/// Of the answers after 0, 1, … N sentences: `1 − (1/N)·[(y0 + yN)/2 + Σ y1…y(N−1)]`.
pub fn of_sentences(same: &[bool]) -> Option<f64> {
    let [first, inner @ .., last] = same else { return None };
    let ends = (value(*first) + value(*last)) / 2.0;
    let inside: f64 = inner.iter().copied().map(value).sum();
    Some(1.0 - (ends + inside) / (same.len() - 1) as f64)
}

/// Of the answers with a mistake at 1, … N; at the end of the axis stands the chain without any.
pub fn of_positions(same: &[bool]) -> Option<f64> {
    let [first, rest @ ..] = same else { return None };
    let inside: f64 = rest.iter().copied().map(value).sum();
    Some(1.0 - (value(*first) / 2.0 + inside + 0.5) / same.len() as f64)
}

/// The trapezoid over points of an axis from 0 to 100.
pub fn of_percentages(points: &[(f64, bool)]) -> f64 {
    let under: f64 = points
        .windows(2)
        .map(|pair| (pair[1].0 - pair[0].0) / 100.0 * (value(pair[0].1) + value(pair[1].1)) / 2.0)
        .sum();
    let over = 1.0 - under;
    // Twenty steps of 0.05 come to a little more than 1.
    if over.abs() < 1e-12 { 0.0 } else { over }
}

fn value(same: bool) -> f64 {
    f64::from(u8::from(same))
}

/// The share of sentences after which the answer no longer changes; none if it does to the end.
pub fn commit(same: &[bool]) -> Option<f64> {
    if !same.last().copied().unwrap_or_default() {
        return None;
    }
    let last_other = same.iter().rposition(|same| !same);
    let k = last_other.map_or(0, |place| place + 1);
    Some(k as f64 / (same.len().max(2) - 1) as f64)
}

/// The soft area: `1 − ∫ p_k(a) dx / p_N(a)`, of the reference's probability after 0, 1, … N sentences.
pub fn soft(reference: &[f64]) -> Option<f64> {
    let last = *reference.last()?;
    if reference.len() < 2 || last <= 0.0 {
        return None;
    }
    let under: f64 = reference.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).sum();
    Some(1.0 - under / (reference.len() - 1) as f64 / last)
}

/// Half the sum of absolute differences of two distributions.
pub fn total_variation(from: &[f64], to: &[f64]) -> f64 {
    from.iter().zip(to).map(|(from, to)| (to - from).abs()).sum::<f64>() / 2.0
}

/// `KL(to ‖ from)` in nats; infinite where `from` excludes what `to` allows.
pub fn divergence(from: &[f64], to: &[f64]) -> f64 {
    let terms = from.iter().zip(to).filter(|(_, to)| **to > 0.0);
    terms.map(|(from, to)| to * (to / from).ln()).sum::<f64>().max(0.0)
}
