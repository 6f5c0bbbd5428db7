//! Makes a plan from the given settings: fills in defaults of the task's script and of the reference, and refuses
//! contradictions.

use super::environment::Place;
use super::names::Given;
use super::options::Options;
use crate::failure::{Failure, Result};
use plugin_api::{Every, Plan};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// The training method, from `--method`, `--peft`, or the task's script.
pub fn method(options: &Options, given: &Given) -> Result<String> {
    let peft = given.text("peft").map(|peft| match peft.as_str() {
        "none" => "full".to_owned(),
        _ => peft,
    });
    let method = match (&options.method, options.given.get("peft")) {
        (Some(method), Some(_)) if Some(method) != peft.as_ref() => {
            let message = format!(
                "`--method {method}` and `--peft {}` contradict",
                options.given.text("peft").unwrap_or_default()
            );
            return Err(Failure::usage(message).help("give one of them"));
        }
        (Some(method), _) => method.clone(),
        (None, _) => peft.unwrap_or_else(|| {
            let from_lora = options.given.get("adapter").is_some();
            if from_lora { "lora" } else { "full" }.to_owned()
        }),
    };
    match method.as_str() {
        "full" | "lora" | "qlora" => Ok(method),
        _ => Err(Failure::usage(format!("unknown method `{method}`")).help("it is `full`, `lora` or `qlora`")),
    }
}

/// A strategy and its steps.
fn every(
    strategy: Option<String>,
    steps: Option<f64>,
    default: Every,
    default_steps: f64,
    name: &str,
) -> Result<Every> {
    match strategy.as_deref() {
        None if steps.is_some() => Ok(Every::Steps(steps.unwrap_or(default_steps))),
        None => Ok(default),
        Some("no") => Ok(Every::Never),
        Some("epoch") => Ok(Every::Epoch),
        Some("steps") => Ok(Every::Steps(steps.unwrap_or(default_steps))),
        Some(other) => {
            let failure = Failure::usage(format!("unknown `{name}` `{other}`"));
            Err(failure.help("it is `no`, `steps` or `epoch`"))
        }
    }
}

/// The properties of a run that are not settings.
pub struct About<'a> {
    pub method: &'a str,
    pub out: PathBuf,
    pub resume: Option<PathBuf>,
    pub has_eval: bool,
    pub rows_hash: String,
    pub model_identity: Value,
    /// The type that `-M dtype=…` gave.
    pub dtype: Option<String>,
    pub place: Option<&'a Place>,
    pub hearing_cache: Option<PathBuf>,
}

