//! SAKURA: what is heard in a clip (single-hop), and what follows from that (multi-hop), in four tracks.
//!
//! There are two scores. `rule_acc` reads the chosen option by our own rule ([`parse_answer`]) and needs no judge.
//! `judge_acc` is the official figure: a judge reads the response by the authors' protocol, when `judge=true` and a
//! model plays the role `judge`; the judge `sakura` does the same to a finished run. [`official`] reads the judge's
//! words.
//!
//! The decision a newcomer would question: a judge's reply without a judgement counts as wrong and is reported
//! separately, although every other judge of this project leaves such a sample out. The published figures are computed
//! that way.

pub mod official; // parsing the judge's reply
pub mod parse_answer;
pub mod question; // one question // our own rule

mod files; // the authors' files
mod judging; // the judge's prompt
mod samples; // which questions and clips
mod summary; // figures over many scores

use judging::Judged;
use official::Verdict;
use plugin_api::{
    Call, Case, Code, Cost, Error, Judge, JudgeCard, Lesson, Message, Metric, Part, Prompt, Reply, Result, Rows,
    Sample, Sampling, Score, Settings, Status, Task, TaskCard, export_plugin, register_files, register_judge,
    register_task,
};
use question::{Question, Track, letter};
use samples::{Samples, missing_clip};
use serde_json::json;
use summary::{INVALID, JUDGE, RULE, Summary};
use task::{Answering, one_of};
use template::{CLIP, Template, unmarked};

register_task!("sakura", "SAKURA: what is heard in a clip, and what follows from it", Sakura::load, {
    data: data required, "the repository or its data folder, a track's folder, hub ids, or a manifest of instructions and clips";
    track: text ["all", "gender", "language", "emotion", "animal"] = "all", "which track";
    hop: text ["both", "single", "multi"] = "both", "questions about what is heard, about what follows from it, or both";
    form: text ["inline", "listed", "open"] = "inline", "how options are shown: within the instruction as published, each on a line of its own, or not at all";
    data_root: path, "the folder that clips' paths start from; by default that of the data";
    strict_audio_missing: flag = false, "fails at once when a clip is missing, instead of once for each of its questions";
    reasoning: flag = true, "asks for reasons before the letter";
    judge: flag = false, "lets the model in the role `judge` rule on each response by the official protocol";
    template: path, "a Jinja template that replaces the built-in one";
    thinking: flag = false, "lets the model reason first in its own way";
    temperature: number = 0, "sampling temperature; several chains of a question differ only above 0";
    max_tokens: integer, "the longest answer; by default 512, without reasoning 64, with thinking 8192";
});
register_judge!(
    "sakura",
    "SAKURA's official protocol: does the response choose the right option?",
    |_settings| Ok(Official)
);
register_files!(
    "sakura",
    "the authors' results files and their judge's words",
    |_settings| Ok(files::Results)
);
export_plugin!();

/// How a question shows its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Inline,
    Listed,
    Open,
}

const FORMS: [(&str, Form); 3] = [("inline", Form::Inline), ("listed", Form::Listed), ("open", Form::Open)];

struct Sakura {
    samples: Samples,
    track: Option<Track>,
    form: Form,
    reasoning: bool,
    judged: bool,
    template: Template,
    answering: Answering,
    temperature: f32,
}

impl Sakura {
    fn load(settings: &Settings) -> Result<Sakura> {
        let reasoning = settings.or("reasoning", true)?;
        Ok(Sakura {
            samples: Samples::load(settings)?,
            track: Track::from_word(&settings.or("track", String::new())?),
            form: one_of(settings, "form", &FORMS)?.1,
            reasoning,
            judged: settings.or("judge", false)?,
            template: Template::load(settings, include_str!("prompt.jinja"))?,
            answering: Answering::load(settings, if reasoning { 512 } else { 64 }, 8192)?,
            temperature: settings.or("temperature", 0.0)?,
        })
    }

