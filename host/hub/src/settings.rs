//! Where the hub and its cache are, as the environment says.

use std::fmt;
use std::path::{Path, PathBuf};

use super::fault::HubFault;

/// Everything that the environment decides, settled once.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Without a slash at the end.
    pub endpoint: String,
    pub cache: PathBuf,
    pub token: Option<Token>,
    pub offline: bool,
}

/// A token, which never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    pub fn new(secret: impl Into<String>) -> Self {
        Token(secret.into())
    }

    pub(super) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

impl Settings {
    /// The variables that Python's `huggingface_hub` reads, the old names of some among them.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, HubFault> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let path = |name: &str| set(name).map(PathBuf::from);
        let home = path("HF_HOME").unwrap_or_else(|| {
            path("XDG_CACHE_HOME")
                .or_else(|| path("HOME").map(|home| home.join(".cache")))
                .unwrap_or_else(|| PathBuf::from(".cache"))
                .join("huggingface")
        });
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .unwrap_or_else(|| home.join("hub"));
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let token = set("HF_TOKEN")
            .or_else(|| set("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| read_token(&token_file));
        let is_on = |name| set(name).is_some_and(|value| is_true(&value));
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        Ok(Settings {
            endpoint: endpoint.trim().trim_end_matches('/').to_owned(),
            cache,
            token: token.map(|token| checked_token(token.trim())).transpose()?,
            offline: is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"),
        })
    }
}

fn read_token(file: &Path) -> Option<String> {
    std::fs::read_to_string(file)
        .ok()
        .filter(|token| !token.trim().is_empty())
}

/// A token with a line break or a letter that no header can hold would otherwise fail as a request that
/// cannot be built, in a message that might quote it.
fn checked_token(token: &str) -> Result<Token, HubFault> {
    if token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(Token::new(token))
    } else {
        Err(HubFault::Setting {
            variable: "HF_TOKEN",
            expected: "one word of plain letters and digits",
        })
    }
}

/// As Python reads a switch.
fn is_true(value: &str) -> bool {
    matches!(value.trim().to_ascii_lowercase().as_str(), "1" | "on" | "yes" | "true")
}
