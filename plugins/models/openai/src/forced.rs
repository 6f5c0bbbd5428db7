//! Log-probabilities of a text's own tokens at engines that show only those of what they write: each token is forced by
//! a bias no other token can beat, and the log-probability that comes with it is the model's own, from before the bias.
//!
//! Whether it is from before is found out at opening, since a server that shows it from after would call every token
//! certain.

use crate::engine::Kind;
use crate::reply::scored;
use plugin_api::{Code, Error, Result};
use serde_json::{Map, Value, json};

/// Larger than the difference of any two logits.
const BIAS: f64 = 100.0;

/// The text before the forced token.
#[derive(Debug, Clone, Copy)]
pub enum Before<'a> {
    Ids(&'a [u32]),
    Text(&'a str),
}

/// A request for one token: its path, whether the path is outside `/v1`, and its body. None if the engine has no such
/// way.
pub fn request(
    kind: Kind,
    model: &str,
    before: Before<'_>,
    forced: Option<u32>,
) -> Option<(&'static str, bool, Value)> {
    match (kind, before) {
        (Kind::Llamacpp, Before::Ids(ids)) => {
            let bias: Vec<Value> = forced.iter().map(|id| json!([id, BIAS])).collect();
            let body = json!({
                "prompt": ids, "n_predict": 1, "temperature": 0, "seed": 0, "n_probs": 2, "post_sampling_probs": false, "cache_prompt": false,
                "logit_bias": bias, "top_k": 0, "top_p": 1, "min_p": 0, "repeat_penalty": 1,
            });
            Some(("/completion", true, body))
        }
        (Kind::LlamaCppPython, Before::Text(text)) => {
            let bias: Map<String, Value> = forced.iter().map(|id| (id.to_string(), json!(BIAS))).collect();
            let body = json!({
                "model": model, "prompt": text, "max_tokens": 1, "temperature": 0, "seed": 0, "logprobs": 2, "logit_bias": bias, "top_k": 0,
                "top_p": 1, "min_p": 0, "repeat_penalty": 1,
            });
            Some(("/completions", false, body))
        }
        _ => None,
    }
}

/// A server's data about the one token that it generated.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    pub logprob: f64,
    /// Whether it is the most likely token.
    pub greedy: bool,
    pub id: Option<u32>,
    /// The most likely tokens, as text and, if the server gives it, id.
    pub top: Vec<(String, Option<u32>, f64)>,
}

/// Reads a reply, new or recorded.
pub fn read(reply: &Value) -> Result<Token> {
    let fault =
        |what: &str| Error::new(Code::SERVICE, what.to_owned()).context("the engine answered what can't be true");
    let native = reply.get("native").unwrap_or(reply);
    let (own, entries) = match native["completion_probabilities"].as_array().map(Vec::as_slice) {
        Some([own]) => (
            native_token(own),
            own["top_logprobs"].as_array().cloned().unwrap_or_default(),
        ),
        Some(_) => return Err(fault("not one token came")),
        None => {
            let tokens = scored(&reply["choices"][0]);
            let [token] = &tokens[..] else {
                return Err(fault("not one token came"));
            };
            let top: Vec<_> = token
                .top
                .iter()
                .map(|it| (it.text.clone(), it.id, it.logprob))
                .collect();
            return Ok(finish((token.text.clone(), token.id, token.logprob), top));
        }
    };
    Ok(finish(own, entries.iter().map(native_token).collect()))
}

fn native_token(entry: &Value) -> (String, Option<u32>, f64) {
    let id = entry["id"].as_u64().and_then(|id| u32::try_from(id).ok());
    let text = entry["token"].as_str().unwrap_or_default().to_owned();
    (text, id, entry["logprob"].as_f64().unwrap_or(f64::NAN))
}

fn finish(own: (String, Option<u32>, f64), top: Vec<(String, Option<u32>, f64)>) -> Token {
    let best = top.iter().map(|(.., logprob)| *logprob).fold(own.2, f64::max);
    Token {
        logprob: own.2,
        greedy: own.2 >= best,
        id: own.1,
        top,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_servers_shapes_are_read() {
        let native = json!({ "completion_probabilities": [{ "id": 7, "token": " x", "logprob": -4.5,
            "top_logprobs": [{ "id": 9, "token": " a", "logprob": -1.0 }, { "id": 8, "token": " b", "logprob": -2.0 }] }] });
        let columns = json!({ "choices": [{ "logprobs": { "tokens": [" x"], "token_logprobs": [-4.5],
            "top_logprobs": [{ " a": -1.0, " b": -2.0, " x": -4.5 }] } }] });
        for reply in [native.clone(), json!({ "native": native })] {
            let token = read(&reply).unwrap();
            assert_eq!((token.logprob, token.greedy, token.id), (-4.5, false, Some(7)));
            assert_eq!(token.top[0], (" a".to_owned(), Some(9), -1.0));
        }
        let token = read(&columns).unwrap();
        assert_eq!((token.logprob, token.greedy, token.id), (-4.5, false, None));
        assert_eq!(token.top[1], (" b".to_owned(), None, -2.0));
        let none = json!({ "choices": [{ "logprobs": { "tokens": [], "token_logprobs": [], "top_logprobs": [] } }] });
        assert!(read(&none).unwrap_err().to_string().contains("can't be true"));
    }

    #[test]
    fn a_server_is_asked_in_its_own_form() {
        let (path, root, body) = request(Kind::Llamacpp, "m", Before::Ids(&[1, 2]), Some(3)).unwrap();
        assert_eq!(
            (path, root, &body["logit_bias"]),
            ("/completion", true, &json!([[3, 100.0]]))
        );
        let (path, root, body) = request(Kind::LlamaCppPython, "m", Before::Text("a"), Some(3)).unwrap();
        assert_eq!(
            (path, root, &body["logit_bias"]),
            ("/completions", false, &json!({ "3": 100.0 }))
        );
        assert!(request(Kind::Vllm, "m", Before::Ids(&[1]), None).is_none());
    }
}