    /// The message about a sample. Without its clip there is nothing to ask.
    fn message(&self, sample: &Sample, question: &Question) -> Result<Message> {
        if sample.clips.is_empty() {
            let file = sample.doc["file"]
                .as_str()
                .map_or(String::new(), |file| format!(" `{file}`"));
            return Err(missing_clip(format!(
                "the clip{file} of sample `{}` is not there",
                sample.id
            )));
        }
        let open = self.form == Form::Open || question.options.is_empty();
        let inline = self.form == Form::Inline;
        let shown = (0..question.options.len()).filter_map(|index| question.option(index));
        let asked = self.template.render(json!({
            "clip": CLIP,
            "question": unmarked(if inline { &question.instruction } else { &question.stem }),
            "options": if self.form == Form::Listed { shown.map(|option| unmarked(&option)).collect() } else { Vec::new() },
            "lettered": !open,
            "reasoning": self.reasoning,
        }))?;
        Ok(Message {
            parts: template::with_clip(asked.trim(), Part::clip(0)),
            ..Message::default()
        })
    }

    /// The rule's reading of a reply, and whether it is right.
    fn by_rule(question: &Question, reply: &Reply) -> Score {
        let choice = parse_answer::choice(&reply.text, question);
        let Some(truth) = &question.truth else {
            return Score {
                answer: Some(choice.conclusion),
                ..Score::unscored()
            };
        };
        let reasoning = reply.thinking.clone().filter(|text| !text.trim().is_empty());
        let reasoning = reasoning.unwrap_or_else(|| choice.reasoning.clone());
        let open = question.options.is_empty();
        let right = match question.right {
            Some(right) => choice.option() == Some(right),
            None => score::normalised(&choice.conclusion) == score::normalised(truth),
        };
        let answered = if open {
            !choice.conclusion.is_empty()
        } else {
            choice.option().is_some()
        };
        let mut score = Score::value(RULE, f64::from(u8::from(right && answered)))
            .with_detail("conclusion", choice.conclusion.clone());
        if !reasoning.is_empty() {
            score = score.with_detail("reasoning", reasoning);
        }
        match choice.option() {
            Some(index) => score
                .with_detail("letter", letter(index).to_string())
                .with_answer(question.option(index).unwrap_or_default()),
            None if answered => score.with_answer(choice.conclusion),
            None => {
                let named: Vec<_> = choice.named.iter().map(|index| letter(*index).to_string()).collect();
                score.status = Status::NoAnswer;
                score.with_detail("named", named)
            }
        }
    }
}

impl Task for Sakura {
    fn card(&self) -> TaskCard {
        let names: &[&str] = if self.judged { &[JUDGE, RULE, INVALID] } else { &[RULE] };
        let mut card = TaskCard::new("sakura", "1").with_metrics(names.iter().copied());
        if let Some(invalid) = card.metrics.get_mut(2) {
            invalid.higher_is_better = false;
        }
        card.split = Some("test".to_owned());
        card.filter = Some("option".to_owned());
        card.has_clips = true;
        card.judge = Some("sakura".to_owned());
        card.other
            .insert("track".to_owned(), json!(self.track.map(Track::word)));
        let hash = json!(self.template.hash);
        card.other.insert("template_hash".to_owned(), hash);
        card
    }

    fn len(&self) -> usize {
        self.samples.len()
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        let found = self.samples.get(index)?;
        let doc = question::doc(&found.row, found.track, found.hop, &found.question);
        let mut sample = Sample {
            id: match (found.row.word("id"), found.hop) {
                (Ok(id), _) if !question::is_pair(&found.row) => id.into_owned(),
                (_, Some(hop)) => format!("{}-{}", found.clip, hop.word()),
                (_, None) => found.clip.clone(),
            },
            doc,
            target: found.question.truth.into(),
            choices: found.question.options,
            clips: found.sound.into_iter().collect(),
            cluster: Some(found.clip),
            blobs: found.row.blobs.clone(),
            ..Sample::default()
        };
        let there = if sample.clips.is_empty() { "missing" } else { "clip" };
        sample.groups.insert("audio".to_owned(), there.to_owned());
        let mut group = |name: &str, member: Option<&str>| {
            if let Some(member) = member.map(str::trim).filter(|member| !member.is_empty()) {
                sample.groups.insert(name.to_owned(), member.to_owned());
            }
        };
        let (track, hop) = (found.track.map(Track::word), found.hop.map(question::Hop::word));
        group("track", track);
        group("hop", hop);
        if let (Some(track), Some(hop)) = (track, hop) {
            group("set", Some(&format!("{track}-{hop}")));
        }
        group(
            "label",
            found.row.at("attribute_label").and_then(|label| label.as_str()),
        );
        group("gender", found.row.at("gender").and_then(|gender| gender.as_str()));
        Ok(sample)
    }

