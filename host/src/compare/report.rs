//! A comparison in the forms that people and programs read: a table, JSON, CSV.

use super::bounds::Bounds;
use super::flips::Flips;
use super::metric::{Comparison, Decision, Row, adjust};
use super::pairing::{Across, Missing, Pairs, Places, pair};
use super::side::{Seen, Side};
use crate::failure::Result;
use crate::table::{Align, Table};
use serde::Serialize;
use serde_json::Value;
use std::rc::Rc;

/// The figures of two runs, compared.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    pub first: String,
    pub second: String,
    /// Samples that both sides have a score for.
    pub paired: usize,
    pub only_first: usize,
    pub only_second: usize,
    pub without_score: usize,
    /// Pairs whose prompts differ.
    pub other_prompts: usize,
    #[serde(flatten)]
    pub comparison: Comparison,
    /// The second side's median divided by the first's.
    pub latency_ratio: Option<f64>,
    pub tokens_ratio: Option<f64>,
    /// Samples whose main metric is better on the second side, and on the first.
    #[serde(skip)]
    pub gains: usize,
    #[serde(skip)]
    pub losses: usize,
}

/// Two runs, compared, with the samples behind the figures.
#[derive(Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub summary: Summary,
    unpaired: Missing,
    pub flips: Flips,
    /// Calls of judges that may or may not have been charged.
    #[serde(skip)]
    pub calls_maybe: u64,
    /// A judge's verdicts on the pairs, if one was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_to_head: Option<Value>,
    /// The same in words.
    #[serde(skip)]
    pub head_to_head_text: String,
}

/// Compares every other side with the first one. With several, Holm's adjustment is made over all.
pub fn compare(sides: &[Rc<Side>], across: &Across) -> Result<Vec<Report>> {
    let (first, others) = sides.split_first().expect("the command line asks for two runs or more");
    let mut reports = others
        .iter()
        .map(|second| Ok(Report::of(pair(first, second, across)?)))
        .collect::<Result<Vec<Report>>>()?;
    adjust(
        reports
            .iter_mut()
            .flat_map(|report| &mut report.summary.comparison.rows),
    );
    Ok(reports)
}

impl Report {
    pub fn of(pairs: Pairs) -> Report {
        let comparison = Comparison::of(&pairs);
        let flips = Flips::of(&pairs, comparison.rows.first().map(|row| row.metric.as_str()));
        Report {
            summary: Summary {
                first: pairs.sides.first.name.clone(),
                second: pairs.sides.second.name.clone(),
                paired: pairs.scored.len(),
                only_first: pairs.missing.only_first.len(),
                only_second: pairs.missing.only_second.len(),
                without_score: pairs.missing.without_score.len(),
                other_prompts: pairs.other_prompts,
                comparison,
                latency_ratio: ratio_of_medians(&pairs, |seen| seen.latency_ms()),
                tokens_ratio: ratio_of_medians(&pairs, |seen| f64::from(seen.generated_tokens())),
                gains: flips.gains(),
                losses: flips.losses,
            },
            unpaired: pairs.missing,
            flips,
            calls_maybe: 0,
            head_to_head: None,
            head_to_head_text: String::new(),
        }
    }

    /// The first `most` flips of the main metric, for reading.
    pub fn flips_text(&self, most: usize) -> Result<String> {
        super::flips::text(&self.flips, most)
    }
}

impl Summary {
    /// The table, in Markdown: effect and interval first, then p.
    pub fn table(&self, with_groups: bool) -> String {
        let columns = [
            ("Metric", Align::Left),
            ("Group", Align::Left),
            ("n", Align::Right),
            ("First", Align::Right),
            ("Second", Align::Right),
            ("Difference", Align::Right),
            ("95% interval", Align::Right),
            ("p", Align::Right),
            ("p (Holm)", Align::Right),
            ("", Align::Left),
        ];
        let mut table = Table::new(&columns);
        let groups = self.comparison.groups.iter().filter(|_| with_groups);
        for row in self.comparison.rows.iter().chain(groups) {
            table.row(cells(row));
        }
        let mut text = format!("First: {}\nSecond: {}\n\n{}", self.first, self.second, table.render());
        text += &format!("\n{}\n", self.counts());
        let groups = self.comparison.groups.iter().filter(|_| with_groups);
        for row in self.comparison.rows.iter().chain(groups) {
            if let Some(bounds) = &row.bounds {
                let group = row
                    .group
                    .as_ref()
                    .map(|group| format!(" ({group})"))
                    .unwrap_or_default();
                text += &format!("{}\n", bounds.in_words(&format!("{}{group}", row.metric)));
            }
        }
        text
    }

