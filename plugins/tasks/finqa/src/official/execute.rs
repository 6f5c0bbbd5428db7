//! Executes programs by the official rules.
//!
//! The decision a newcomer would question: nothing is repaired here. A table step on an earlier result takes the row
//! of the table step before it, texts can be added, and a broken step invalidates the program even if it is not used.
//! The official scorer does so, and only its verdicts are comparable.

use crate::official::program::{Broken, Step, is_reference, is_well_formed, joined, steps};
use crate::official::python::{float, integer, round_to_five, strip};

/// The result of a step or a program.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// `yes`, `no`, or `n/a` when nothing was computed.
    Text(String),
    /// A negative number raised to a fraction: no later step can turn it into a number.
    Complex,
}

impl Value {
    fn none() -> Value {
        Value::Text("n/a".to_owned())
    }

    /// Whether it is the expected answer: exactly, without tolerance. NaN is never.
    pub fn is(&self, expected: &Value) -> bool {
        match (self, expected) {
            (Value::Number(value), Value::Number(expected)) => value == expected,
            (Value::Text(value), Value::Text(expected)) => value == expected,
            _ => false,
        }
    }
}

/// The outcome of a program.
#[derive(Debug, Clone, PartialEq)]
pub struct Execution {
    /// True when the program can't be executed.
    pub invalid: bool,
    /// Its result; for an invalid program, the last result before it failed.
    pub value: Value,
}

/// Executes the tokens of a program, the last of which is `EOF`, on a table.
pub fn execute<S: AsRef<str>>(tokens: &[S], table: &[Vec<String>]) -> Execution {
    if !is_well_formed(tokens) {
        return Execution {
            invalid: true,
            value: Value::none(),
        };
    }
    let joined = joined(tokens);
    let mut machine = Machine {
        table,
        results: Vec::new(),
        value: Value::none(),
        row: None,
    };
    let end = steps(&joined).into_iter().try_for_each(|step| machine.run(step));
    if let Err(Stop::Failed) = end {
        return Execution {
            invalid: true,
            value: machine.value,
        };
    }
    let (rounds, value) = match machine.value {
        Value::Number(number) => (true, Value::Number(round_to_five(number))),
        Value::Text(text) => (matches!(text.as_str(), "yes" | "no" | "n/a"), Value::Text(text)),
        Value::Complex => (false, Value::Complex),
    };
    Execution {
        invalid: end.is_err() || !rounds,
        value,
    }
}

/// Why a program goes no further.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stop {
    /// The official scorer breaks off, and still rounds what it has.
    Ended,
    /// The official scorer fails, and keeps what it has as it is.
    Failed,
}

struct Machine<'a> {
    table: &'a [Vec<String>],
    /// By step; none where an odd operator did nothing.
    results: Vec<Option<Value>>,
    value: Value,
    /// The numbers of the last table step.
    row: Option<Vec<f64>>,
}

/// Texts grow when they are added to themselves; longer ones are useless.
const LONGEST_TEXT: usize = 1 << 16;

