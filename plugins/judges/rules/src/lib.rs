//! A judge by rules: an answer is right when it equals the target, as it stands, normalised, as a number, or by a
//! pattern.
//!
//! It needs no model and costs nothing, so it is useful to test a setup. The decision a newcomer would question: if a
//! rule can't decide (no target, no number in the answer, a pattern that finds nothing) the verdict is unscored and
//! counted, not wrong. If the task found no answer in the reply, it is wrong.

mod compare;

use compare::{Rule, Ruled};
use plugin_api::{
    Call, Case, Judge, JudgeCard, Result, Settings, Status, Verdict, export_plugin, register_judge, serde_json::Value,
};

register_judge!("rules", "Right when the answer equals the target, by a rule", Rules::load, {
    rule: text ["exact", "normalised", "regex", "number"] = "normalised", "how they are compared; normalised leaves out case, space and outer punctuation";
    of: text ["answer", "text"] = "answer", "what is judged: the answer that the task read from the reply, or the reply's text";
    pattern: text, "for rule regex: `{target}` stands for the target; what a group captures is compared with the target, without one a match is right";
    ignore_case: flag = false, "for rules exact and regex: case makes no difference";
    tolerance: number = 0, "for rule number: how far it may be off";
    relative: flag = false, "for rule number: the tolerance is a share of the target";
});
export_plugin!();

struct Rules {
    rule: Rule,
    of_text: bool,
}

impl Rules {
    fn load(settings: &Settings) -> Result<Rules> {
        let of = settings.or("of", "answer".to_owned())?;
        Ok(Rules {
            rule: Rule::load(settings)?,
            of_text: match of.as_str() {
                "answer" => false,
                "text" => true,
                _ => return Err(compare::not_among("of", &of, &["answer", "text"])),
            },
        })
    }
}

impl Judge for Rules {
    fn card(&self) -> JudgeCard {
        let mut card = JudgeCard::new("rules", "1");
        card.other.insert("rule".to_owned(), self.rule.word().into());
        card
    }

    fn judge(&self, case: &Case, _call: &mut Call) -> Result<Verdict> {
        let targets = match targets(&case.sample.target) {
            Ok(targets) => targets,
            Err(why) => return Ok(Verdict::unscored(why)),
        };
        let answer = match answer(case, self.of_text) {
            Ok(answer) => answer,
            Err(verdict) => return Ok(*verdict),
        };
        Ok(match self.rule.compare(answer, &targets) {
            Ruled::Right(reason) => Verdict::of(true, reason),
            Ruled::Wrong(reason) => Verdict::of(false, reason),
            Ruled::Unclear(reason) => Verdict::unscored(reason),
        })
    }
}

/// What is judged, or the verdict if there is nothing to judge.
fn answer(case: &Case, of_text: bool) -> std::result::Result<&str, Box<Verdict>> {
    let unscored = |why| Box::new(Verdict::unscored(why));
    let reply = &case.reply;
    if of_text {
        return match reply.text.is_empty() && !reply.options.is_empty() {
            true => Err(unscored("the reply scores options and has no text")),
            false => Ok(&reply.text),
        };
    }
    let Some(score) = &case.score else {
        return Err(unscored(
            "there is no answer of the task; judge the text with `of=text`",
        ));
    };
    match (&score.answer, score.status) {
        (_, Status::NoAnswer) => Err(Verdict::of(false, "the reply names no answer").into()),
        (Some(answer), _) => Ok(answer),
        (None, _) => Err(unscored(
            "the task read no answer from the reply; judge the text with `of=text`",
        )),
    }
}

/// The answers that are right: one, or any of a list.
fn targets(target: &Value) -> std::result::Result<Vec<String>, String> {
    let one = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Null => Err("the sample has no target".to_owned()),
        _ => Err("the target is neither text, nor a number, nor a list of them".to_owned()),
    };
    match target {
        Value::Array(several) if several.is_empty() => Err("the sample has no target".to_owned()),
        Value::Array(several) => several.iter().map(one).collect(),
        only => Ok(vec![one(only)?]),
    }
}
