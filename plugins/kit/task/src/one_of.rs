use plugin_api::{Code, Error, Result, Settings};

/// The value of a setting with one of these words; the first one if the setting is missing.
pub fn one_of<T: Copy>(settings: &Settings, name: &str, known: &[(&'static str, T)]) -> Result<(&'static str, T)> {
    Ok(find_one(settings, name, known)?.unwrap_or(known[0]))
}

/// The value of a setting with one of these words; `None` if the setting is missing.
pub fn find_one<T: Copy>(
    settings: &Settings,
    name: &str,
    known: &[(&'static str, T)],
) -> Result<Option<(&'static str, T)>> {
    let Some(given) = settings.get::<String>(name)? else {
        return Ok(None);
    };
    let found = known.iter().find(|(word, _)| *word == given);
    found.map(|found| Some(*found)).ok_or_else(|| {
        let words: Vec<_> = known.iter().map(|(word, _)| format!("`{word}`")).collect();
        let message = format!("setting `{name}` is `{given}`, expected one of {}", words.join(", "));
        Error::new(Code::SETTINGS, message)
    })
}
