//! The protocol `match`: does a reply call the same tools with equivalent arguments?
//!
//! A comparison without a model comes first and is always recorded. The model fills in a table (which call does the
//! job of which, how their arguments relate), and the verdict is computed from it. If the model's own verdict differs,
//! the case is unscored.

use crate::ask::{Asking, Opinion, Question, in_words};
use crate::identity;
use crate::marks::{Marks, RULE};
use crate::panel::Protocol;
use plugin_api::{Call, Case, Judge, JudgeCard, Result, Ruling, Settings, Verdict};
use score::CallCheck;
use score::calls::{Calls, ToolCall};
use serde_json::{Map, Value, json};

pub(crate) struct Match {
    asking: Asking,
    ask_all: bool,
    extra_allowed: bool,
}

impl Match {
    pub fn load(settings: &Settings) -> Result<Match> {
        Ok(Match {
            asking: Asking::load(settings)?,
            ask_all: settings.or("ask", "unclear".to_owned())? == "all",
            extra_allowed: settings.or("extra", "refuse".to_owned())? == "allow",
        })
    }
}

impl Protocol for Match {
    fn asking(&mut self) -> &mut Asking {
        &mut self.asking
    }
}

impl Judge for Match {
    fn card(&self) -> JudgeCard {
        let empty = Case::default();
        let question = question(&empty, &expected(&empty), &said(&empty), &[], self.asking.longest);
        identity::card("match", "1", &question)
    }

    fn judge(&self, case: &Case, call: &mut Call) -> Result<Verdict> {
        let (gold, predicted) = (expected(case), said(case));
        let tools = tools_of(&case.sample.doc);
        let names: Vec<String> = tools.iter().filter_map(tool_name).collect();
        let check = CallCheck::of(&predicted, &gold, &names);
        let mut verdict = match self.without_asking(&gold, &predicted, &check) {
            Some(verdict) => verdict,
            None => self.by_model(case, &gold, &predicted, &tools, call)?,
        };
        verdict.check = check.to_json();
        Ok(verdict)
    }
}

impl Match {
    fn without_asking(&self, gold: &Calls, predicted: &Calls, check: &CallCheck) -> Option<Verdict> {
        if self.ask_all {
            return None;
        }
        let rule = |right: bool, reason: &str| {
            Some(Verdict {
                why: Some("equal_without_asking".to_owned()),
                ..Verdict::of(right, reason)
            })
        };
        if check.agreement.normalised {
            return rule(true, "the same calls with the same arguments");
        }
        let different = |reason: &str| {
            let verdict = rule(false, reason)?;
            let why = Some("different_without_asking".to_owned());
            Some(Verdict { why, ..verdict })
        };
        if predicted.calls.is_empty() && !gold.calls.is_empty() {
            return different("no readable call where some are expected");
        }
        let shared = predicted.names().iter().any(|name| gold.names().contains(name));
        if !shared {
            return different("no tool in common with the expected calls");
        }
        None
    }

    fn by_model(
        &self,
        case: &Case,
        gold: &Calls,
        predicted: &Calls,
        tools: &[Value],
        call: &mut Call,
    ) -> Result<Verdict> {
        let question = question(case, gold, predicted, tools, self.asking.longest);
        let asked = self.asking.ask(&question, call)?;
        let opinion = asked.majority();
        let Some(word) = opinion.word.as_deref() else {
            let reason = in_words(opinion.why);
            return Ok(asked.rule(Ruling::Unscored, None, opinion.why, reason));
        };
        if word == "cannot_tell" {
            return Ok(asked.rule(Ruling::Unscored, None, "cannot_tell", opinion.reason()));
        }
        let Some(table) = Table::read(&opinion, gold, predicted) else {
            return Ok(asked.rule(Ruling::Unscored, None, "contradiction", in_words("contradiction")));
        };
        let matches = table.matches(self.extra_allowed);
        if matches != (word == "match") {
            return Ok(asked.rule(Ruling::Unscored, None, "contradiction", in_words("contradiction")));
        }
        let ruling = if matches { Ruling::Right } else { Ruling::Wrong };
        let mut verdict = asked.rule(ruling, Some(f64::from(u8::from(matches))), "ok", opinion.reason());
        verdict.other.extend(table.figures());
        Ok(verdict)
    }
}

/// The calls that are expected: those of the sample's turn, or of its target.
fn expected(case: &Case) -> Calls {
    match &case.sample.target {
        Value::String(text) => Calls::in_text(text),
        Value::Array(list) => Calls::in_list(list),
        _ => Calls::default(),
    }
}

fn said(case: &Case) -> Calls {
    match case.reply.tool_calls.is_empty() {
        false => Calls::in_list(&case.reply.tool_calls),
        true => Calls::in_text(&case.reply.text),
    }
}

fn tools_of(doc: &Value) -> Vec<Value> {
    doc["tools"].as_array().cloned().unwrap_or_default()
}

fn tool_name(tool: &Value) -> Option<String> {
    let inner = tool.get("function").unwrap_or(tool);
    inner["name"].as_str().map(str::to_owned)
}

/// What the task is: the last words of the user before the turn.
fn task(case: &Case) -> String {
    let asked = case.prompt.as_ref().map(|prompt| prompt.last_user_text());
    asked.unwrap_or_else(|| case.sample.doc.to_string())
}

