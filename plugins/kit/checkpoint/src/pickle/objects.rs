//! The objects that a pickle describes, without running it.

use std::collections::HashMap;

/// Far more than any checkpoint has; the limit keeps a damaged file from filling the memory.
const MOST_OBJECTS: usize = 4_000_000;

/// The number of an object. Objects refer to each other by number, so that cycles are harmless.
pub(super) type Id = usize;

#[derive(Debug, PartialEq)]
pub(super) enum Object {
    Nothing,
    Flag(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    /// A list or a tuple.
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A function or class, as `module.name`.
    Name(String),
    /// A call that is not made: the function's name and a tuple of arguments.
    Call(Id, Id),
    /// A reference to data outside of the pickle.
    Stored(Id),
    /// An object that weights do not need.
    Other,
}

#[derive(Debug)]
pub(super) struct Objects {
    all: Vec<Object>,
    root: Id,
}

impl Objects {
    /// Reads a pickle to its end.
    pub fn read(bytes: &[u8]) -> Result<Objects, String> {
        let mut machine = Machine {
            bytes,
            place: 0,
            all: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        while machine.step()? {}
        let root = machine.pop()?;
        let all = machine.all;
        Ok(Objects { all, root })
    }

    pub fn root(&self) -> Id {
        self.root
    }

    pub fn get(&self, id: Id) -> &Object {
        &self.all[id]
    }

    pub fn list(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Object::List(items) => Some(items),
            _ => None,
        }
    }

    pub fn dict(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.get(id) {
            Object::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn count(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Object::Integer(number) => usize::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The name and arguments of a call.
    pub fn call(&self, id: Id) -> Option<(&str, &[Id])> {
        match self.get(id) {
            Object::Call(function, arguments) => Some((self.name(*function)?, self.list(*arguments)?)),
            _ => None,
        }
    }

    pub fn name(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Object::Name(name) => Some(name),
            _ => None,
        }
    }

    /// The entry of a dictionary; the last one if the key occurs twice.
    pub fn entry(&self, dict: Id, key: &str) -> Option<Id> {
        let mut entries = self.dict(dict)?.iter().rev();
        entries
            .find(|(name, _)| self.text(*name) == Some(key))
            .map(|(_, value)| *value)
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    place: usize,
    all: Vec<Object>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl Machine<'_> {
    /// Reads one operation; false at the end.
    fn step(&mut self) -> Result<bool, String> {
        let at = self.place;
        match self.byte()? {
            0x80 => self.skip(1)?,                     // PROTO
            0x95 => self.skip(8)?,                     // FRAME
            b'.' => return Ok(false),                  // STOP
            b'(' => self.marks.push(self.stack.len()), // MARK
            b'0' => self.pop().map(drop)?,             // POP
            b'1' => self.pop_to_mark().map(drop)?,     // POP_MARK
            b'2' => {
                let top = self.top()?; // DUP
                self.stack.push(top);
            }

            b'N' => self.push(Object::Nothing)?,
            0x88 => self.push(Object::Flag(true))?,
            0x89 => self.push(Object::Flag(false))?,
            b'K' => {
                let number = self.byte()?; // BININT1
                self.push(Object::Integer(number.into()))?;
            }
            b'M' => {
                let number = u16::from_le_bytes(self.array()?); // BININT2
                self.push(Object::Integer(number.into()))?;
            }
            b'J' => {
                let number = i32::from_le_bytes(self.array()?); // BININT
                self.push(Object::Integer(number.into()))?;
            }
            0x8a => {
                let length = self.byte()?.into(); // LONG1
                let number = self.take(length).map(integer)?;
                self.push(number)?;
            }
            b'G' => {
                let number = f64::from_be_bytes(self.array()?); // BINFLOAT
                self.push(Object::Number(number))?;
            }
            b'X' | b'T' => {
                let length = u32::from_le_bytes(self.array()?) as usize; // BINUNICODE, BINSTRING
                self.text(length)?;
            }
            0x8c | b'U' => {
                let length = self.byte()?.into(); // SHORT_BINUNICODE, SHORT_BINSTRING
                self.text(length)?;
            }
            b'B' => {
                let length = u32::from_le_bytes(self.array()?) as usize; // BINBYTES
                self.skip(length)?;
                self.push(Object::Other)?;
            }
            b'C' => {
                let length = self.byte()?.into(); // SHORT_BINBYTES
                self.skip(length)?;
                self.push(Object::Other)?;
            }

            b')' | b']' => self.push(Object::List(Vec::new()))?, // EMPTY_TUPLE, EMPTY_LIST
            b'}' => self.push(Object::Dict(Vec::new()))?,        // EMPTY_DICT
            0x8f => self.push(Object::Other)?,                   // EMPTY_SET
            b't' | b'l' => {
                let items = self.pop_to_mark()?; // TUPLE, LIST
                self.push(Object::List(items))?;
            }
            op @ 0x85..=0x87 => {
                let mut items = Vec::new(); // TUPLE1 to TUPLE3
                for _ in 0x85..=op {
                    items.insert(0, self.pop()?);
                }
                self.push(Object::List(items))?;
            }
            b'd' => {
                let items = self.pop_to_mark()?; // DICT
                self.push(Object::Dict(Vec::new()))?;
                self.set_items(&items)?;
            }
            b'a' => {
                let item = self.pop()?; // APPEND
                self.append(&[item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_to_mark()?; // APPENDS, ADDITEMS
                self.append(&items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?); // SETITEM
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?; // SETITEMS
                self.set_items(&items)?;
            }

            b'c' => {
                let (module, name) = (self.line()?, self.line()?); // GLOBAL
                self.push(Object::Name(format!("{module}.{name}")))?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?); // STACK_GLOBAL
                let text = |id: Id| match &self.all[id] {
                    Object::Text(text) => Ok(text.as_str()),
                    other => Err(format!("a name is {other:?}")),
                };
                let name = format!("{}.{}", text(module)?, text(name)?);
                self.push(Object::Name(name))?;
            }
            b'R' | 0x81 => {
                let (arguments, function) = (self.pop()?, self.pop()?); // REDUCE, NEWOBJ
                let made = match &self.all[function] {
                    // Both start empty and are filled later.
                    Object::Name(name) if name == "collections.OrderedDict" || name == "collections.defaultdict" => {
                        Object::Dict(Vec::new())
                    }
                    _ => Object::Call(function, arguments),
                };
                self.push(made)?;
            }
            // BUILD sets attributes of an object, such as the version notes of a state dictionary; weights are never
            // there.
            b'b' => self.pop().map(drop)?,
            b'Q' => {
                let name = self.pop()?; // BINPERSID
                self.push(Object::Stored(name))?;
            }

            b'q' => {
                let key = self.byte()?.into(); // BINPUT
                self.keep(key)?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.array()?); // LONG_BINPUT
                self.keep(key)?;
            }
            0x94 => self.keep(self.memo.len() as u32)?, // MEMOIZE
            b'h' => {
                let key = self.byte()?.into(); // BINGET
                self.recall(key)?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.array()?); // LONG_BINGET
                self.recall(key)?;
            }
            op => {
                return Err(format!(
                    "its pickle has an operation {op:#04x} at byte {at}, which no weights need"
                ));
            }
        }
        Ok(true)
    }

    fn push(&mut self, object: Object) -> Result<(), String> {
        if self.all.len() >= MOST_OBJECTS {
            return Err(format!("its pickle holds more than {MOST_OBJECTS} objects"));
        }
        self.all.push(object);
        self.stack.push(self.all.len() - 1);
        Ok(())
    }

    fn top(&self) -> Result<Id, String> {
        let ground = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(&top) if self.stack.len() > ground => Ok(top),
            _ => Err(format!("its pickle takes from an empty stack at byte {}", self.place)),
        }
    }

    fn pop(&mut self) -> Result<Id, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => Err(format!("its pickle lacks a mark at byte {}", self.place)),
        }
    }