/// The plan, and notes about it.
pub fn plan(given: &Given, options: &Options, about: About) -> Result<(Plan, Vec<String>)> {
    let mut notes = given.notes.clone();
    notes.extend(super::adapter::check(options)?);
    let mut other: Map<String, Value> = Map::new();
    for (name, value) in given.map.iter().filter(|(_, value)| !value.is_null()) {
        let reaches = super::names::find(name).is_none_or(|setting| setting.effect == super::names::Effect::Learning);
        if reaches {
            other.insert(name.clone(), value.clone());
        }
    }
    // What a script's defaults bring along is no mistake of the user's.
    let of_lora = ["r", "lora_alpha", "target_modules"];
    if let Some(name) = of_lora.iter().find(|name| options.given.get(name).is_some())
        && about.method == "full"
        && options.given.get("peft").is_none()
    {
        notes.push(format!(
            "`{name}` has no effect: all weights are trained; `--method lora` trains a LoRA"
        ));
    }
    shape(given, &mut other);
    precision(given, &about, &mut other, &mut notes)?;
    if let Some(strategy) = given.text("train_sampling_strategy") {
        match strategy.as_str() {
            "random" => {}
            "sequential" => drop(other.insert("order".to_owned(), json!("given"))),
            "group_by_length" => drop(other.insert("group_by_length".to_owned(), json!(true))),
            _ => {
                let failure = Failure::usage(format!("unknown `train_sampling_strategy` `{strategy}`"));
                return Err(failure.help("it is `random`, `sequential` or `group_by_length`"));
            }
        }
    }
    let log_steps = given.number("logging_steps").unwrap_or(10.0);
    let default_eval = if about.has_eval { Every::Epoch } else { Every::Never };
    let mut eval_every = every(
        given.text("eval_strategy"),
        given.number("eval_steps"),
        default_eval,
        log_steps,
        "eval_strategy",
    )?;
    if given.get("do_eval") == Some(&json!(false)) {
        eval_every = Every::Never;
    }
    let best_wanted = given.flag("load_best_model_at_end");
    if !about.has_eval && (eval_every != Every::Never || best_wanted) {
        notes.push("there are no rows to evaluate on, so nothing is evaluated".to_owned());
        eval_every = Every::Never;
        if best_wanted {
            other.remove("load_best_model_at_end");
            notes.push("without evaluations the last model is kept, not the best".to_owned());
        }
    }
    if eval_every == Every::Never && given.whole("eval_generations") > Some(0) {
        notes.push("`eval_generations` has no effect: nothing is evaluated".to_owned());
    }
    let mut save_strategy = given.text("save_strategy");
    if save_strategy.as_deref() == Some("best") {
        other.insert("save_on_best".to_owned(), json!(true));
        save_strategy = Some("no".to_owned());
    }
    let save_every = every(
        save_strategy,
        given.number("save_steps"),
        Every::Steps(500.0),
        500.0,
        "save_strategy",
    )?;
    let (rank, world) = about.place.map_or((0, 1), |place| (place.rank, place.world));
    if let Some(place) = about.place {
        other.insert("processes".to_owned(), place.to_json(options.collective.as_deref()));
    }
    other.insert("rows_hash".to_owned(), about.rows_hash.into());
    other.insert("model_identity".to_owned(), about.model_identity);
    if options.resume_changed {
        other.insert("resume_changed".to_owned(), json!(true));
    }
    if let Some(cache) = about.hearing_cache {
        other.insert("hearing_cache".to_owned(), cache.display().to_string().into());
    }
    let plan = Plan {
        method: about.method.to_owned(),
        out: about.out,
        resume: about.resume,
        epochs: given.number("num_train_epochs").unwrap_or(3.0),
        max_steps: given.whole("max_steps").unwrap_or_default(),
        batch_size: given.whole("per_device_train_batch_size").unwrap_or(8) as u32,
        accumulate: given.whole("gradient_accumulation_steps").unwrap_or(1) as u32,
        learning_rate: given.number("learning_rate").unwrap_or(5e-5),
        seed: given.whole("seed").unwrap_or(42),
        eval_every,
        save_every,
        rank,
        world,
        other,
    };
    Ok((plan, notes))
}

/// The parameters of a schedule, which the reference has in one map.
fn shape(given: &Given, other: &mut Map<String, Value>) {
    let mut shape = other
        .get("lr_scheduler_kwargs")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    for name in ["min_lr", "min_lr_rate", "num_cycles"] {
        if let Some(value) = given.get(name) {
            shape.insert(name.to_owned(), value.clone());
        }
    }
    if !shape.is_empty() {
        other.insert("lr_scheduler_kwargs".to_owned(), Value::Object(shape));
    }
}

