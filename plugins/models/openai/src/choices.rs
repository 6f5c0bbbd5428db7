//! Log-likelihoods of options: exact, or refused.

use crate::reply::scored;
use plugin_api::{Code, Error, OptionScore, Result};
use serde_json::{Value, json};
use text::Choices;

/// How options are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// Token ids of context and option, with `echo` or the engine's own form.
    Tokens,
    /// The option as the last message of the assistant.
    Continue,
    /// The most likely first tokens of an answer, which include the options.
    FirstToken,
    #[default]
    Off,
}

impl Way {
    pub fn word(self) -> &'static str {
        match self {
            Way::Tokens => "tokens",
            Way::Continue => "continue",
            Way::FirstToken => "first-token",
            Way::Off => "off",
        }
    }
}

/// The value for an option that was not among the returned tokens: below any that was. Its true value is unknown.
pub const UNSEEN: f64 = -1e30;
/// By rounding, the log-probability of a certain token may be above zero by this much.
const ABOVE: f64 = 1e-4;

pub fn fault(what: impl Into<String>) -> Error {
    Error::new(Code::SERVICE, what).context("the engine answered what can't be true")
}

/// The sum of the tokens' log-probabilities, each of which is checked.
pub fn sum(option: &str, tokens: &[(f64, bool)]) -> Result<OptionScore> {
    if let Some((logprob, _)) = tokens.iter().find(|(logprob, _)| *logprob > ABOVE) {
        return Err(fault(format!("a log-probability of {logprob}")));
    }
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    Ok(OptionScore {
        loglik: tokens.iter().map(|(logprob, _)| logprob).sum(),
        tokens: count(tokens.len()),
        bytes: count(option.len()),
        greedy: tokens.iter().all(|(_, greedy)| *greedy),
    })
}

/// The body that asks for the log-probabilities of some ids.
pub fn echo_body(model: &str, ids: &[u32], max_tokens: u32) -> Value {
    json!({ "model": model, "prompt": ids, "echo": true, "logprobs": 1, "max_tokens": max_tokens, "temperature": 0, "seed": 0 })
}

/// The ids of a context and one of its options.
pub fn whole(choices: &Choices, option: usize) -> Vec<u32> {
    [&choices.context[..], &choices.options[option]].concat()
}

/// Reads the reply of `echo` for `ids`, of which the last `own` are the option's.
pub fn read_echo(reply: &Value, option: &str, ids: &[u32], own: usize, max_tokens: u32) -> Result<OptionScore> {
    let columns = &reply["choices"][0]["logprobs"];
    let values = columns["token_logprobs"]
        .as_array()
        .ok_or_else(|| fault("no log-probabilities came"))?;
    if values.len() < ids.len() || values.len() > ids.len() + max_tokens as usize {
        return Err(fault(format!(
            "{} log-probabilities of {} tokens",
            values.len(),
            ids.len()
        )));
    }
    if let Some(read) = reply["choices"][0]["prompt_token_ids"].as_array()
        && !read
            .iter()
            .map(Value::as_u64)
            .eq(ids.iter().map(|id| Some(u64::from(*id))))
    {
        return Err(fault("other tokens than those that were sent"));
    }
    let token = |place: usize| {
        let logprob = values[place].as_f64().unwrap_or(f64::NAN);
        let top = columns["top_logprobs"][place].as_object();
        let best = top.map(|top| top.values().filter_map(Value::as_f64).fold(f64::NEG_INFINITY, f64::max));
        (logprob, best.is_some_and(|best| logprob >= best))
    };
    let tokens: Vec<(f64, bool)> = (ids.len() - own..ids.len()).map(token).collect();
    sum(option, &tokens)
}

/// The body of SGLang's own form.
pub fn native_body(ids: &[u32], own: usize) -> Value {
    json!({
        "input_ids": ids, "sampling_params": { "max_new_tokens": 0, "temperature": 0 }, "return_logprob": true,
        "logprob_start_len": (ids.len() - own).saturating_sub(1), "top_logprobs_num": 1,
    })
}

