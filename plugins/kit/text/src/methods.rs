//! Python's methods of strings and containers that templates use and the template engine lacks.

use minijinja::value::{Kwargs, Value, from_args};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat;

/// The engine calls this for a method that a value lacks.
pub fn call(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match (value.as_str(), method) {
        (Some(text), "split" | "rsplit") => {
            let (separator, most) = splitting(args)?;
            match method {
                "rsplit" => Ok(from_the_right(text, separator.as_deref(), most)),
                _ => {
                    let separator = separator.map_or(Value::from(()), Value::from);
                    let most = most.map(|most| i64::try_from(most).unwrap_or(i64::MAX));
                    pycompat::unknown_method_callback(state, value, method, &[separator, most.unwrap_or(-1).into()])
                }
            }
        }
        (Some(text), "removeprefix") => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(text.strip_prefix(prefix).unwrap_or(text).into())
        }
        (Some(text), "removesuffix") => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(text.strip_suffix(suffix).unwrap_or(text).into())
        }
        (Some(text), "partition") => {
            let (separator,): (&str,) = from_args(args)?;
            Ok(match text.split_once(separator) {
                Some((before, after)) => list(&[before, separator, after]),
                None => list(&[text, "", ""]),
            })
        }
        (Some(text), "rpartition") => {
            let (separator,): (&str,) = from_args(args)?;
            Ok(match text.rsplit_once(separator) {
                Some((before, after)) => list(&[before, separator, after]),
                None => list(&["", "", text]),
            })
        }
        (None, "copy") => {
            let () = from_args(args)?;
            Ok(value.clone())
        }
        _ => pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn list(parts: &[&str]) -> Value {
    parts.iter().copied().map(Value::from).collect()
}

/// The separator and the maximum number of splits, as positional or keyword arguments.
fn splitting(args: &[Value]) -> Result<(Option<String>, Option<usize>), Error> {
    let (separator, most, named): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
    let separator = match separator {
        Some(separator) => Some(separator),
        None => named.get("sep")?,
    };
    let most = match most {
        Some(most) => Some(most),
        None => named.get("maxsplit")?,
    };
    named.assert_all_used()?;
    let text = |value: Value| {
        let wrong = || Error::new(ErrorKind::InvalidOperation, "a text is split at a text");
        match value.is_none() || value.is_undefined() {
            true => Ok(None),
            false => value.as_str().map(|text| Some(text.to_owned())).ok_or_else(wrong),
        }
    };
    let separator = separator.map(text).transpose()?.flatten();
    Ok((separator, most.and_then(|most| usize::try_from(most).ok())))
}

fn from_the_right(text: &str, separator: Option<&str>, most: Option<usize>) -> Value {
    let most = most.unwrap_or(usize::MAX);
    let (mut rest, mut parts) = (text, Vec::new());
    if separator.is_none() {
        rest = rest.trim_end();
    }
    while parts.len() < most {
        let found = match separator {
            Some(separator) => rest.rsplit_once(separator),
            None => rest.rsplit_once(char::is_whitespace),
        };
        let Some((before, part)) = found else { break };
        parts.push(part);
        rest = if separator.is_none() { before.trim_end() } else { before };
    }
    if separator.is_some() || !rest.trim().is_empty() {
        parts.push(if separator.is_none() { rest.trim_end() } else { rest });
    }
    parts.reverse();
    list(&parts)
}
