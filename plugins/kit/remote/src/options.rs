//! The settings that all models behind HTTP share.

use crate::Address;
use crate::http::Times;
use crate::pace::{Rate, Spread};
use crate::price::Prices;
use crate::secret::Secret;
use plugin_api::{Code, Error, Result, Settings, is_variable_name};
use std::path::PathBuf;
use std::time::Duration;

/// The settings that all services share.
#[derive(Debug)]
pub struct Common {
    pub addresses: Vec<Address>,
    pub key: Option<Secret>,
    pub spread: Spread,
    pub rpm: Option<f64>,
    pub tpm: Option<f64>,
    pub tries: u32,
    pub resend: u32,
    pub patience: Duration,
    pub first_pause: Duration,
    pub wait_for_engine: Duration,
    pub times: Times,
    pub prices: Prices,
    /// What is wrong without being an error.
    pub warnings: Vec<String>,
}

/// The name of a service and the sources of its keys.
#[derive(Debug, Clone, Copy)]
pub struct Service<'a> {
    pub base: &'a str,
    /// The path of an address that has none.
    pub path: &'a str,
    /// Variables that may hold a key; the first one that is set counts.
    pub keys: &'a [&'a str],
    pub spread: Spread,
}

impl Common {
    pub fn read(settings: &Settings, service: Service<'_>) -> Result<Common> {
        let base = settings.or("base_url", service.base.to_owned())?;
        let addresses = Address::parse_all(&base, service.path)?;
        let official = Address::parse(service.base, service.path)?;
        let mut warnings = Vec::new();
        let key = key(settings, service, &addresses, &official, &mut warnings)?;
        if key.is_some()
            && let Some(exposed) = addresses.iter().find(|address| address.exposed)
        {
            let error = Error::new(
                Code::SETTINGS,
                format!("the key would be sent to `{}` unencrypted", exposed.host),
            );
            return Err(error.help("use an address that begins with `https://`"));
        }
        let seconds = |name: &str, default: f64| -> Result<Duration> {
            let seconds: f64 = settings.or(name, default)?;
            match seconds.is_finite() && (0.0..=1e7).contains(&seconds) {
                true => Ok(Duration::from_secs_f64(seconds)),
                false => Err(Error::new(
                    Code::SETTINGS,
                    format!("setting `{name}` is {seconds}, expected seconds"),
                )),
            }
        };
        let prices: Option<PathBuf> = settings.get("prices")?;
        Ok(Common {
            key,
            spread: match settings.get::<serde_json::Value>("concurrency")? {
                None => service.spread,
                Some(serde_json::Value::String(text)) => Spread::parse(&text, service.spread)?,
                Some(other) => Spread::parse(&other.to_string(), service.spread)?,
            },
            rpm: settings.get("rpm")?,
            tpm: settings.get("tpm")?,
            tries: settings.or("tries", 6_u32)?.max(1),
            resend: settings.or("resend", 1)?,
            patience: seconds("patience", 300.0)?,
            first_pause: seconds("first_pause", 1.0)?,
            wait_for_engine: seconds("wait_for_engine", 600.0)?,
            times: Times {
                connect: seconds("connect", 10.0)?.max(Duration::from_millis(1)),
                silence: seconds("silence", 120.0)?.max(Duration::from_millis(1)),
                whole: seconds("deadline", 300.0)?.max(Duration::from_millis(1)),
            },
            prices: Prices::load(prices.as_deref())?,
            addresses,
            warnings,
        })
    }

    pub fn rate(&self) -> Rate {
        Rate::new(self.rpm, self.tpm)
    }
}

/// The key that the settings name. A key from a default variable is sent only to its own service, or to this machine.
fn key(
    settings: &Settings,
    service: Service<'_>,
    addresses: &[Address],
    official: &Address,
    warnings: &mut Vec<String>,
) -> Result<Option<Secret>> {
    if let Some(path) = settings.get::<PathBuf>("key_file")? {
        return Secret::from_file(&path).map(Some);
    }
    if let Some(names) = settings
        .get::<String>("key_env")?
        .filter(|names| !names.trim().is_empty())
    {
        let names: Vec<&str> = names.split(',').map(str::trim).collect();
        if !names.iter().all(|name| is_variable_name(name)) {
            // The user gave the key itself, which must not be shown.
            let error = Error::new(
                Code::SETTINGS,
                "setting `key_env` holds something that is not the name of a variable",
            );
            return Err(error.help("put the key into a variable of the environment and give the variable's name"));
        }
        let missing = || {
            let error = Error::new(
                Code::MISSING,
                format!(
                    "the variable `{}` of setting `key_env` is not set",
                    names.join("` or `")
                ),
            );
            error.help(format!("`export {}=…` with the key of the service", names[0]))
        };
        return first_set(&names, warnings)?.map(Some).ok_or_else(missing);
    }
    let belongs = addresses
        .iter()
        .all(|address| address.loopback || address.host == official.host);
    if !belongs {
        return Ok(None);
    }
    let elsewhere = addresses.iter().all(|address| address.loopback);
    match first_set(service.keys, warnings)? {
        Some(key) => Ok(Some(key)),
        None if elsewhere => Ok(None),
        None => {
            let names = service.keys.join("` or `");
            let error = Error::new(Code::MISSING, format!("no key: `{names}` is not set"));
            Err(error.help("put the key into that variable, or name another with `-M key_env=NAME`"))
        }
    }
}

/// The key in the first of these variables that is set. A second, different one is worth a warning.
fn first_set(names: &[&str], warnings: &mut Vec<String>) -> Result<Option<Secret>> {
    let mut found = Vec::new();
    for name in names {
        found.extend(Secret::from_env(name)?);
    }
    if let [first, second, ..] = &found[..]
        && first.expose() != second.expose()
    {
        warnings.push(format!(
            "both `{}` and `{}` are set and differ; `{}` is used",
            first.source, second.source, first.source
        ));
    }
    Ok(found.into_iter().next())
}
