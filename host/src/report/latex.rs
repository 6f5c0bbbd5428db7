//! A report as LaTeX tables for papers, which need the package `booktabs`.

use super::markdown::flips_words;
use super::{Report, main_metric};

/// Escapes text so that nothing in it is a command.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\\' => out.push_str("\\textbackslash{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', char]),
            char if char.is_control() => out.push(' '),
            char => out.push(char),
        }
    }
    out
}

fn signed(value: f64) -> String {
    match value < 0.0 {
        true => format!("$-${:.4}", -value),
        false => format!("{value:.4}"),
    }
}

fn table(columns: &str, head: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| cells.join(" & ") + " \\\\\n";
    format!(
        "\\begin{{tabular}}{{{columns}}}\n\\toprule\n{}\\midrule\n{}\\bottomrule\n\\end{{tabular}}\n",
        line(head),
        rows.iter().map(|row| line(row)).collect::<String>()
    )
}

pub fn text(report: &Report) -> String {
    let tasks = report.tasks();
    let mut head = vec!["Model".to_owned()];
    head.extend(tasks.iter().map(|task| {
        let metric = report.metric_of(task).unwrap_or_default();
        format!("{} ({})", escaped(task), escaped(metric))
    }));
    let mut rows = Vec::new();
    for label in report.labels() {
        let mut row = vec![escaped(label)];
        row.extend(tasks.iter().map(|task| {
            let run = report.run(label, task);
            let Some((run, metric)) = run.and_then(|run| Some((run, main_metric(&run.summary)?))) else {
                return "--".to_owned();
            };
            let mut cell = signed(metric.value);
            if let Some((low, high)) = metric.interval {
                cell += &format!(" {{\\small [{}, {}]}}", signed(low), signed(high));
            }
            if run.suspect() {
                cell += "$^{\\dagger}$";
            }
            cell
        }));
        rows.push(row);
    }
    let columns = format!("l{}", "r".repeat(tasks.len()));
    let mut out =
        "% needs \\usepackage{booktabs}; in brackets 95% intervals; a dagger marks suspect numbers\n".to_owned();
    out += &table(&columns, &head, &rows);
    let mut rows = Vec::new();
    for differences in &report.differences {
        for compared in differences.all.iter().map(|compared| &compared.summary) {
            for found in &compared.comparison.rows {
                let interval = found.interval.map_or_else(
                    || "--".to_owned(),
                    |(low, high)| format!("[{}, {}]", signed(low), signed(high)),
                );
                let p = |p: Option<f64>| p.map_or_else(|| "--".to_owned(), |p| format!("{p:.3}"));
                rows.push(vec![
                    escaped(&differences.task),
                    escaped(&compared.first),
                    escaped(&compared.second),
                    escaped(&found.metric),
                    found.n.to_string(),
                    signed(found.difference),
                    interval,
                    p(found.p),
                    p(found.p_holm),
                    flips_words(compared),
                ]);
            }
        }
    }
    if !rows.is_empty() {
        let head = [
            "Task",
            "First",
            "Second",
            "Metric",
            "$n$",
            "Difference",
            "95\\% interval",
            "$p$",
            "$p$ (Holm)",
            "Flips",
        ];
        out += &format!("\n{}", table("llllrrrrrl", &head.map(str::to_owned), &rows));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_commands() {
        assert_eq!(escaped("a_b\\c{%}"), "a\\_b\\textbackslash{}c\\{\\%\\}");
        assert_eq!(signed(-0.5), "$-$0.5000");
    }
}
