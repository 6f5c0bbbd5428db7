//! Parses one object from a given brace on, in a single pass.

use serde_json::{Map, Number, Value};

/// The deepest nesting; deeper replies come from a model that repeats itself.
const DEEPEST: usize = 64;

/// How far after a single quote its comma or bracket is searched.
const LOOK_AHEAD: usize = 64;

/// The text here is not JSON, even leniently.
#[derive(Debug)]
pub(super) struct Wrong;

type Read<T> = Result<T, Wrong>;

pub(super) struct Reader<'a> {
    text: &'a str,
    start: usize,
    pub at: usize,
    /// Whether the text ended while something was open.
    pub cut: bool,
    /// The start of the string that was open at the end.
    pub open_string: Option<usize>,
    looked_ahead: usize,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a str, start: usize) -> Self {
        Reader {
            text,
            start,
            at: start,
            cut: false,
            open_string: None,
            looked_ahead: 0,
        }
    }

    /// How many bytes were looked at, at least one.
    pub fn work(&self) -> usize {
        self.at - self.start + self.looked_ahead + 1
    }

    /// The object that begins here.
    pub fn object(&mut self, depth: usize) -> Read<Map<String, Value>> {
        let mut members = Map::new();
        self.open(depth)?;
        while self.space() {
            if self.take('}') {
                return Ok(members);
            }
            let key = self.key()?;
            if !self.space() {
                break;
            }
            if !self.take(':') {
                return Err(Wrong);
            }
            if !self.space() {
                break;
            }
            if let Some(value) = self.value(depth + 1)? {
                members.insert(key, value);
            }
            if !self.between('}')? {
                break;
            }
        }
        Ok(members)
    }

    fn list(&mut self, depth: usize) -> Read<Vec<Value>> {
        let mut items = Vec::new();
        self.open(depth)?;
        while self.space() {
            if self.take(']') {
                return Ok(items);
            }
            items.extend(self.value(depth + 1)?);
            if !self.between(']')? {
                break;
            }
        }
        Ok(items)
    }

    fn open(&mut self, depth: usize) -> Read<()> {
        self.at += 1;
        if depth < DEEPEST { Ok(()) } else { Err(Wrong) }
    }

    /// After a member: a comma, or the closing bracket, which is not consumed. False at the end of the text.
    fn between(&mut self, close: char) -> Read<bool> {
        if !self.space() {
            return Ok(false);
        }
        if self.take(',') || self.rest().starts_with(close) {
            return Ok(true);
        }
        Err(Wrong)
    }

    /// None if the text ends before the value is certain.
    fn value(&mut self, depth: usize) -> Read<Option<Value>> {
        match self.next() {
            Some('{') => Ok(Some(Value::Object(self.object(depth)?))),
            Some('[') => Ok(Some(Value::Array(self.list(depth)?))),
            Some('"' | '\'' | '\u{201c}' | '\u{201d}' | '\u{2018}' | '\u{2019}') => {
                Ok(Some(Value::String(self.string())))
            }
            Some('-' | '+' | '.' | '0'..='9') => self.number(),
            _ => self.literal(),
        }
    }

    fn key(&mut self) -> Read<String> {
        match self.next() {
            Some('"' | '\'' | '\u{201c}' | '\u{201d}' | '\u{2018}' | '\u{2019}') => Ok(self.string()),
            _ => match self.word() {
                "" => Err(Wrong),
                word => Ok(word.to_owned()),
            },
        }
    }

    fn literal(&mut self) -> Read<Option<Value>> {
        let word = self.word();
        let whole = match word {
            "true" | "True" => Value::Bool(true),
            "false" | "False" => Value::Bool(false),
            "null" | "None" => Value::Null,
            _ if !word.is_empty() && self.rest().is_empty() => {
                // The first letters of a literal or of something else: too few to decide.
                self.cut = true;
                return Ok(None);
            }
            _ => return Err(Wrong),
        };
        Ok(Some(whole))
    }

    fn number(&mut self) -> Read<Option<Value>> {
        let digits = self.run(|letter| matches!(letter, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'));
        if self.rest().is_empty() {
            // More digits might have followed.
            self.cut = true;
            return Ok(None);
        }
        let exact = serde_json::from_str::<Number>(digits).ok();
        let loose = || digits.parse().ok().and_then(Number::from_f64);
        exact
            .or_else(loose)
            .map(|number| Some(Value::Number(number)))
            .ok_or(Wrong)
    }

    /// The string that begins here, as far as the text goes.
    fn string(&mut self) -> String {
        let start = self.at;
        let mut said = String::new();
        let Some(quote) = self.step() else { return said };
        while let Some(letter) = self.step() {
            match letter {
                '\\' => match self.escape() {
                    Some(letter) => said.push(letter),
                    None => break,
                },
                _ if self.closes(quote, letter) => return said,
                _ => said.push(letter),
            }
        }
        self.cut = true;
        self.open_string = Some(start + quote.len_utf8());
        said
    }

    /// Whether the character just read ends a string with this quote.
    fn closes(&mut self, quote: char, letter: char) -> bool {
        match quote {
            '"' => letter == '"',
            '\u{201c}' | '\u{201d}' => matches!(letter, '"' | '\u{201c}' | '\u{201d}'),
            // An apostrophe looks the same: `'john 's party'`. What follows a string tells them apart.
            _ => matches!(letter, '\'' | '\u{2018}' | '\u{2019}') && self.string_may_end_here(),
        }
    }

    fn string_may_end_here(&mut self) -> bool {
        for letter in self.rest().chars().take(LOOK_AHEAD) {
            self.looked_ahead += letter.len_utf8();
            if !letter.is_whitespace() {
                return matches!(letter, ',' | ':' | '}' | ']');
            }
        }
        // Only blanks until the end of the text, so the string ends here.
        true
    }

    /// The character of an escape; none at the end of the text.
    fn escape(&mut self) -> Option<char> {
        Some(match self.step()? {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => self.unicode()?,
            other => other,
        })
    }

    fn unicode(&mut self) -> Option<char> {
        let first = self.hex()?;
        let lead = (0xd800..0xdc00).contains(&first);
        if lead && self.rest().starts_with("\\u") {
            let before = self.at;
            self.at += 2;
            let second = self.hex()?;
            if (0xdc00..0xe000).contains(&second) {
                let joined = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return char::from_u32(joined);
            }
            self.at = before;
        }
        Some(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    /// Four hex digits; if there are fewer, none are consumed.
    fn hex(&mut self) -> Option<u32> {
        if self.rest().is_empty() {
            return None;
        }
        let digits = self.rest().get(..4);
        let value = digits
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        self.at += value.map_or(0, |_| 4);
        Some(value.unwrap_or(0xfffd))
    }

    /// Skips blanks and comments. False if nothing but a closing fence follows.
    fn space(&mut self) -> bool {
        if self.cut {
            return false;
        }
        loop {
            self.run(char::is_whitespace);
            let rest = self.rest();
            if rest.starts_with("//") {
                self.run(|letter| letter != '\n');
            } else if rest.starts_with("/*") {
                let length = rest.find("*/").map_or(rest.len(), |end| end + 2);
                self.at += length;
            } else {
                self.cut = rest.is_empty() || rest.starts_with("```");
                return !self.cut;
            }
        }
    }

    fn word(&mut self) -> &'a str {
        self.run(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    }

    fn run(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|letter| !belongs(letter)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn take(&mut self, letter: char) -> bool {
        let there = self.rest().starts_with(letter);
        self.at += if there { letter.len_utf8() } else { 0 };
        there
    }

    fn step(&mut self) -> Option<char> {
        let letter = self.next()?;
        self.at += letter.len_utf8();
        Some(letter)
    }

    fn next(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn rest(&self) -> &'a str {
        // `at` moves by whole characters, so it is always at a boundary.
        self.text.get(self.at..).unwrap_or_default()
    }
}