    fn prompt(&self, sample: &Sample) -> Result<Prompt> {
        let message = self.message(sample, &question_of(sample)?)?;
        Ok(self.answering.prompt([message]).sample(Sampling {
            temperature: Some(self.temperature),
            ..Sampling::greedy(self.answering.max_tokens)
        }))
    }

    fn score(&self, sample: &Sample, reply: &Reply) -> Result<Score> {
        Ok(Sakura::by_rule(&question_of(sample)?, reply))
    }

    fn score_with(&self, sample: &Sample, reply: &Reply, call: &mut Call) -> Result<Score> {
        let question = question_of(sample)?;
        let mut score = Sakura::by_rule(&question, reply);
        let Some(truth) = question.truth.as_deref().filter(|_| self.judged) else {
            return Ok(score);
        };
        let judged = judging::judge(&question.instruction, truth, &reply.text, call)?;
        if judged.verdict == Verdict::Correct {
            score.status = Status::Scored; // its judge decides whether it names an answer
        }
        let is = |verdict: Verdict| f64::from(u8::from(judged.verdict == verdict));
        Ok(score
            .and(JUDGE, is(Verdict::Correct))
            .and(INVALID, is(Verdict::Invalid))
            .with_detail("judge_verdict", judged.verdict.word())
            .with_detail("judge_explanation", judged.explanation)
            .with_detail("judge_reply", judged.raw))
    }

    fn metrics(&self, rows: &mut Rows) -> Result<Vec<Metric>> {
        let mut summary = Summary::default();
        for row in rows {
            summary.add(&row?);
        }
        Ok(summary.metrics())
    }

    fn lesson(&self, sample: &Sample) -> Result<Lesson> {
        let question = question_of(sample)?;
        let Some(truth) = &question.truth else {
            return Err(Error::new(
                Code::DATA,
                format!("sample `{}` has no answer to learn", sample.id),
            ));
        };
        let rationale = sample.doc["rationale"]
            .as_str()
            .map(str::trim)
            .filter(|text| !text.is_empty());
        let answer = match question.right {
            Some(right) if self.form != Form::Open => format!("({})", letter(right)),
            Some(right) => question.options[right].clone(),
            None => truth.clone(),
        };
        let said = match rationale.filter(|_| self.reasoning) {
            Some(rationale) => format!("{rationale}\nAnswer: {answer}"),
            None if self.reasoning => format!("Answer: {answer}"),
            None => answer,
        };
        Ok(task::lesson(&sample.id, self.message(sample, &question)?, said))
    }
}

/// The official protocol over a finished run.
struct Official;

impl Judge for Official {
    fn card(&self) -> JudgeCard {
        JudgeCard::new("sakura", "1")
    }

    fn judge(&self, case: &Case, call: &mut Call) -> Result<plugin_api::Verdict> {
        let Some(truth) = case.sample.target.as_str() else {
            return Ok(plugin_api::Verdict::unscored("the sample has no answer in words"));
        };
        // For samples of other tasks, the judge sees the question that the model was asked.
        let asked = case.sample.doc["instruction"].as_str().map(str::to_owned);
        let asked = asked.or_else(|| Some(case.prompt.as_ref()?.last_user_text()));
        let question = asked.unwrap_or_else(|| case.sample.doc.to_string());
        let Judged {
            raw,
            verdict,
            explanation,
            prompt_tokens,
            generated_tokens,
        } = judging::judge(&question, truth, &case.reply.text, call)?;
        let reason = match verdict {
            // Leaving it out of the mean would change the figure: see the head of this file.
            Verdict::Invalid => "invalid: the judge's words hold no judgement, which counts as wrong".to_owned(),
            _ => explanation,
        };
        Ok(plugin_api::Verdict {
            raw: Some(raw),
            cost: Cost {
                prompt_tokens,
                generated_tokens,
                ..Cost::default()
            },
            ..plugin_api::Verdict::of(verdict == Verdict::Correct, reason)
        })
    }
}

fn question_of(sample: &Sample) -> Result<Question> {
    Question::read(&task::row_of(sample), None)
}
