//! FinQA: questions about a page of a financial report, answered by a small program.
//!
//! What a model writes is the `target`:
//!
//! - `program`: a program in the data's own language, scored by the official rules (`execution_accuracy`,
//!   `program_accuracy`). The default.
//! - `numerical`: the number that the program comes to (`value_accuracy`: equal after rounding to five decimals).
//! - `answer`: the answer as a report puts it (`answer_accuracy`).
//!
//! What it is shown is `inputs`: `all` of the page, the `gold` facts, these among distractors (`noisy_gold`), or the
//! facts that a retriever picked (`model_input`).
//!
//! The decision a newcomer would question: [`official`] reproduces the official scorer with its oddities, and leniency
//! has a metric of its own. `lenient_accuracy` forgives percent signs and rounding; no other metric forgives anything.
//!
//! ```
//! use finqa::official::{Value, execute, tokens};
//!
//! let table = [["", "2019", "2020"], ["net sales", "$ 80", "$ 120 ( 1 )"]];
//! let table: Vec<Vec<String>> = table.map(|row| row.map(str::to_owned).to_vec()).to_vec();
//! let run = execute(&tokens("table_max(net sales, none), divide(#0, const_100)"), &table);
//! assert_eq!((run.invalid, run.value), (false, Value::Number(1.2)));
//! ```

mod context; // the shown part of a page
mod example; // one row as published
mod files; // prediction files
mod lessons; // lessons for training
pub mod official; // the official scorer
mod parse_answer; // programs and values out of free text
mod prompt; // prompts
mod scoring; // scores of replies
mod shots; // worked examples
mod splits; // which rows, from which file
mod test_predictions; // what the fine-tuning scripts write of a test

use context::{Inputs, Noise};
use data::Rows;
use example::{Example, Spot};
use lessons::Style;
use plugin_api::{
    Code, Error, Lesson, Message, Prompt, Reply, Result, Sample, Score, Settings, Task, TaskCard, export_plugin,
    register_files, register_task,
};
use prompt::Target;
use serde_json::{Value, json};
use shots::Shots;
use std::collections::BTreeMap;
use task::{Answering, one_of, row_of};
use template::Template;

register_task!("finqa", "FinQA: programs, numbers or answers from a page of a financial report", FinQa::load, {
    data: data = "ibm-research/finqa", "a file, a folder or a hub id: the authors' JSON, JSON lines or Parquet";
    split: text ["test", "dev", "validation", "train", "private_test"], "which part; by default the one in the file's name, or test";
    target: text ["program", "numerical", "answer"] = "program", "what the model writes: a program, the number it comes to, or the answer in words";
    inputs: text ["all", "gold", "noisy_gold", "model_input"] = "all", "what it is shown: the page, the facts it needs, these among others, or a retriever's facts";
    noisy_text_distractors: integer, "sentences beside those needed, with inputs noisy_gold; by default 3";
    noisy_table_distractors: integer, "table rows beside those needed, with inputs noisy_gold; by default 3, with style script 1 as in the published script";
    noisy_context_seed: integer, "seed of these draws, which differ for each example, with inputs noisy_gold; by default 0";
    shots: integer = 0, "worked examples before each question, from the train part";
    shots_data: path, "a file or folder for these examples, if the train part is not beside the data";
    style: text ["template", "script"] = "template", "the model's chat template, or the format of the published scripts: plain text, numbers as Python prints them, and the answer in place of a result of zero";
    instruction: text, "the first line in style script; by default a sentence for the target";
    template: path, "a Jinja template that replaces the built-in one";
    thinking: flag = false, "lets the model reason first";
    max_tokens: integer, "the longest answer; by default 256, with thinking 8192";
});
register_files!("finqa", "the authors' prediction files", |_settings| Ok(
    files::Predictions
));
export_plugin!();