/// The precision of products.
fn precision(given: &Given, about: &About, other: &mut Map<String, Value>, notes: &mut Vec<String>) -> Result<()> {
    if let Some(kind) = given.text("bnb_4bit_quant_type").filter(|kind| kind != "nf4") {
        let failure = Failure::usage(format!("`bnb_4bit_quant_type` is `{kind}`"));
        return Err(failure.help("only `nf4` is there"));
    }
    if given.flag("bf16") && given.text("precision").as_deref() == Some("fp32") {
        return Err(Failure::usage("`bf16` is on, and `precision` is `fp32`").help("give one of them"));
    }
    if given.flag("fp16") && given.flag("bf16") {
        return Err(Failure::usage("`fp16` and `bf16` are both on").help("give one of them"));
    }
    if given.get("precision").is_some() {
        return Ok(());
    }
    let computed = given
        .text("bnb_4bit_compute_dtype")
        .filter(|kind| kind != "auto" && about.method == "qlora");
    let fp16 = given.flag("fp16")
        || computed
            .as_deref()
            .is_some_and(|kind| kind.contains("16") && !kind.starts_with('b'));
    let bf16 = given.flag("bf16") || computed.as_deref().is_some_and(|kind| kind.starts_with('b'));
    let precision = match about.dtype.as_deref() {
        Some("fp32" | "float32") => "fp32",
        Some("bf16" | "bfloat16") => "bf16",
        _ if bf16 => "bf16",
        _ => "fp32",
    };
    if fp16 && precision == "fp32" {
        notes.push("`fp16` is computed in fp32 here, which needs no scaling of the loss".to_owned());
    }
    other.insert("precision".to_owned(), json!(precision));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(settings: &[(&str, Value)]) -> Given {
        let mut given = Given::default();
        for (name, value) in settings {
            given.put(name, value).unwrap();
        }
        given
    }

    fn about(method: &str, has_eval: bool) -> About<'_> {
        About {
            method,
            out: PathBuf::from("out"),
            resume: None,
            has_eval,
            rows_hash: "a".to_owned(),
            model_identity: Value::Null,
            dtype: None,
            place: None,
            hearing_cache: None,
        }
    }

    fn settled(settings: &[(&str, Value)], has_eval: bool) -> (Plan, Vec<String>) {
        plan(&given(settings), &Options::default(), about("lora", has_eval))
            .unwrap_or_else(|failure| panic!("{failure}"))
    }

    #[test]
    fn the_reference_says_what_is_not_said() {
        let (plan, _) = settled(&[], true);
        assert_eq!(
            (plan.epochs, plan.batch_size, plan.learning_rate, plan.seed),
            (3.0, 8, 5e-5, 42)
        );
        assert_eq!((plan.eval_every, plan.save_every), (Every::Epoch, Every::Steps(500.0)));
        assert_eq!(plan.other["precision"], "fp32");
        assert!(!plan.other.contains_key("output_dir"), "what the host reads stays here");
    }

    #[test]
    fn strategies_are_read() {
        let (plan, _) = settled(&[("eval_steps", json!(0.5)), ("save_strategy", json!("epoch"))], true);
        assert_eq!((plan.eval_every, plan.save_every), (Every::Steps(0.5), Every::Epoch));
        let (plan, notes) = settled(
            &[
                ("eval_strategy", json!("steps")),
                ("load_best_model_at_end", json!(true)),
            ],
            false,
        );
        assert_eq!(plan.eval_every, Every::Never);
        assert!(notes.len() == 2 && !plan.other.contains_key("load_best_model_at_end"));
        let (plan, _) = settled(&[("save_strategy", json!("best"))], true);
        assert_eq!(
            (plan.save_every, &plan.other["save_on_best"]),
            (Every::Never, &json!(true))
        );
    }

    #[test]
    fn what_has_no_effect_is_told() {
        let told = |method: &str, settings: &[(&str, Value)], has_eval: bool| {
            let options = Options {
                given: given(settings),
                ..Options::default()
            };
            let about = about(method, has_eval);
            plan(&options.given, &options, about).map(|(_, notes)| notes.join("; "))
        };
        assert!(
            told("full", &[("lora_r", json!(8))], true)
                .unwrap()
                .contains("`r` has no effect")
        );
        assert_eq!(told("lora", &[("lora_r", json!(8))], true).unwrap(), "");
        let unused = told("lora", &[("eval_generations", json!(3))], false).unwrap();
        assert!(unused.contains("`eval_generations` has no effect"), "{unused}");
        let best = told("lora", &[("load_best_model_at_end", json!(true))], false).unwrap();
        assert!(best.contains("the last model is kept"), "{best}");
        assert!(told("lora", &[("bf16", json!(true)), ("precision", json!("fp32"))], true).is_err());
    }

    #[test]
    fn the_shape_of_a_schedule_is_one_map() {
        let (plan, _) = settled(
            &[
                ("min_lr", json!(5e-5)),
                ("lr_scheduler_kwargs", json!({ "num_cycles": 0.25 })),
            ],
            false,
        );
        assert_eq!(
            plan.other["lr_scheduler_kwargs"],
            json!({ "num_cycles": 0.25, "min_lr": 5e-5 })
        );
        assert!(!plan.other.contains_key("min_lr"));
    }

    #[test]
    fn methods_that_contradict_are_refused() {
        let options = |method: Option<&str>, peft: Option<&str>| Options {
            method: method.map(str::to_owned),
            given: peft.map_or_else(Given::default, |peft| given(&[("peft", json!(peft))])),
            ..Options::default()
        };
        let settle = |method, peft| {
            let options = options(method, peft);
            super::method(&options, &options.given)
        };
        assert_eq!(settle(None, Some("none")).unwrap(), "full");
        assert_eq!(settle(Some("qlora"), Some("qlora")).unwrap(), "qlora");
        assert!(settle(Some("full"), Some("lora")).is_err());
        assert!(settle(Some("dora"), None).is_err());
        assert_eq!(settle(None, None).unwrap(), "full");
    }
}
