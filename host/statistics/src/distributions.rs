//! The normal, Student's and the binomial distribution, from the incomplete beta function.

/// ln Γ(x) by Lanczos' series with g = 7 and nine terms; relative error below 1e-14 for x > 0.
pub(crate) fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        let pi = std::f64::consts::PI;
        return (pi / (pi * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let t = x + 7.5;
    let sum = TERMS[0]
        + TERMS[1..]
            .iter()
            .zip(1..)
            .map(|(term, place)| term / (x + f64::from(place)))
            .sum::<f64>();
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// The regularised incomplete beta function I_x(a, b), by its continued fraction.
pub(crate) fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    // The fraction converges fast below the mean; above it the symmetric one does.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp() / a;
    const TINY: f64 = 1e-300;
    let away = |value: f64| if value.abs() < TINY { TINY } else { value };
    let (mut c, mut d) = (1.0, 1.0 / away(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for step in 1..10_000 {
        let m = f64::from(step);
        for numerator in [
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            d = 1.0 / away(1.0 + numerator * d);
            c = away(1.0 + numerator / c);
            fraction *= c * d;
        }
        if (c * d - 1.0).abs() < 1e-16 {
            break;
        }
    }
    front * fraction
}

/// P(Z ≤ z) of the standard normal distribution.
pub fn normal_cdf(z: f64) -> f64 {
    // erfc(x) is an incomplete gamma function; its continued fraction serves the tails, the series the middle.
    let x = z.abs() / std::f64::consts::SQRT_2;
    let tail = if x < 2.5 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        0.5 - sum / std::f64::consts::PI.sqrt()
    } else {
        let mut fraction = 0.0;
        for n in (1..120).rev() {
            fraction = f64::from(n) / 2.0 / (x + fraction);
        }
        0.5 * (-x * x).exp() / std::f64::consts::PI.sqrt() / (x + fraction)
    };
    if z > 0.0 { 1.0 - tail } else { tail }
}

/// The z with P(Z ≤ z) = p.
pub fn normal_quantile(p: f64) -> f64 {
    invert(p, normal_cdf)
}

/// The t with P(T ≤ t) = p for `df` degrees of freedom.
pub fn student_quantile(p: f64, df: f64) -> f64 {
    invert(p, |t| {
        let tail = 0.5 * student_two_sided(t, df);
        if t > 0.0 { 1.0 - tail } else { tail }
    })
}

/// P(|T| ≥ |t|) for `df` degrees of freedom.
pub fn student_two_sided(t: f64, df: f64) -> f64 {
    if t.is_infinite() {
        return 0.0;
    }
    incomplete_beta(df / (df + t * t), df / 2.0, 0.5)
}

/// Bisection, to the last bit: slow beside Newton's method, and never wrong.
fn invert(p: f64, cdf: impl Fn(f64) -> f64) -> f64 {
    if !(p > 0.0 && p < 1.0) {
        return if p <= 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let (mut low, mut high) = (-1.0, 1.0);
    while cdf(low) > p {
        low *= 2.0;
    }
    while cdf(high) < p {
        high *= 2.0;
    }
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if cdf(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// P(X ≤ k) of n draws with chance p.
pub fn binomial_cdf(k: i64, n: u64, p: f64) -> f64 {
    if k < 0 {
        return 0.0;
    }
    if k as u64 >= n {
        return 1.0;
    }
    incomplete_beta(1.0 - p, n as f64 - k as f64, k as f64 + 1.0)
}

/// P(X = k) of n draws with chance p.
pub(crate) fn binomial_pmf(k: u64, n: u64, p: f64) -> f64 {
    let (n, k) = (n as f64, k as f64);
    let ln = |x: f64, count: f64| if count == 0.0 { 0.0 } else { count * x.ln() };
    (ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0) + ln(p, k) + ln(1.0 - p, n - k)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn near(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-10, "got {got}, expected {expected}");
    }

    #[test]
    fn quantiles_are_the_tables() {
        near(normal_quantile(0.975), 1.959_963_984_540_054);
        near(normal_quantile(0.8), 0.841_621_233_572_914_3);
        near(student_quantile(0.975, 19.0), 2.093_024_054_408_263);
        near(student_quantile(0.975, 1.0), 12.706_204_736_174_7);
        near(student_quantile(0.025, 5.0), -2.570_581_835_636_314);
    }

    #[test]
    fn tails_keep_their_digits() {
        near(normal_cdf(-6.0) / 9.865_876_450_376_946e-10, 1.0);
        near(normal_cdf(1.0), 0.841_344_746_068_542_9);
        near(binomial_cdf(2, 9, 0.5), 46.0 / 512.0);
        near(binomial_cdf(0, 5, 0.5), 1.0 / 32.0);
        near(binomial_cdf(5, 5, 0.5), 1.0);
        near(binomial_pmf(2, 9, 0.5), 36.0 / 512.0);
    }
}