fn question(case: &Case, gold: &Calls, predicted: &Calls, tools: &[Value], longest: usize) -> Question {
    let lines = |prefix: char, calls: &Calls| {
        let line = |(place, call): (usize, &ToolCall)| format!("{prefix}{} {}", place + 1, call.to_json());
        let text: Vec<String> = calls.calls.iter().enumerate().map(line).collect();
        if text.is_empty() {
            "(none)".to_owned()
        } else {
            text.join("\n")
        }
    };
    let (task, gold, predicted) = (task(case), lines('G', gold), lines('P', predicted));
    let catalogue = tools.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let mut marks = Marks::of([task.as_str(), &gold, &predicted, &catalogue], longest);
    let mut user = format!("The task:\n{}\n", marks.around(&task));
    if !catalogue.is_empty() {
        user += &format!("\nThe tools:\n{}\n", marks.around(&catalogue));
    }
    user += &format!("\nReference calls:\n{}\n", marks.around(&gold));
    user += &format!("\nPredicted calls:\n{}\n\n{STEPS}", marks.around(&predicted));
    Question {
        system: format!("You compare tool calls with reference calls. {RULE}"),
        user,
        schema: schema(),
        field: "verdict",
        menu: ["match", "mismatch", "cannot_tell"].map(str::to_owned).to_vec(),
        shortened: marks.shortened,
    }
}

const STEPS: &str = "\
Decide in this order:
1. Which predicted call does the job of which reference call?
2. Is it the same tool?
3. Are its arguments `equal`; `equivalent`, that is, would the tool return something interchangeable (spelling, case, \
format of dates and units, a default written out, another wording of the same search); `different` (another entity, \
number, date, path or filter, or a required one is missing); or `missing` (no call does this job)?
4. Does their order matter, because a later call needs the result of an earlier one? Is it right?
5. Which predicted calls are left over, and do any of them do harm? List those that do in `extra`.
Then give your verdict: `match`, `mismatch`, or `cannot_tell`.

Answer with JSON only:
{\"reason\": \"…\", \"pairs\": [{\"gold\": 1, \"predicted\": 1, \"same_tool\": true, \"arguments\": \"equal\"}], \
\"extra\": [], \"order_ok\": true, \"verdict\": \"match\"}";

fn schema() -> Value {
    json!({
        "type": "object", "additionalProperties": false,
        "required": ["reason", "pairs", "extra", "order_ok", "verdict"],
        "properties": {
            "reason": { "type": "string" },
            "pairs": { "type": "array", "items": {
                "type": "object", "additionalProperties": false,
                "required": ["gold", "predicted", "same_tool", "arguments"],
                "properties": {
                    "gold": { "type": "integer" }, "predicted": { "type": ["integer", "null"] },
                    "same_tool": { "type": "boolean" },
                    "arguments": { "type": "string", "enum": ["equal", "equivalent", "different", "missing"] },
                },
            } },
            "extra": { "type": "array", "items": { "type": "integer" } },
            "order_ok": { "type": "boolean" },
            "verdict": { "type": "string", "enum": ["match", "mismatch", "cannot_tell"] },
        },
    })
}

/// The model's table, checked against the calls.
struct Table {
    gold: usize,
    predicted: usize,
    /// Reference calls that a predicted call does the job of.
    done: usize,
    order_ok: bool,
    harmful: usize,
    left_over: usize,
}

impl Table {
    /// None if the table contradicts the calls: it pairs a missing call, or one call twice, or calls different tools
    /// equal.
    fn read(opinion: &Opinion, gold: &Calls, predicted: &Calls) -> Option<Table> {
        let object = &opinion.object;
        let number = |value: &Value| usize::try_from(value.as_u64()?).ok()?.checked_sub(1);
        let (mut golds, mut used) = (vec![false; gold.calls.len()], vec![false; predicted.calls.len()]);
        let mut done = 0;
        for pair in object.get("pairs")?.as_array()? {
            let place = number(&pair["gold"])?;
            let expected = gold.calls.get(place)?;
            if std::mem::replace(&mut golds[place], true) {
                return None;
            }
            let arguments = pair["arguments"].as_str()?;
            let same_tool = pair["same_tool"].as_bool()?;
            let Some(mine) = number(&pair["predicted"]) else {
                if same_tool || arguments != "missing" {
                    return None;
                }
                continue;
            };
            let call = predicted.calls.get(mine)?;
            if std::mem::replace(&mut used[mine], true) || same_tool != (call.name == expected.name) {
                return None;
            }
            done += usize::from(same_tool && matches!(arguments, "equal" | "equivalent"));
        }
        let listed = |name: &str| -> Vec<usize> {
            let list = object.get(name).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(number).collect()
        };
        let extra = listed("extra");
        Some(Table {
            gold: gold.calls.len(),
            predicted: predicted.calls.len() + predicted.broken,
            done,
            order_ok: object.get("order_ok").and_then(Value::as_bool)?,
            harmful: extra.len(),
            left_over: used.iter().filter(|used| !**used).count() + predicted.broken,
        })
    }

    /// Every reference call done once, in order, and no other call unless allowed.
    fn matches(&self, extra_allowed: bool) -> bool {
        let extra = if extra_allowed {
            self.harmful
        } else {
            self.left_over.max(self.harmful)
        };
        self.done == self.gold && self.order_ok && extra == 0
    }

    fn figures(&self) -> Map<String, Value> {
        let share = |of: usize| if of == 0 { 1.0 } else { self.done as f64 / of as f64 };
        let (precision, recall) = (share(self.predicted), share(self.gold));
        let f1 = match precision + recall {
            0.0 => 0.0,
            sum => 2.0 * precision * recall / sum,
        };
        let figures = [
            ("calls_precision", precision),
            ("calls_recall", recall),
            ("calls_f1", f1),
        ];
        figures
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect()
    }
}