impl Machine<'_> {
    fn run(&mut self, step: Result<Step, Broken>) -> Result<(), Stop> {
        let step = step.map_err(|broken| match broken {
            Broken::Nested => Stop::Ended,
            Broken::Short => Stop::Failed,
        })?;
        let [first, second] = step.arguments;
        let result = match step.operator {
            "add" | "subtract" | "multiply" | "divide" | "exp" | "greater" => {
                let first = self.argument(first)?;
                Some(compute(step.operator, first, self.argument(second)?).ok_or(Stop::Failed)?)
            }
            _ if step.is_of_table() => Some(self.look_up(step.operator, first)?),
            // The brackets were misplaced: the official scorer skips such a step.
            _ => None,
        };
        if let Some(value) = &result {
            self.value = value.clone();
        }
        self.results.push(result);
        Ok(())
    }

    fn argument(&self, text: &str) -> Result<Value, Stop> {
        match is_reference(text) {
            true => self.earlier(text).cloned(),
            false => number(text).map(Value::Number),
        }
    }

    fn earlier(&self, reference: &str) -> Result<&Value, Stop> {
        let index = integer(&reference.replace('#', "")).and_then(|index| usize::try_from(index).ok());
        let result = index.and_then(|index| self.results.get(index)?.as_ref());
        result.ok_or(Stop::Failed)
    }

    fn look_up(&mut self, operator: &str, name: &str) -> Result<Value, Stop> {
        if self.table.iter().any(Vec::is_empty) {
            return Err(Stop::Failed);
        }
        if is_reference(name) {
            self.earlier(name)?;
        } else {
            let row = self.table.iter().rev().find(|row| row[0] == name).ok_or(Stop::Ended)?;
            let cells = row[1..].iter().map(|cell| number(cell_text(&cell.replace('$', ""))));
            self.row = Some(cells.collect::<Result<_, _>>()?);
        }
        let row = self.row.as_deref().ok_or(Stop::Failed)?;
        let sum = || row.iter().fold(0.0, |sum, cell| sum + cell);
        // A NaN stays only in first place, as with pairwise comparison.
        let most = |better: fn(f64, f64) -> bool| {
            let most = row
                .iter()
                .copied()
                .reduce(|most, cell| if better(cell, most) { cell } else { most });
            most.ok_or(Stop::Failed)
        };
        Ok(Value::Number(match operator {
            "table_max" => most(|cell, most| cell > most)?,
            "table_min" => most(|cell, most| cell < most)?,
            "table_sum" => sum(),
            "table_average" if row.is_empty() => return Err(Stop::Failed),
            "table_average" => sum() / row.len() as f64,
            _ => return Ok(self.value.clone()),
        }))
    }
}

/// What stands before the first bracket of a cell.
fn cell_text(cell: &str) -> &str {
    strip(strip(cell).split('(').next().unwrap_or_default())
}

/// A number as it stands in a program or a cell.
fn number(text: &str) -> Result<f64, Stop> {
    let text = text.replace(',', "");
    if let Some(number) = float(&text) {
        return Ok(number);
    }
    if text.contains('%') {
        return float(&text.replace('%', ""))
            .map(|number| number / 100.0)
            .ok_or(Stop::Ended);
    }
    if text.contains("const") {
        return match text.replace("const_", "").as_str() {
            "m1" => Ok(-1.0),
            other => float(other).ok_or(Stop::Failed),
        };
    }
    Err(Stop::Ended)
}

fn compute(operator: &str, first: Value, second: Value) -> Option<Value> {
    use Value::{Complex, Number, Text};
    match (operator, first, second) {
        ("greater", Number(first), Number(second)) => Some(answer(first > second)),
        ("greater", Text(first), Text(second)) => Some(answer(first > second)),
        ("add", Text(first), Text(second)) if first.len() + second.len() <= LONGEST_TEXT => Some(Text(first + &second)),
        ("greater", ..) | (_, Text(_), _) | (_, _, Text(_)) => None,
        ("divide", _, Number(0.0)) => None,
        (_, Complex, _) | (_, _, Complex) => Some(Complex),
        ("add", Number(first), Number(second)) => Some(Number(first + second)),
        ("subtract", Number(first), Number(second)) => Some(Number(first - second)),
        ("multiply", Number(first), Number(second)) => Some(Number(first * second)),
        ("divide", Number(first), Number(second)) => Some(Number(first / second)),
        ("exp", Number(base), Number(exponent)) => power(base, exponent),
        _ => None,
    }
}

fn answer(is_so: bool) -> Value {
    Value::Text(if is_so { "yes" } else { "no" }.to_owned())
}

/// Python's `**`: distinguishes a complex result, a division by zero and an overflow from infinity.
fn power(base: f64, exponent: f64) -> Option<Value> {
    let finite = base.is_finite() && exponent.is_finite();
    if finite && base == 0.0 && exponent < 0.0 {
        return None;
    }
    if finite && base < 0.0 && exponent.fract() != 0.0 {
        return base.abs().powf(exponent).is_finite().then_some(Value::Complex);
    }
    let power = base.powf(exponent);
    (!finite || power.is_finite()).then_some(Value::Number(power))
}
