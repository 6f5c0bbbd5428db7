//! The factor of the learning rate at each step.

use plugin_api::{Code, Error, Result};
use serde_json::{Map, Value};
use std::f64::consts::PI;

/// A schedule by name, with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    kind: Kind,
    warmup: u64,
    total: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Linear,
    Cosine { cycles: f64 },
    Constant,
    ConstantWithWarmup,
    CosineWithRestarts { cycles: f64 },
    Polynomial { end: f64, power: f64 },
    InverseSqrt { timescale: f64 },
    CosineWithMinLr { cycles: f64, least: f64 },
}

/// The names of all schedules.
pub const NAMES: [&str; 8] = [
    "linear",
    "cosine",
    "constant",
    "constant_with_warmup",
    "cosine_with_restarts",
    "polynomial",
    "inverse_sqrt",
    "cosine_with_min_lr",
];

impl Schedule {
    /// A schedule over `total` steps for this base rate. `shape` is the reference's `lr_scheduler_kwargs`.
    pub fn new(name: &str, warmup: u64, total: u64, base: f64, shape: &Map<String, Value>) -> Result<Schedule> {
        let number = |key: &str| shape.get(key).and_then(Value::as_f64);
        let or = |key: &str, default: f64| number(key).unwrap_or(default);
        let kind = match name {
            "linear" => Kind::Linear,
            "cosine" => Kind::Cosine {
                cycles: or("num_cycles", 0.5),
            },
            "constant" => Kind::Constant,
            "constant_with_warmup" => Kind::ConstantWithWarmup,
            "cosine_with_restarts" => Kind::CosineWithRestarts {
                cycles: or("num_cycles", 1.0),
            },
            "polynomial" => Kind::Polynomial {
                end: or("lr_end", 1e-7) / base,
                power: or("power", 1.0),
            },
            "inverse_sqrt" => Kind::InverseSqrt {
                timescale: or("timescale", if warmup > 0 { warmup as f64 } else { 10_000.0 }),
            },
            "cosine_with_min_lr" => {
                let least = number("min_lr").map(|rate| rate / base).or(number("min_lr_rate"));
                let Some(least) = least else {
                    let error = Error::new(Code::SETTINGS, "the schedule `cosine_with_min_lr` needs `min_lr`");
                    return Err(error.help("give `--min-lr RATE` or `--min-lr-rate SHARE`"));
                };
                Kind::CosineWithMinLr {
                    cycles: or("num_cycles", 0.5),
                    least,
                }
            }
            _ => {
                let error = Error::new(Code::SETTINGS, format!("unknown schedule `{name}`"));
                return Err(error.help(format!("`lr_scheduler_type` is one of `{}`", NAMES.join("`, `"))));
            }
        };
        Ok(Schedule { kind, warmup, total })
    }

    /// The factor for the step after `done` steps.
    pub fn factor(&self, done: u64) -> f64 {
        let (k, w, n) = (done as f64, self.warmup as f64, self.total as f64);
        if self.kind == Kind::Constant {
            return 1.0;
        }
        if done < self.warmup {
            return k / w.max(1.0);
        }
        let progress = (k - w) / (n - w).max(1.0);
        let wave = |cycles: f64| 0.5 * (1.0 + (PI * cycles * 2.0 * progress).cos());
        match self.kind {
            Kind::Linear => ((n - k) / (n - w).max(1.0)).max(0.0),
            Kind::Cosine { cycles } => wave(cycles).max(0.0),
            Kind::Constant | Kind::ConstantWithWarmup => 1.0,
            Kind::CosineWithRestarts { .. } if progress >= 1.0 => 0.0,
            Kind::CosineWithRestarts { cycles } => (0.5 * (1.0 + (PI * ((cycles * progress) % 1.0)).cos())).max(0.0),
            Kind::Polynomial { end, .. } if k > n => end,
            Kind::Polynomial { end, power } => (1.0 - end) * (1.0 - progress).powf(power) + end,
            Kind::InverseSqrt { timescale } => 1.0 / ((k + timescale - w) / timescale).sqrt(),
            Kind::CosineWithMinLr { cycles, least } => (wave(cycles) * (1.0 - least) + least).max(0.0),
        }
    }
}

/// Steps of warm-up: a `warmup` of 1 or more is their number; below 1 it is a share of all steps, rounded up.
pub fn warmup_steps(warmup: f64, total: u64) -> u64 {
    match warmup >= 1.0 {
        true => warmup as u64,
        false => (total as f64 * warmup).ceil() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(name: &str, shape: Value, expected: [f64; 8]) {
        let schedule = Schedule::new(name, 2, 8, 1e-3, shape.as_object().unwrap()).unwrap();
        for (done, expected) in expected.into_iter().enumerate() {
            let factor = schedule.factor(done as u64);
            assert!(
                (factor - expected).abs() < 1e-6,
                "{name} {done}: {factor}, not {expected}"
            );
        }
    }

    #[test]
    fn factors_are_those_of_the_reference() {
        check(
            "linear",
            json!({}),
            [0.0, 0.5, 1.0, 0.833333, 0.666667, 0.5, 0.333333, 0.166667],
        );
        check(
            "cosine",
            json!({}),
            [0.0, 0.5, 1.0, 0.933013, 0.75, 0.5, 0.25, 0.066987],
        );
        check(
            "cosine_with_min_lr",
            json!({ "min_lr_rate": 0.05 }),
            [0.0, 0.5, 1.0, 0.936362, 0.7625, 0.525, 0.2875, 0.113638],
        );
        check(
            "cosine_with_min_lr",
            json!({ "min_lr": 5e-5 }),
            [0.0, 0.5, 1.0, 0.936362, 0.7625, 0.525, 0.2875, 0.113638],
        );
        check("constant", json!({}), [1.0; 8]);
        check(
            "constant_with_warmup",
            json!({}),
            [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        );
    }

    #[test]
    fn other_shapes_follow_their_formulas() {
        let none = Map::new();
        let polynomial = Schedule::new("polynomial", 0, 4, 1e-3, &none).unwrap();
        assert!((polynomial.factor(2) - (0.5 * (1.0 - 1e-4) + 1e-4)).abs() < 1e-12);
        let restarts = json!({ "num_cycles": 2 });
        let restarts = Schedule::new("cosine_with_restarts", 0, 8, 1e-3, restarts.as_object().unwrap()).unwrap();
        assert!((restarts.factor(4) - 1.0).abs() < 1e-12 && restarts.factor(8) == 0.0);
        let root = Schedule::new("inverse_sqrt", 4, 100, 1e-3, &none).unwrap();
        assert!((root.factor(4) - 1.0).abs() < 1e-12 && (root.factor(16) - 0.5).abs() < 1e-12);
        assert!(Schedule::new("cosin", 0, 1, 1.0, &none).is_err());
    }

    #[test]
    fn a_share_of_warmup_is_rounded_up() {
        assert_eq!(warmup_steps(0.03, 1562), 47);
        assert_eq!(warmup_steps(0.2, 8), 2);
        assert_eq!(warmup_steps(5.0, 8), 5);
        assert_eq!(warmup_steps(0.0, 8), 0);
    }
}