pub fn read_native(reply: &Value, option: &str, ids: &[u32], own: usize) -> Result<OptionScore> {
    let native = match &reply["native"] {
        Value::Array(items) => items.first().cloned().unwrap_or_default(),
        other => other.clone(),
    };
    let meta = &native["meta_info"];
    let entries = meta["input_token_logprobs"]
        .as_array()
        .ok_or_else(|| fault("no log-probabilities came"))?;
    let tops = meta["input_top_logprobs"].as_array();
    if entries.len() < own {
        return Err(fault(format!("{} log-probabilities of {own} tokens", entries.len())));
    }
    let mut tokens = Vec::with_capacity(own);
    for place in 0..own {
        let at = entries.len() - own + place;
        if entries[at][1].as_u64() != Some(u64::from(ids[ids.len() - own + place])) {
            return Err(fault("other tokens than those that were sent"));
        }
        let logprob = entries[at][0].as_f64().unwrap_or(f64::NAN);
        // Both lists end at the same token, but may begin at different ones.
        let top = tops.and_then(|tops| tops.get((tops.len() + at).checked_sub(entries.len())?));
        let best = top.and_then(|top| top[0][0].as_f64());
        tokens.push((logprob, best.is_some_and(|best| logprob >= best)));
    }
    sum(option, &tokens)
}

/// Reads prompts that end in the options, and finds where each option begins by its own text.
pub fn read_continued(replies: &[Value], options: &[String]) -> Result<Vec<OptionScore>> {
    let mut begins = None;
    let mut scores = Vec::with_capacity(options.len());
    for (reply, option) in replies.iter().zip(options) {
        let (values, ids) = continued(reply)?;
        let (mut text, mut at) = (String::new(), values.len());
        while at > 0 && text.len() < option.len() {
            at -= 1;
            text.insert_str(0, &piece(&values[at], ids[at]));
        }
        if text != *option {
            let error = Error::unsupported(format!(
                "the server's template changes the option `{option}` before it is read"
            ));
            return Err(error.help("score options another way: give `tokenizer`, or `choices=first-token`"));
        }
        if *begins.get_or_insert(at) != at {
            return Err(fault("options begin at different places of the same prompt"));
        }
        let token = |place: usize| {
            let own = &values[place][ids[place].to_string()];
            let logprob = own["logprob"].as_f64().unwrap_or(f64::NAN);
            let all = values[place].as_object().into_iter().flatten();
            let best = all
                .filter_map(|(_, entry)| entry["logprob"].as_f64())
                .fold(f64::NEG_INFINITY, f64::max);
            (logprob, logprob >= best)
        };
        let tokens: Vec<(f64, bool)> = (at..values.len()).map(token).collect();
        scores.push(sum(option, &tokens)?);
    }
    Ok(scores)
}

/// The log-probabilities of a whole prompt and its ids.
pub fn continued(reply: &Value) -> Result<(Vec<Value>, Vec<u64>)> {
    let places = [&reply["prompt_logprobs"], &reply["choices"][0]["prompt_logprobs"]];
    let values = places
        .into_iter()
        .find_map(Value::as_array)
        .ok_or_else(|| fault("no log-probabilities of the prompt came"))?;
    let places = [&reply["prompt_token_ids"], &reply["choices"][0]["prompt_token_ids"]];
    let ids = places
        .into_iter()
        .find_map(Value::as_array)
        .ok_or_else(|| fault("no ids of the prompt came"))?;
    let ids: Vec<u64> = ids.iter().filter_map(Value::as_u64).collect();
    match ids.len() == values.len() {
        true => Ok((values.clone(), ids)),
        false => Err(fault(format!(
            "{} log-probabilities of {} tokens",
            values.len(),
            ids.len()
        ))),
    }
}

