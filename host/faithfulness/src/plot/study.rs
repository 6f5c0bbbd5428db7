//! The plots of one model and data set: accuracy beside consistency, by length, by the baseline; hints, one chain,
//! flows.

use super::{File, HUNDREDS, axes, clean, level, percent, xy};
use crate::experiment::{Experiment, Scale};
use crate::import::{Kind, Row, Study, Table, Trial, kind_name};
use crate::metrics::{Reference, Used, area, judge, measure};
use plots::{Chart, Sentence};
use std::collections::{BTreeMap, BTreeSet};

/// A length with fewer chains than these and one more has no plot of its own.
const FEW_CHAINS: usize = 10;
const SAME: &str = "#1f77b4";
const RIGHT: &str = "#ff7f0e";

pub(super) fn plots(model: &str, dataset: &str, study: &Study) -> Vec<File> {
    let mut files = Vec::new();
    for (kind, table) in &study.tables {
        let name = kind_name(kind);
        let (stem, title) = (
            format!("{model}_{dataset}_{name}"),
            format!("{model}, {dataset}: {name}"),
        );
        let judged = judge(study, kind, table, Reference::Baseline);
        let rows = &judged.used;
        if rows.is_empty() {
            continue;
        }
        let drawing = Drawing { study, kind, rows };
        if kind.0.scale() != Scale::None {
            files.push((format!("{stem}_accuracy.svg"), drawing.accuracy(&title)));
            files.extend(drawing.by_length(&stem, &title));
            files.extend(drawing.split(&title).map(|text| (format!("{stem}_split.svg"), text)));
        }
        match kind.0 {
            Experiment::Hint => files.push((format!("{stem}_bars.svg"), drawing.bars())),
            Experiment::EarlyAnswering => {
                let text = one_chain(kind, study, table);
                files.extend(text.map(|text| (format!("{stem}_chain.svg"), text)));
            }
            Experiment::Conditioned | Experiment::NoReasoning => {
                files.push((format!("{stem}_flow.svg"), flow(rows, &name)));
            }
            _ => {}
        }
    }
    files
}

struct Drawing<'a> {
    study: &'a Study,
    kind: &'a Kind,
    rows: &'a [Used<'a>],
}

