//! Plots as SVG files, each with a text file of its numbers beside it.

use crate::experiment::{Experiment, Scale};
use crate::import::{Import, Kind, Study, Table, Trial, kind_name};
use crate::metrics::errors::bootstrap;
use crate::metrics::{Measures, Reference, Used, area, judge, measure};
use plots::{Chart, document, escaped};
use std::collections::BTreeMap;

/// A file's name and text.
pub type File = (String, String);

/// Colours and marks of the known data sets, in the published order.
const STYLES: [(&str, &str, char); 6] = [
    ("animal", "#1f77b4", 'o'),
    ("language", "#ff7f0e", 's'),
    ("emotion", "#2ca02c", '^'),
    ("gender", "#d62728", 'D'),
    ("mmar", "#9467bd", 'v'),
    ("mmau", "#8c564b", 'p'),
];
const HUNDREDS: [f64; 6] = [0.0, 20.0, 40.0, 60.0, 80.0, 100.0];

fn style(dataset: &str) -> (&'static str, char) {
    let known = STYLES.iter().find(|(name, ..)| dataset.contains(name));
    known.map_or(("#1f77b4", 'o'), |(_, colour, mark)| (colour, *mark))
}

/// Every plot that the data allow.
pub fn plots(import: &Import) -> Vec<File> {
    let mut files = Vec::new();
    let mut kinds: BTreeMap<(&str, &Kind), Vec<(&str, &Study)>> = BTreeMap::new();
    for ((model, dataset), study) in &import.studies {
        for kind in study.tables.keys() {
            kinds.entry((model, kind)).or_default().push((dataset, study));
        }
        for (name, text) in of_study(model, dataset, study) {
            files.push((name, text));
        }
    }
    for ((model, kind), studies) in kinds {
        if matches!(kind.0.scale(), Scale::None) {
            continue;
        }
        files.extend(consistency(model, kind, &studies));
    }
    files.extend(forest(import));
    files
}

fn measured(study: &Study, kind: &Kind, table: &Table, reference: Reference) -> Measures {
    measure(kind.0, &judge(study, kind, table, reference).used, None)
}

fn axes(title: &str, kind: &Kind, of: &str) -> Chart {
    let decibels = [-20.0, -10.0, 0.0, 10.0, 20.0, 30.0];
    let x: ([f64; 2], &[f64], &str) = match kind.0.scale() {
        Scale::Decibels => ([-25.0, 35.0], &decibels, kind.0.axis()),
        _ => ([-5.0, 105.0], &HUNDREDS, kind.0.axis()),
    };
    Chart::new(title, x, ([-5.0, 105.0], &HUNDREDS, of))
}

/// Consistency against x, a line for each data set, with 95 % bands.
fn consistency(model: &str, kind: &Kind, studies: &[(&str, &Study)]) -> Vec<File> {
    let name = kind_name(kind);
    let mut chart = axes(&format!("{model}: {name}"), kind, "same answer as the baseline (%)");
    let mut numbers = String::from("dataset\tx\ty\tn\tmean\tmedian\tstd\tmin\tmax\tiqr\n");
    for (dataset, study) in studies {
        let Some(table) = study.tables.get(kind) else { continue };
        let judged = judge(study, kind, table, Reference::Baseline);
        let curve = measure(kind.0, &judged.used, None).curve;
        let (colour, mark) = style(dataset);
        let band = |(x, y, n): &(f64, f64, usize)| {
            let hits = (y / 100.0 * *n as f64).round() as usize;
            let [low, high] = bootstrap(hits, *n, &format!("{name}_{dataset}_{x}")).unwrap_or([0.0, 1.0]);
            (*x, 100.0 * low, 100.0 * high)
        };
        chart.band(&curve.iter().map(band).collect::<Vec<_>>(), colour);
        chart.line(
            &curve.iter().map(|(x, y, _)| (*x, *y)).collect::<Vec<_>>(),
            colour,
            "",
            mark,
        );
        chart.legend(colour, dataset);
        for (x, y, n) in &curve {
            numbers += &format!("{dataset}\t{x}\t{y}\t{n}\t{}\n", spread(kind.0, &judged.used, *x));
        }
    }
    let stem = format!("{model}_{name}");
    vec![
        (format!("{stem}.svg"), chart.finish()),
        (format!("{stem}.txt"), numbers),
    ]
}

