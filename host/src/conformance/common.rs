use super::adapter_under_test::{AdapterUnderTest, Maker};
use super::report::{Outcome, Report, expect_error, failed, fine, is_orderly, skipped, warning};
use crate::registry::{Given, settings};
use plugin_api::loading::PANIC_ON_PURPOSE;
use plugin_api::{AdapterNote, Code, Envelope, Error, NoCallbacks, OptionType, Settings};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A name that no adapter uses for an option or a method.
const NOBODYS: &str = "nobodys-option-7f3a";

/// Makes the adapter with these settings, or reports what it needs.
pub(super) fn make<'a>(
    report: &mut Report,
    note: &'a AdapterNote,
    settings: Settings,
    make: &'a Maker<'a>,
) -> Option<AdapterUnderTest<'a>> {
    let of = format!("{} {}", note.kind, note.name);
    report.check(&of, "its options can be used", || options(note));
    report.check(&of, "an unknown setting is refused by name", || {
        let mut settings = settings.clone();
        settings.0.insert(NOBODYS.to_owned(), 1.into());
        match make(&settings) {
            Err(error) if error.code == Code::SETTINGS && error.to_string().contains(NOBODYS) => fine(),
            Err(error) if error.code == Code::SETTINGS => Err(failed(format!("the error doesn't name it: {error}"))),
            Err(error) => Err(failed(format!(
                "the error should be `settings`, and it is {error} ({})",
                error.code.word()
            ))),
            Ok(_) => Err(failed("it was made without an error")),
        }
    });
    report.check(&of, "an ill-typed setting is refused", || {
        ill_typed(note, &settings, make)
    });
    let mut made = None;
    report.check(&of, "it can be made", || match make(&settings) {
        Ok(adapter) => {
            made = Some(adapter);
            fine()
        }
        Err(error) if needs_something(&error) => {
            let required = note.options.iter().filter(|option| option.required);
            let missing = required.filter(|option| !settings.0.contains_key(&option.name));
            let names: Vec<_> = missing.map(|option| format!("--settings {}=…", option.name)).collect();
            let hint = match names.is_empty() {
                true => "give what it needs with `--settings NAME=VALUE`".to_owned(),
                false => format!("give it with `{}`", names.join(" ")),
            };
            Err(warning(format!(
                "it needs more settings: {error}; nothing else of it was checked"
            ))
            .hint(hint))
        }
        Err(error) => Err(error.into()),
    });
    Some(AdapterUnderTest {
        note,
        settings,
        make,
        adapter: made?,
    })
}

/// Whether the error says that something is missing, which is not a fault.
fn needs_something(error: &Error) -> bool {
    [Code::SETTINGS, Code::MISSING].contains(&error.code)
}

/// Declared defaults and allowed values must be what the host accepts.
fn options(note: &AdapterNote) -> Outcome {
    for option in &note.options {
        let mut values: Vec<&Value> = option.allowed.iter().collect();
        values.extend((!option.default.is_null()).then_some(&option.default));
        for value in values {
            let given = Given {
                value: value.clone(),
                base: PathBuf::new(),
                place: "its note".to_owned(),
            };
            let given = BTreeMap::from([(option.name.clone(), given)]);
            if let Err(why) = settings::check(&given, note) {
                return Err(failed(format!(
                    "`{}`: its own value {value} is refused: {}",
                    option.name, why.error
                )));
            }
        }
        if option.help.trim().is_empty() {
            return Err(warning(format!("`{}` does not say what it does", option.name)));
        }
    }
    match note.options.len() {
        0 => Ok("it has none".to_owned()),
        count => Ok(format!("{count}")),
    }
}

/// The host checks types beforehand, but a plugin's own tests and other hosts do not.
fn ill_typed(note: &AdapterNote, settings: &Settings, make: &Maker) -> Outcome {
    let typed = |option: &&plugin_api::OptionSpec| option.kind != OptionType::Unknown;
    let Some(option) = note.options.iter().find(typed) else {
        return Err(skipped("it has no settings"));
    };
    let mut settings = settings.clone();
    settings.0.insert(
        option.name.clone(),
        serde_json::json!({ "not": ["a", option.kind.word()] }),
    );
    match make(&settings) {
        Err(error) if !is_orderly(&error) => Err(failed(format!("`{}`: {error} ({})", option.name, error.code.word()))),
        Err(error) if error.to_string().contains(&option.name) => fine(),
        Err(error) => Err(warning(format!("the error doesn't name `{}`: {error}", option.name))
            .hint("`Settings::get` and `Settings::need` say it by themselves")),
        Ok(_) => Err(warning(format!("`{}` was an object, and was accepted", option.name))
            .hint("read it with `Settings::get` or `Settings::need`")),
    }
}

/// The last checks of an adapter, since one of them breaks it.
pub(super) fn manners(report: &mut Report, subject: &AdapterUnderTest) {
    let of = subject.title();
    report.check(&of, "an unknown method is not implemented", || {
        let outcome = subject.adapter.call(NOBODYS, Envelope::default(), &NoCallbacks);
        expect_error(outcome, Code::NOT_IMPLEMENTED, "a method that nobody has")
    });
    report.check(&of, "an envelope that can't be read is an error", || {
        let method = match subject.note.kind {
            plugin_api::Kind::Model => "reply",
            plugin_api::Kind::Task => "prompt",
            plugin_api::Kind::Judge => "judge",
        };
        let torn = Envelope {
            json: "{\"messages\": [".to_owned(),
            ..Envelope::default()
        };
        expect_error(
            subject.adapter.call(method, torn, &NoCallbacks),
            Code::ENVELOPE,
            "half an envelope",
        )
    });
    report.check(&of, "a panic is caught", || {
        match subject
            .adapter
            .call(PANIC_ON_PURPOSE, Envelope::default(), &NoCallbacks)
        {
            Err(error) if error.code == Code::PANIC => fine(),
            Err(error) => Err(failed(format!("{error} ({})", error.code.word()))
                .hint("build it with `panic = \"unwind\"`, and call nothing of C that forbids unwinding")),
            Ok(_) => Err(failed("it did not panic although it was asked to")),
        }
    });
    report.check(&of, "after a panic it can be made again", || {
        subject.another()?.call("card", Envelope::default(), &NoCallbacks)?;
        fine()
    });
}