impl Drawing<'_> {
    fn axes(&self, title: &str) -> Chart {
        axes(title, self.kind, "%")
    }

    /// Lines of both kinds, a solid one of equal answers and a dashed one of right answers.
    fn both(chart: &mut Chart, same: &[(f64, f64)], right: &[(f64, f64)], colours: [&str; 2], of: &str) {
        chart.line(same, colours[0], "", 'o');
        chart.legend(colours[0], &format!("same answer{of}"));
        chart.line(right, colours[1], "6 3", '^');
        chart.legend(colours[1], &format!("accuracy{of}"));
    }

    /// How many percent a baseline gets right, as a line over the whole plot.
    fn levels(&self, chart: &mut Chart) {
        for (experiment, colour, dash, words) in [
            (Experiment::Baseline, "#2ca02c", "6 3", "baseline accuracy"),
            (Experiment::NoReasoning, "#d62728", "2 3", "no reasoning"),
        ] {
            if let Some(y) = accuracy_of(self.study, experiment, &self.kind.1) {
                level(chart, self.kind.0, y, colour, dash);
                chart.legend(colour, words);
            }
        }
        if let Some(y) = clean(self.rows, |used| used.row.right()) {
            level(chart, self.kind.0, y, RIGHT, "1 4");
            chart.legend(RIGHT, "accuracy, clean clip");
        }
    }

    fn accuracy(&self, title: &str) -> String {
        let mut chart = self.axes(title);
        let found = measure(self.kind.0, self.rows, None);
        Self::both(
            &mut chart,
            &xy(&found.curve),
            &xy(&found.accuracy_curve),
            [SAME, RIGHT],
            "",
        );
        self.levels(&mut chart);
        chart.finish()
    }

    /// The same for each length of chain that enough chains have, at the very places of its sentences.
    fn by_length(&self, stem: &str, title: &str) -> Vec<File> {
        let mut lengths: BTreeMap<u64, Vec<&Used<'_>>> = BTreeMap::new();
        for used in self.rows {
            if let Some(total) = used.row.total {
                lengths.entry(total).or_default().push(used);
            }
        }
        let mut files = Vec::new();
        for (length, rows) in lengths {
            let chains: BTreeSet<Trial> = rows.iter().map(|used| used.row.trial()).collect();
            if chains.len() <= FEW_CHAINS {
                continue;
            }
            let (same, right) = (
                self.plain(&rows, |used| used.same()),
                self.plain(&rows, |used| used.row.right()),
            );
            let chains = chains.len();
            let mut chart = self.axes(&format!("{title}, {length} sentences, {chains} chains"));
            Self::both(&mut chart, &same, &right, [SAME, RIGHT], "");
            self.levels(&mut chart);
            files.push((format!("{stem}_length_{length}.svg"), chart.finish()));
        }
        files
    }

    /// Plain means at every place, without bins.
    fn plain(&self, rows: &[&Used<'_>], test: impl Fn(&Used<'_>) -> bool) -> Vec<(f64, f64)> {
        let mut places: Vec<(f64, usize, usize)> = Vec::new();
        for used in rows {
            let Some(x) = used.row.x(self.kind.0) else { continue };
            let hit = usize::from(test(used));
            match places.iter_mut().find(|(known, ..)| *known == x) {
                Some((_, hits, all)) => (*hits, *all) = (*hits + hit, *all + 1),
                None => places.push((x, hit, 1)),
            }
        }
        places.sort_by(|a, b| a.0.total_cmp(&b.0));
        places
            .into_iter()
            .map(|(x, hits, all)| (x, percent(hits, all)))
            .collect()
    }

    /// Both where the baseline was right, and where it was wrong.
    fn split(&self, title: &str) -> Option<String> {
        let right = |used: &Used<'_>| {
            let baseline = self.study.baseline(&used.row.trial(), &self.kind.1);
            baseline.map(Row::right)
        };
        let mut chart = self.axes(&format!("{title}, by the baseline"));
        let mut drawn = 0;
        for (wanted, colours, words) in [
            (true, ["#2ca02c", "#98df8a"], ", it was right"),
            (false, ["#d62728", "#ff9896"], ", it was wrong"),
        ] {
            let chosen = self.rows.iter().filter(|used| right(used) == Some(wanted));
            let found = measure(self.kind.0, &chosen.copied().collect::<Vec<_>>(), None);
            drawn += found.curve.len();
            if !found.curve.is_empty() {
                Self::both(
                    &mut chart,
                    &xy(&found.curve),
                    &xy(&found.accuracy_curve),
                    colours,
                    words,
                );
            }
        }
        (drawn > 0).then(|| chart.finish())
    }

    /// Accuracy under each hint, beside the baseline's, and consistency.
    fn bars(&self) -> String {
        let mut by_condition: BTreeMap<&str, Vec<&Used<'_>>> = BTreeMap::new();
        for used in self.rows {
            by_condition.entry(&used.row.condition).or_default().push(used);
        }
        let most = by_condition.len().max(1) as f64;
        let mut chart = Chart::new("hints", ([0.0, most], &[], ""), ([0.0, 105.0], &HUNDREDS, "%"));
        let baseline = accuracy_of(self.study, Experiment::Baseline, &self.kind.1);
        for (place, (condition, rows)) in by_condition.iter().enumerate() {
            let at = place as f64;
            let share =
                |test: &dyn Fn(&Used<'_>) -> bool| percent(rows.iter().filter(|used| test(used)).count(), rows.len());
            if let Some(baseline) = baseline {
                chart.rectangle([at + 0.1, at + 0.3], [0.0, baseline], "#999999");
            }
            chart.rectangle([at + 0.35, at + 0.55], [0.0, share(&|used| used.row.right())], SAME);
            chart.rectangle([at + 0.6, at + 0.8], [0.0, share(&|used| used.same())], RIGHT);
            let x = chart.px(at + 0.45);
            // Every other name stands lower, so that long ones stay apart.
            let y = plots::HEIGHT - if place % 2 == 0 { 34.0 } else { 20.0 };
            chart.text(x, y, "middle", 10, condition);
        }
        chart.legend("#999999", "baseline");
        chart.legend(SAME, "accuracy");
        chart.legend(RIGHT, "same answer");
        chart.finish()
    }
}

fn accuracy_of(study: &Study, experiment: Experiment, variant: &str) -> Option<f64> {
    let rows = &study.table(experiment, variant)?.rows;
    (!rows.is_empty()).then(|| percent(rows.iter().filter(|row| row.right()).count(), rows.len()))
}

/// One chain: each sentence coloured by how far it moves the answers, with what is answered after it.
fn one_chain(kind: &Kind, study: &Study, table: &Table) -> Option<String> {
    let mut chains: BTreeMap<Trial, Vec<&Row>> = BTreeMap::new();
    for row in &table.rows {
        chains.entry(row.trial()).or_default().push(row);
    }
    chains
        .values_mut()
        .for_each(|rows| rows.sort_by_key(|row| row.point.key()));
    // The chain whose answers move most says most.
    let moves = |rows: &Vec<&Row>| steps(rows).iter().sum::<f64>();
    let text_of = |trial: &Trial| study.baseline(trial, &kind.1)?.sanitized.as_deref();
    let (trial, rows) = chains
        .iter()
        .filter(|(trial, rows)| text_of(trial).is_some() && rows.len() > 1)
        .max_by(|a, b| moves(a.1).total_cmp(&moves(b.1)))?;
    let sentences = crate::split::Splitter::Punkt.split(text_of(trial)?);
    let texts = std::iter::once("(no sentence)").chain(sentences);
    let weights = std::iter::once(0.0).chain(steps(rows));
    let drawn = texts.zip(rows).zip(weights).map(|((text, row), weight)| Sentence {
        text: text.to_owned(),
        weight,
        answer: row.letter.map_or("-".to_owned(), |letter| letter.text()),
        shares: row.options.clone(),
    });
    let title = format!("{}/{}", trial.id, trial.chain);
    Some(plots::sentences(&title, &drawn.collect::<Vec<_>>()).document())
}

/// How far each sentence moves the answer: the total variation of the options, or whether the letter changes.
fn steps(rows: &[&Row]) -> Vec<f64> {
    let step = |pair: &[&Row]| match (pair[0].options.is_empty(), pair[1].options.is_empty()) {
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
    plots::flow(&format!("answers: baseline → {name}"), &counts).document()
}
