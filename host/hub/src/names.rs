//! Checks file names, commits and hashes, so that none leads out of the cache's folder.

/// Whether a file name stays inside the folder it is put into.
pub(super) fn is_safe(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(['\\', '\0', ':'])
        && name
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

/// A name for a blob that can be checked: a git sha1 or a sha256.
pub(super) fn is_hash(text: &str) -> bool {
    (text.len() == 40 || text.len() == 64) && is_hex(text)
}

/// Forty hexadecimal digits.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && is_hex(text)
}

fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}