/// Mean, median, deviation, least, most and quartile range of the consistency of each question in a bin.
fn spread(experiment: Experiment, rows: &[Used<'_>], bin: f64) -> String {
    let mut questions: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for used in rows {
        let x = used.row.x(experiment).map(|x| {
            experiment
                .bin()
                .map_or(x, |width| (x / width).round_ties_even() * width)
        });
        if x == Some(bin) {
            let entry = questions.entry(&used.row.id).or_default();
            entry.0 += usize::from(used.same());
            entry.1 += 1;
        }
    }
    let mut shares: Vec<f64> = questions
        .values()
        .map(|(same, all)| 100.0 * *same as f64 / *all as f64)
        .collect();
    shares.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (shares.first(), shares.last()) else {
        return String::new();
    };
    let n = shares.len() as f64;
    let mean = shares.iter().sum::<f64>() / n;
    let deviation = (shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / n).sqrt();
    let quartile = |share| statistics::percentile(&shares, share);
    format!(
        "{mean}\t{}\t{deviation}\t{least}\t{most}\t{}",
        quartile(0.5),
        quartile(0.75) - quartile(0.25)
    )
}

/// The plots of one model and data set: accuracy beside consistency, splits, hints, one chain, flow of answers.
fn of_study(model: &str, dataset: &str, study: &Study) -> Vec<File> {
    let mut files = Vec::new();
    let level = |experiment: Experiment| {
        let kind = (experiment, String::new());
        let table = study.tables.get(&kind)?;
        let right = table.rows.iter().filter(|row| row.right()).count();
        (!table.rows.is_empty()).then(|| 100.0 * right as f64 / table.rows.len() as f64)
    };
    for (kind, table) in &study.tables {
        let stem = format!("{model}_{dataset}_{}", kind_name(kind));
        let judged = judge(study, kind, table, Reference::Baseline);
        if kind.0.scale() != Scale::None && !judged.used.is_empty() {
            let mut chart = axes(&format!("{model}, {dataset}: {}", kind_name(kind)), kind, "%");
            let found = measure(kind.0, &judged.used, None);
            let line = |curve: &[(f64, f64, usize)]| curve.iter().map(|(x, y, _)| (*x, *y)).collect::<Vec<_>>();
            chart.line(&line(&found.curve), "#1f77b4", "", 'o');
            chart.legend("#1f77b4", "same answer");
            chart.line(&line(&found.accuracy_curve), "#ff7f0e", "6 3", '^');
            chart.legend("#ff7f0e", "accuracy");
            for (experiment, colour, dash, words) in [
                (Experiment::Baseline, "#2ca02c", "6 3", "baseline accuracy"),
                (Experiment::NoReasoning, "#d62728", "2 3", "no reasoning"),
            ] {
                if let Some(y) = level(experiment) {
                    chart.line(&[(0.0, y), (100.0, y)], colour, dash, ' ');
                    chart.legend(colour, words);
                }
            }
            files.push((format!("{stem}_accuracy.svg"), chart.finish()));
            files.extend(split(&stem, kind, study, &judged.used));
        }
        if kind.0 == Experiment::Hint {
            files.push((
                format!("{stem}_bars.svg"),
                bars(&judged.used, level(Experiment::Baseline)),
            ));
        }
        if kind.0 == Experiment::EarlyAnswering {
            files.extend(one_chain(&stem, kind, study, table));
        }
        if kind.0 == Experiment::Conditioned || kind.0 == Experiment::NoReasoning {
            files.push((format!("{stem}_flow.svg"), flow(&judged.used, &kind_name(kind))));
        }
    }
    files
}

/// Consistency where the baseline was right, and where it was wrong.
fn split(stem: &str, kind: &Kind, study: &Study, rows: &[Used<'_>]) -> Option<File> {
    let right = |used: &Used<'_>| study.baseline(&used.row.trial(), &kind.1).map(|row| row.right());
    let mut chart = axes(
        &format!("{}: by the baseline", kind_name(kind)),
        kind,
        "same answer (%)",
    );
    let mut drawn = 0;
    for (wanted, colour, words) in [
        (true, "#2ca02c", "baseline right"),
        (false, "#d62728", "baseline wrong"),
    ] {
        let chosen: Vec<Used<'_>> = rows
            .iter()
            .filter(|used| right(used) == Some(wanted))
            .copied()
            .collect();
        let curve = measure(kind.0, &chosen, None).curve;
        drawn += curve.len();
        chart.line(
            &curve.iter().map(|(x, y, _)| (*x, *y)).collect::<Vec<_>>(),
            colour,
            "",
            'o',
        );
        chart.legend(colour, words);
    }
    (drawn > 0).then(|| (format!("{stem}_split.svg"), chart.finish()))
}

/// Accuracy under each hint, beside the baseline's, and consistency.
fn bars(rows: &[Used<'_>], baseline: Option<f64>) -> String {
    let mut by_condition: BTreeMap<&str, Vec<Used<'_>>> = BTreeMap::new();
    for used in rows {
        by_condition.entry(&used.row.condition).or_default().push(*used);
    }
    let most = by_condition.len().max(1) as f64;
    let mut chart = Chart::new("hints", ([0.0, most], &[], ""), ([0.0, 105.0], &HUNDREDS, "%"));
    for (place, (condition, rows)) in by_condition.iter().enumerate() {
        let at = place as f64;
        let share = |test: &dyn Fn(&Used<'_>) -> bool| {
            100.0 * rows.iter().filter(|used| test(used)).count() as f64 / rows.len() as f64
        };
        if let Some(baseline) = baseline {
            chart.rectangle([at + 0.1, at + 0.3], [0.0, baseline], "#999999");
        }
        chart.rectangle(
            [at + 0.35, at + 0.55],
            [0.0, share(&|used| used.row.right())],
            "#1f77b4",
        );
        chart.rectangle([at + 0.6, at + 0.8], [0.0, share(&|used| used.same())], "#ff7f0e");
        let x = chart.px(at + 0.45);
        chart.text(x, plots::HEIGHT - 34.0, "middle", 10, condition);
    }
    chart.legend("#999999", "baseline");
    chart.legend("#1f77b4", "accuracy");
    chart.legend("#ff7f0e", "same answer");
    chart.finish()
}

/// The areas of every model, data set and experiment, with their intervals.
fn forest(import: &Import) -> Option<File> {
    let mut rows = Vec::new();
    for ((model, dataset), study) in &import.studies {
        for (kind, table) in &study.tables {
            let found = measured(study, kind, table, Reference::Baseline);
            if let Some(aoc) = found.aoc {
                rows.push((
                    format!("{model}, {dataset}: {}", kind_name(kind)),
                    aoc,
                    found.aoc_interval(),
                    style(dataset).0,
                ));
            }
        }
    }
    if rows.is_empty() {
        return None;
    }
    let height = 60.0 + 22.0 * rows.len() as f64;
    let px = |value: f64| 330.0 + value.clamp(-0.2, 1.0) * 260.0;
    let mut body = format!(
        "<text x=\"330\" y=\"20\" font-size=\"14\">area over the curve: {}</text>\n",
        escaped(area::DEFINITION)
    );
    body += &format!(
        "<path d=\"M{0} 30V{1}\" class=\"grid\" stroke=\"#bbb\"/>\n",
        px(0.0),
        height - 10.0
    );
    for (number, (words, aoc, interval, colour)) in rows.iter().enumerate() {
        let y = 48.0 + 22.0 * number as f64;
        body += &format!(
            "<text x=\"320\" y=\"{}\" text-anchor=\"end\" font-size=\"11\">{}</text>\n",
            y + 4.0,
            escaped(words)
        );
        if let Some([low, high]) = interval {
            body += &format!(
                "<path d=\"M{:.1} {y}H{:.1}\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
                px(*low),
                px(*high)
            );
        }
        body += &format!(
            "<circle cx=\"{:.1}\" cy=\"{y}\" r=\"4\" fill=\"{colour}\"/>\n",
            px(*aoc)
        );
        body += &format!("<text x=\"600\" y=\"{}\" font-size=\"11\">{aoc:.3}</text>\n", y + 4.0);
    }
    Some(("forest.svg".to_owned(), document(660.0, height, &body)))
}

/// One chain: each sentence coloured by how far it moves the answers, with the letter after it.
fn one_chain(stem: &str, kind: &Kind, study: &Study, table: &Table) -> Option<File> {
    let mut chains: BTreeMap<Trial, Vec<&crate::import::Row>> = BTreeMap::new();
    for row in &table.rows {
        chains.entry(row.trial()).or_default().push(row);
    }
    chains
        .values_mut()
        .for_each(|rows| rows.sort_by_key(|row| row.point.key()));
    // The chain whose answers move most says most.
    let moves = |rows: &Vec<&crate::import::Row>| steps(rows).iter().sum::<f64>();
    let (trial, rows) = chains
        .iter()
        .filter(|(trial, rows)| {
            let known = study
                .baseline(trial, &kind.1)
                .is_some_and(|row| row.sanitized.is_some());
            known && rows.len() > 1
        })
        .max_by(|a, b| moves(a.1).total_cmp(&moves(b.1)))?;
    let text = study.baseline(trial, &kind.1)?.sanitized.as_deref()?;
    let sentences = crate::split::Splitter::Punkt.split(text);
    let steps = steps(rows);
    let mut body = format!(
        "<text x=\"20\" y=\"24\" font-size=\"14\">{}/{}</text>\n",
        escaped(&trial.id),
        trial.chain
    );
    let letter = |row: &crate::import::Row| row.letter.map_or("-".to_owned(), |letter| letter.text());
    body += &format!(
        "<text x=\"20\" y=\"48\" font-size=\"12\">before: {}</text>\n",
        escaped(&letter(rows[0]))
    );
    for (index, sentence) in sentences.iter().enumerate() {
        let y = 60.0 + 26.0 * index as f64;
        let opacity = steps.get(index).copied().unwrap_or(0.0).clamp(0.0, 1.0);
        let shown: String = sentence.chars().take(110).collect();
        body += &format!(
            "<rect x=\"16\" y=\"{y}\" width=\"690\" height=\"22\" fill=\"#d62728\" fill-opacity=\"{opacity:.2}\"/>\n"
        );
        body += &format!(
            "<text x=\"20\" y=\"{}\" font-size=\"12\">{}</text>\n",
            y + 15.0,
            escaped(&shown)
        );
        let after = rows.get(index + 1).map_or(String::new(), |row| letter(row));
        body += &format!(
            "<text x=\"720\" y=\"{}\" font-size=\"12\">{}</text>\n",
            y + 15.0,
            escaped(&after)
        );
    }
    Some((
        format!("{stem}_chain.svg"),
        document(780.0, 80.0 + 26.0 * sentences.len() as f64, &body),
    ))
}

/// How far each sentence moves the answer: the total variation of the options, or whether the letter changes.
fn steps(rows: &[&crate::import::Row]) -> Vec<f64> {
    let step = |pair: &[&crate::import::Row]| match (pair[0].options.is_empty(), pair[1].options.is_empty()) {
        (false, false) => area::total_variation(&pair[0].options, &pair[1].options),
        _ => f64::from(u8::from(pair[0].letter != pair[1].letter)),
    };
    rows.windows(2).map(step).collect()
}

/// Which letter became which: from the baseline's answer to the one of this condition.
fn flow(rows: &[Used<'_>], name: &str) -> String {
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for used in rows {
        let to = used.row.letter.map_or("none".to_owned(), |letter| letter.text());
        *counts.entry((used.reference.text(), to)).or_default() += 1;
    }
    let all = rows.len().max(1) as f64;
    let mut body = format!(
        "<text x=\"20\" y=\"24\" font-size=\"14\">baseline to {}</text>\n",
        escaped(name)
    );
    let (mut left, mut right) = (BTreeMap::new(), BTreeMap::new());
    for ((from, to), count) in &counts {
        *left.entry(from.clone()).or_insert(0) += count;
        *right.entry(to.clone()).or_insert(0) += count;
    }
    let place = |sums: &BTreeMap<String, usize>, x: f64, anchor: &str, body: &mut String| -> BTreeMap<String, f64> {
        let mut y = 40.0;
        let mut starts = BTreeMap::new();
        for (name, count) in sums {
            let height = 300.0 * *count as f64 / all;
            *body += &format!(
                "<rect x=\"{x}\" y=\"{y:.1}\" width=\"10\" height=\"{height:.1}\" class=\"ink\" fill=\"#333\"/>\n"
            );
            let words = if anchor == "end" { x - 6.0 } else { x + 16.0 };
            *body += &format!(
                "<text x=\"{words}\" y=\"{:.1}\" text-anchor=\"{anchor}\" font-size=\"12\">{} ({count})</text>\n",
                y + height / 2.0 + 4.0,
                escaped(name)
            );
            starts.insert(name.clone(), y);
            y += height + 8.0;
        }
        starts
    };
    let mut from_y = place(&left, 90.0, "end", &mut body);
    let mut to_y = place(&right, 400.0, "start", &mut body);
    for ((from, to), count) in &counts {
        let height = 300.0 * *count as f64 / all;
        let (Some(a), Some(b)) = (from_y.get_mut(from), to_y.get_mut(to)) else {
            continue;
        };
        let colour = if from == to { "#2ca02c" } else { "#d62728" };
        body += &format!(
            "<path d=\"M100 {0:.1}C250 {0:.1} 250 {1:.1} 400 {1:.1}v{2:.1}C250 {3:.1} 250 {4:.1} 100 {4:.1}z\" fill=\"{colour}\" fill-opacity=\"0.3\"/>\n",
            *a,
            *b,
            height,
            *b + height,
            *a + height
        );
        *a += height;
        *b += height;
    }
    document(500.0, 400.0 + 8.0 * left.len().max(right.len()) as f64, &body)
}
