//! A report as comma-separated values: one long table with a number per row.

use super::Report;

const HEAD: &str =
    "section,run,second,task,metric,filter,group,value,stderr,low,high,n,p,p_holm,gains,losses,suspect\n";

/// A row; unset cells are empty.
#[derive(Default)]
struct Row {
    names: [String; 7],
    value: Option<f64>,
    stderr: Option<f64>,
    interval: Option<(f64, f64)>,
    n: u64,
    p: Option<f64>,
    p_holm: Option<f64>,
    flips: Option<(usize, usize)>,
    suspect: Option<bool>,
}

impl Row {
    fn line(&self) -> String {
        let number = |value: Option<f64>| {
            value
                .filter(|value| value.is_finite())
                .map(|value| value.to_string())
                .unwrap_or_default()
        };
        let mut cells: Vec<String> = self.names.iter().map(|cell| quoted(cell)).collect();
        cells.extend([
            number(self.value),
            number(self.stderr),
            number(self.interval.map(|ends| ends.0)),
            number(self.interval.map(|ends| ends.1)),
            self.n.to_string(),
            number(self.p),
            number(self.p_holm),
            self.flips.map(|flips| flips.0.to_string()).unwrap_or_default(),
            self.flips.map(|flips| flips.1.to_string()).unwrap_or_default(),
            self.suspect.map(|suspect| suspect.to_string()).unwrap_or_default(),
        ]);
        cells.join(",") + "\n"
    }
}

fn quoted(cell: &str) -> String {
    match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    }
}

pub fn text(report: &Report) -> String {
    let mut out = HEAD.to_owned();
    let names = |parts: [&str; 7]| parts.map(str::to_owned);
    for run in &report.runs {
        for metric in &run.summary.metrics {
            let group = metric.group.as_deref().unwrap_or_default();
            let row = Row {
                names: names([
                    "result",
                    &run.label,
                    "",
                    &run.summary.task,
                    &metric.name,
                    &metric.filter,
                    group,
                ]),
                value: Some(metric.value),
                stderr: metric.stderr,
                interval: metric.interval,
                n: metric.count,
                suspect: Some(run.suspect()),
                ..Row::default()
            };
            out += &row.line();
        }
    }
    for differences in &report.differences {
        for compared in differences.all.iter().map(|compared| &compared.summary) {
            let rows = compared.comparison.rows.iter().chain(&compared.comparison.groups);
            for (place, found) in rows.enumerate() {
                let group = found.group.as_deref().unwrap_or_default();
                let row = Row {
                    names: names([
                        "difference",
                        &compared.first,
                        &compared.second,
                        &differences.task,
                        &found.metric,
                        "",
                        group,
                    ]),
                    value: Some(found.difference),
                    interval: found.interval,
                    n: found.n,
                    p: found.p,
                    p_holm: found.p_holm,
                    flips: (place == 0).then_some((compared.gains, compared.losses)),
                    ..Row::default()
                };
                out += &row.line();
            }
        }
    }
    for found in &report.agreements {
        for (metric, value) in [("same", found.same), ("kappa", found.kappa), ("ac1", found.ac1)] {
            let row = Row {
                names: names(["agreement", &found.run, &found.second, &found.first, metric, "", ""]),
                value,
                n: found.n as u64,
                ..Row::default()
            };
            out += &row.line();
        }
    }
    for sweep in &report.sweeps {
        let row = Row {
            names: names([
                "faithfulness",
                &sweep.model,
                "",
                &sweep.dataset,
                "aoc",
                "",
                &sweep.experiment,
            ]),
            value: sweep.aoc,
            interval: sweep.aoc_interval,
            n: sweep.used,
            ..Row::default()
        };
        out += &row.line();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_cell_for_every_head() {
        let row = Row {
            names: ["a,b", "\"", "", "", "", "", ""].map(str::to_owned),
            value: Some(f64::NAN),
            ..Row::default()
        };
        assert_eq!(row.line(), "\"a,b\",\"\"\"\",,,,,,,,,,0,,,,,\n");
        assert_eq!(HEAD.matches(',').count(), 16);
    }
}