struct FinQa {
    rows: Rows,
    split: Option<String>,
    target: (&'static str, Target),
    inputs: (&'static str, Inputs),
    template: Template,
    style: lessons::Style,
    instruction: Option<String>,
    shots: Shots,
    answering: Answering,
}

impl FinQa {
    fn load(settings: &Settings) -> Result<FinQa> {
        let targets = [
            ("program", Target::Program),
            ("numerical", Target::Numerical),
            ("answer", Target::Answer),
        ];
        let style = one_of(settings, "style", &lessons::STYLES)?.1;
        let rows = if style == Style::Script { 1 } else { 3 };
        let noise = Noise {
            sentences: settings.or("noisy_text_distractors", 3)?,
            rows: settings.or("noisy_table_distractors", rows)?,
            seed: settings.or("noisy_context_seed", 0)?,
        };
        let inputs = [
            ("all", Inputs::All),
            ("gold", Inputs::Gold),
            ("noisy_gold", Inputs::NoisyGold(noise)),
            ("model_input", Inputs::Retrieved),
        ];
        let target = one_of(settings, "target", &targets)?;
        let inputs = one_of(settings, "inputs", &inputs)?;
        // The scripts' commands contain all three, whatever the inputs.
        if !matches!(inputs.1, Inputs::NoisyGold(_)) && style == Style::Template {
            let idle = [
                "noisy_text_distractors",
                "noisy_table_distractors",
                "noisy_context_seed",
            ];
            if let Some(name) = idle
                .iter()
                .find(|name| settings.0.get(**name).is_some_and(|value| !value.is_null()))
            {
                let message = format!("setting `{name}` has no effect with inputs `{}`", inputs.0);
                return Err(Error::new(Code::SETTINGS, message).help("add `-T inputs=noisy_gold`"));
            }
        }
        let (rows, split) = splits::rows(settings)?;
        let mut task = FinQa {
            rows,
            split,
            target,
            inputs,
            template: Template::load(settings, include_str!("prompt.jinja"))?,
            style,
            instruction: settings.get("instruction")?,
            shots: Shots::default(),
            answering: Answering::load(settings, 256, 8192)?,
        };
        // Worked examples have the format of the task's own questions and answers.
        let words = |example: &Example| Ok((task.asked(example)?, task.said(example)?));
        task.shots = Shots::load(settings, words)?;
        Ok(task)
    }
}

impl Task for FinQa {
    fn card(&self) -> TaskCard {
        let mut card = TaskCard::new("finqa", "1").with_metrics(scoring::metrics(self.target.1).iter().copied());
        card.split.clone_from(&self.split);
        card.filter = Some(self.target.0.to_owned());
        card.shots = self.shots.count();
        card.other.insert("target".to_owned(), json!(self.target.0));
        card.other.insert("inputs".to_owned(), json!(self.inputs.0));
        card.other
            .insert("training".to_owned(), lessons::training(self.target.1));
        if self.style == Style::Script {
            card.other.insert("style".to_owned(), json!("script"));
        }
        let hash = json!(self.template.hash);
        card.other.insert("template_hash".to_owned(), hash);
        if let Inputs::NoisyGold(noise) = self.inputs.1 {
            let counts = json!({"sentences": noise.sentences, "rows": noise.rows, "seed": noise.seed});
            card.other.insert("noise".to_owned(), counts);
        }
        card
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        let row = self.rows.get(index)?;
        let example = Example::read(&row)?;
        Ok(Sample {
            target: prompt::said(&example, self.target.1).into(),
            groups: groups(&example),
            cluster: Some(page_of(&example.id).to_owned()),
            id: example.id,
            doc: row.value,
            ..Sample::default()
        })
    }

    fn prompt(&self, sample: &Sample) -> Result<Prompt> {
        let example = example_of(sample)?;
        let mut messages = self.shots.before(&example)?;
        messages.push(Message::user(self.asked(&example)?));
        Ok(Prompt {
            plain: self.style == Style::Script,
            ..self.answering.prompt(messages)
        })
    }

    fn score(&self, sample: &Sample, reply: &Reply) -> Result<Score> {
        Ok(scoring::score(&example_of(sample)?, self.target.1, reply))
    }

    fn prepared(&self, sample: &Sample) -> Result<Value> {
        let example = example_of(sample)?;
        let target = self.said(&example)?;
        Ok(json!({
            "id": example.id, "question": example.question.trim(), "context": context::context(&example, self.inputs.1)?,
            "prompt": self.asked(&example)?, "target": target,
        }))
    }

    fn lesson(&self, sample: &Sample) -> Result<Lesson> {
        let example = example_of(sample)?;
        if self.style == Style::Script {
            return Ok(lessons::lesson(&example, self.asked(&example)?, self.target.1));
        }
        let question = Message::user(self.asked(&example)?);
        Ok(task::lesson(&example.id, question, self.said(&example)?))
    }
}

impl FinQa {
    /// What is learnt of an example.
    fn said(&self, example: &Example) -> Result<String> {
        prompt::said(example, self.target.1).ok_or_else(|| {
            let message = format!("sample `{}` has no {} to learn", example.id, self.target.0);
            Error::new(Code::DATA, message).help("the private test is published without answers")
        })
    }

    fn asked(&self, example: &Example) -> Result<String> {
        let context = context::context(example, self.inputs.1)?;
        if self.style == Style::Script {
            return Ok(lessons::asked(
                example,
                &context,
                self.target.1,
                self.instruction.as_deref(),
            ));
        }
        self.template.render(json!({
            "id": example.id,
            "question": example.question.trim(),
            "context": context,
            "table": example.table,
            "target": self.target.0,
            "inputs": self.inputs.0,
        }))
    }
}

fn example_of(sample: &Sample) -> Result<Example> {
    Example::read(&row_of(sample))
}

/// Questions about one page are not independent: `PAGE.pdf-2` is the second about it.
fn page_of(id: &str) -> &str {
    id.rsplit_once('-').map_or(id, |(page, _)| page)
}

/// Groups: the number of steps, the source of the facts, the last operator, and each operator.
fn groups(example: &Example) -> BTreeMap<String, String> {
    let mut groups = BTreeMap::new();
    let mut put = |name: &str, member: &str| groups.insert(name.to_owned(), member.to_owned());
    if let Some(tokens) = example.tokens() {
        let operators = official::operators(&tokens);
        put("steps", &operators.len().to_string());
        if let Some(last) = operators.last() {
            put("operator", last);
        }
        for operator in operators {
            put(&format!("uses_{operator}"), "yes");
        }
    }
    if let Some(gold) = &example.gold {
        let from = |wanted: fn(&Spot) -> bool| gold.iter().any(|fact| fact.spot.as_ref().is_some_and(wanted));
        let text = from(|spot| matches!(spot, Spot::Sentence(_)));
        let table = from(|spot| matches!(spot, Spot::TableRow(_)));
        match (text, table) {
            (true, true) => put("evidence", "both"),
            (true, false) => put("evidence", "text"),
            (false, true) => put("evidence", "table"),
            (false, false) => None,
        };
    }
    groups
}