fn piece(value: &Value, id: u64) -> String {
    value[id.to_string()]["decoded_token"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Looks for the options among the likeliest first tokens.
pub fn read_first(reply: &Value, options: &[String]) -> Result<(Vec<OptionScore>, usize)> {
    let tokens = scored(&reply["choices"][0]);
    let Some(first) = tokens.first() else {
        // No token is shown when the model ends its answer at once. Servers that never show one are reported when the
        // model is opened.
        let error = Error::new(Code::DATA, "option_not_seen: the model ends its answer before a word");
        return Err(error.help("let the model answer in words, or score options another way"));
    };
    let best = first
        .top
        .iter()
        .map(|token| token.logprob)
        .fold(first.logprob, f64::max);
    let find = |option: &str| {
        let all = || first.top.iter().chain([first]);
        let exact = all().find(|token| token.text == option);
        // Most templates end before a blank or remove it, so tokens that differ only in a leading blank count as
        // equal.
        exact.or_else(|| {
            all()
                .filter(|token| token.text.trim() == option.trim())
                .max_by(|a, b| a.logprob.total_cmp(&b.logprob))
        })
    };
    let mut unseen = 0;
    let mut scores = Vec::with_capacity(options.len());
    for option in options {
        scores.push(match find(option) {
            Some(token) => sum(option, &[(token.logprob, token.logprob >= best)])?,
            None => {
                unseen += 1;
                sum(option, &[(UNSEEN, false)])?
            }
        });
    }
    if unseen == options.len() {
        let error = Error::new(
            Code::DATA,
            "option_not_seen: none of the options is among the likeliest first tokens",
        );
        return Err(error.help("score options another way: give `tokenizer`, or let the model answer in words"));
    }
    Ok((scores, unseen))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(values: Value, top: Value) -> Value {
        json!({ "choices": [{ "logprobs": { "token_logprobs": values, "top_logprobs": top } }] })
    }

    #[test]
    fn echo_is_summed_over_the_options_own_tokens() {
        let top = json!([null, { "x": -1.0 }, { "c": -0.5 }, { "d": -0.25 }]);
        let score = read_echo(
            &echo(json!([null, -1.0, -0.5, -0.75]), top.clone()),
            " cd",
            &[1, 2, 3, 4],
            2,
            0,
        )
        .unwrap();
        assert_eq!(
            (score.loglik, score.tokens, score.bytes, score.greedy),
            (-1.25, 2, 3, false)
        );
        let greedy = read_echo(
            &echo(json!([null, -1.0, -0.5, -0.25]), top.clone()),
            " cd",
            &[1, 2, 3, 4],
            2,
            0,
        )
        .unwrap();
        assert!(greedy.greedy);
        let nan = read_echo(
            &echo(json!([null, -1.0, -0.5, null]), top.clone()),
            " cd",
            &[1, 2, 3, 4],
            2,
            0,
        )
        .unwrap();
        assert!(nan.loglik.is_nan());
        for wrong in [json!([null, -1.0, -0.5]), json!([null, -1.0, -0.5, 0.5]), json!(null)] {
            assert_eq!(
                read_echo(&echo(wrong, top.clone()), " cd", &[1, 2, 3, 4], 2, 0)
                    .unwrap_err()
                    .code,
                Code::SERVICE
            );
        }
    }

    #[test]
    fn sglangs_own_form_is_read_from_its_end() {
        let reply = json!({ "native": { "meta_info": { "input_token_logprobs": [[null, 2, "b"], [-0.5, 3, "c"], [-0.75, 4, "d"]],
            "input_top_logprobs": [null, [[-0.5, 3, "c"]], [[-0.25, 9, "x"]]] } } });
        let score = read_native(&reply, " cd", &[1, 2, 3, 4], 2).unwrap();
        assert_eq!((score.loglik, score.greedy), (-1.25, false));
        assert_eq!(
            read_native(&reply, " cd", &[1, 2, 3, 5], 2).unwrap_err().code,
            Code::SERVICE
        );
    }

    fn continued_reply(tokens: &[(&str, f64)]) -> Value {
        let ids: Vec<usize> = (0..tokens.len()).collect();
        let value = |(id, (text, logprob)): (usize, &(&str, f64))| {
            let mut entry = json!({});
            entry[id.to_string()] = json!({ "logprob": logprob, "rank": 1, "decoded_token": text });
            entry
        };
        json!({ "prompt_token_ids": ids, "prompt_logprobs": tokens.iter().enumerate().map(value).collect::<Vec<_>>() })
    }

    #[test]
    fn options_that_share_a_first_token_are_still_whole() {
        let one = continued_reply(&[("sky is", -9.0), (" bl", -0.5), ("ue", -0.25)]);
        let two = continued_reply(&[("sky is", -9.0), (" bl", -0.5), ("ack", -1.0)]);
        let scores = read_continued(&[one.clone(), two], &[" blue".to_owned(), " black".to_owned()]).unwrap();
        assert_eq!((scores[0].loglik, scores[1].loglik), (-0.75, -1.5));
        let error = read_continued(&[one], &["blue".to_owned()]).unwrap_err();
        assert_eq!(error.code, Code::UNSUPPORTED);
    }

    #[test]
    fn an_option_that_was_not_returned_is_below_all_that_were() {
        let reply = json!({ "choices": [{ "logprobs": { "content": [{ "token": "B", "logprob": -0.5, "top_logprobs": [
            { "token": "B", "logprob": -0.5 }, { "token": " A", "logprob": -1.5 }, { "token": "x", "logprob": -2.0 }] }] } }] });
        let options = ["A", "B", "C"].map(str::to_owned);
        let (scores, unseen) = read_first(&reply, &options).unwrap();
        assert_eq!(
            (scores[0].loglik, scores[1].loglik, scores[2].loglik, unseen),
            (-1.5, -0.5, UNSEEN, 1)
        );
        assert!(scores[1].greedy && !scores[0].greedy);
        assert!(
            read_first(&reply, &["Q".to_owned()])
                .unwrap_err()
                .message
                .starts_with("option_not_seen")
        );
    }
}