    /// Items that are added to an unknown object are ignored.
    fn append(&mut self, items: &[Id]) -> Result<(), String> {
        let list = self.top()?;
        if let Object::List(list) = &mut self.all[list] {
            list.extend(items);
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), String> {
        let dict = self.top()?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(format!("its pickle has a key without a value at byte {}", self.place));
        }
        if let Object::Dict(dict) = &mut self.all[dict] {
            dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
        }
        Ok(())
    }

    fn keep(&mut self, key: u32) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<(), String> {
        match self.memo.get(&key) {
            Some(&object) => {
                self.stack.push(object);
                Ok(())
            }
            None => Err(format!("its pickle recalls object {key}, which it never kept")),
        }
    }

    fn text(&mut self, length: usize) -> Result<(), String> {
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.push(Object::Text(text))
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = self.bytes.get(self.place..).unwrap_or_default();
        let Some(length) = rest.iter().position(|&byte| byte == b'\n') else {
            return Err(self.cut_short());
        };
        let line = String::from_utf8_lossy(&rest[..length])
            .trim_end_matches('\r')
            .to_owned();
        self.place += length + 1;
        Ok(line)
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn skip(&mut self, length: usize) -> Result<(), String> {
        self.take(length).map(drop)
    }

    fn take(&mut self, length: usize) -> Result<&[u8], String> {
        let end = self.place.saturating_add(length);
        let Some(taken) = self.bytes.get(self.place..end) else {
            return Err(self.cut_short());
        };
        self.place = end;
        Ok(taken)
    }

    fn cut_short(&self) -> String {
        format!("its pickle is cut short after {} bytes", self.bytes.len())
    }
}

/// An integer of any length, lowest byte first. Beyond 64 bits it cannot be a size or setting.
fn integer(bytes: &[u8]) -> Object {
    if bytes.len() > 8 {
        return Object::Other;
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Object::Integer(i64::from_le_bytes(wide))
}
