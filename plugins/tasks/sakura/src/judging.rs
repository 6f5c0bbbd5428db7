//! The official protocol: a judge is shown question, expected answer and response, and says in a fixed form whether
//! they agree.
//!
//! The wording is ours, after the authors' published criteria, points of their examples, form of reply and sampling
//! settings. Figures for a paper should name the judge's model.

use crate::official::{Judgement, Verdict};
use plugin_api::{Call, Message, Prompt, Result, Sampling};

/// The role that a judge's model plays.
pub(crate) const ROLE: &str = "judge";

const SYSTEM: &str = "You are a careful and fair judge. You are given a multiple-choice question about a recording, the right answer and \
a response that somebody gave. Decide whether the response is correct.";

const CRITERIA: &str = "Decide whether the response is correct, by these rules:
- Exactly one option is right. A response that chooses no option, or more than one, is incorrect.
- A response that chooses one option is correct when that option agrees with the right answer, and incorrect otherwise.
- What counts is which option is chosen, not how: a letter, a sentence or another form of the same word will do.
Read the question, the right answer and the response carefully.

Examples, all for the question `Which emotion is heard? (a) happy (b) sad (c) fear (d) angry` with the right answer `(b) sad`:
- `The speaker is bored.` names none of the options: incorrect.
- `It is either (b) sad or (c) fear.` names two options: incorrect.
- `(d) angry` is the wrong option: incorrect.
- `The speaker sounds sad.` is the right option in a sentence: correct.
- `What is heard is sadness.` is the right option in another word form: correct.

Question: ";

const FORM: &str = "

Reply in exactly two lines, the second of which ends with correct or incorrect and nothing else:
Explanation: (why, in one line)
Judgement: (correct or incorrect)";

/// What a judge is asked.
pub(crate) fn prompt(question: &str, truth: &str, response: &str) -> Prompt {
    let asked = format!("{CRITERIA}{question}\nRight answer: {truth}\nResponse: {response}{FORM}");
    let sampling = Sampling {
        top_p: Some(0.9),
        ..Sampling::greedy(1024)
    };
    Prompt {
        thinking: Some(false),
        ..Prompt::new([Message::system(SYSTEM), Message::user(asked)]).sample(sampling)
    }
}

/// A judge's reply and its verdict.
pub(crate) struct Judged {
    pub raw: String,
    pub verdict: Verdict,
    pub explanation: String,
    pub prompt_tokens: u64,
    pub generated_tokens: u64,
}

/// Asks the host's judge.
pub(crate) fn judge(question: &str, truth: &str, response: &str, call: &Call) -> Result<Judged> {
    let reply = call.generate(ROLE, &prompt(question, truth, response))?;
    let read = Judgement::read(&reply.text);
    Ok(Judged {
        verdict: read.verdict(),
        explanation: read.explanation.to_owned(),
        prompt_tokens: u64::from(reply.usage.prompt_tokens),
        generated_tokens: u64::from(reply.usage.generated_tokens),
        raw: reply.text,
    })
}