    fn counts(&self) -> String {
        let mut parts = vec![format!(
            "{} pairs, {} gains, {} losses",
            self.paired, self.gains, self.losses
        )];
        for (count, what) in [
            (self.only_first, "only in the first"),
            (self.only_second, "only in the second"),
            (self.without_score, "failed or unscored on a side"),
            (self.other_prompts, "with different prompts"),
        ] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        for (ratio, what) in [(self.latency_ratio, "latency"), (self.tokens_ratio, "generated tokens")] {
            if let Some(ratio) = ratio {
                parts.push(format!("median {what} x{ratio:.2}"));
            }
        }
        parts.join("; ")
    }

    /// The same rows as comma-separated values.
    pub fn csv(&self) -> String {
        let head = "first,second,metric,group,kind,n,first_value,second_value,difference,low,high,test,p,p_holm,decision,\
             unscored_first,unscored_second,difference_least,difference_most\n";
        let rows = self.comparison.rows.iter().chain(&self.comparison.groups);
        let lines = rows.map(|row| {
            let (low, high) = row.interval.map_or((None, None), |(low, high)| (Some(low), Some(high)));
            let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
            let count = |of: fn(&Bounds) -> u64| row.bounds.as_ref().map_or(0, of).to_string();
            let cells = [
                self.first.clone(),
                self.second.clone(),
                row.metric.clone(),
                row.group.clone().unwrap_or_default(),
                word(&row.kind),
                row.n.to_string(),
                row.first.to_string(),
                row.second.to_string(),
                row.difference.to_string(),
                number(low),
                number(high),
                row.test.to_owned(),
                number(row.p),
                number(row.p_holm),
                word(&row.decision),
                count(|bounds| bounds.unscored_first),
                count(|bounds| bounds.unscored_second),
                number(row.bounds.map(|bounds| bounds.difference.0)),
                number(row.bounds.map(|bounds| bounds.difference.1)),
            ];
            cells.map(|cell| quoted(&cell)).join(",") + "\n"
        });
        head.to_owned() + &lines.collect::<String>()
    }

    /// True when a metric's interval lies wholly below −margin, on the side that is worse.
    pub fn worse_by(&self, margin: f64) -> Option<&Row> {
        self.comparison.rows.iter().find(|row| {
            row.interval.is_some_and(|(low, high)| match row.higher_is_better {
                true => high < -margin,
                false => low > margin,
            })
        })
    }
}

fn cells(row: &Row) -> Vec<String> {
    let signed = |value: f64| format!("{value:+.4}");
    let p = |value: Option<f64>| {
        value.map_or("–".to_owned(), |p| {
            if p < 1e-4 {
                format!("{p:.1e}")
            } else {
                format!("{p:.4}")
            }
        })
    };
    vec![
        row.metric.clone(),
        row.group.clone().unwrap_or_default(),
        row.n.to_string(),
        format!("{:.4}", row.first),
        format!("{:.4}", row.second),
        signed(row.difference),
        row.interval
            .map_or("–".to_owned(), |(low, high)| format!("{low:+.4} to {high:+.4}")),
        p(row.p),
        p(row.p_holm),
        match row.decision {
            Decision::Better => "better".to_owned(),
            Decision::Worse => "worse".to_owned(),
            Decision::TooFew => "too few differ to tell".to_owned(),
            Decision::Unclear if row.difference == 0.0 => "no difference".to_owned(),
            Decision::Unclear => match row.pairs_for_80_percent_power {
                Some(pairs) => format!("unclear; 80% power needs {pairs} pairs"),
                None => "unclear".to_owned(),
            },
        },
    ]
}

fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

fn quoted(cell: &str) -> String {
    match cell.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    }
}

fn ratio_of_medians(pairs: &Pairs, value: impl Fn(Seen) -> f64) -> Option<f64> {
    let median = |side: &dyn Fn(Places) -> f64| {
        let mut values: Vec<f64> = pairs.scored.iter().map(|places| side(*places)).collect();
        values.sort_by(f64::total_cmp);
        (!values.is_empty()).then(|| statistics::percentile(&values, 0.5))
    };
    let first = median(&|places| value(pairs.sides.at(places).0))?;
    let second = median(&|places| value(pairs.sides.at(places).1))?;
    (first > 0.0).then(|| second / first)
}
