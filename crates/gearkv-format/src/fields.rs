//! JSON objects field by field. What serde derives for as many structs would take 25 kB more of the WebAssembly module.

use gearkv::Result;
use serde::Deserialize;
use serde_json::Value;

use crate::frame::corrupt;
use crate::header::{Checksum, Metadata, Section};

/// The fields of an object that were not taken yet.
pub(crate) struct Fields {
    what: &'static str,
    rest: Metadata,
}

impl Fields {
    /// Of what must be an object; `what` names it in messages.
    pub(crate) fn of(what: &'static str, value: Value) -> Result<Self> {
        match value {
            Value::Object(rest) => Ok(Self { what, rest }),
            _ => Err(corrupt(format!("the header is malformed: {what} is no object"))),
        }
    }

    /// A field that may be left out.
    pub(crate) fn optional(&mut self, name: &str) -> Option<Value> {
        self.rest.remove(name)
    }

    /// A field that must be there.
    pub(crate) fn value(&mut self, name: &str) -> Result<Value> {
        self.optional(name).ok_or_else(|| self.wrong(name))
    }

    /// A whole number that the machine can address.
    pub(crate) fn count(&mut self, name: &str) -> Result<usize> {
        let value = self.value(name)?;
        self.whole(name, &value)
    }

    /// The same, 0 where it is left out.
    pub(crate) fn count_or_0(&mut self, name: &str) -> Result<usize> {
        self.optional(name).map_or(Ok(0), |value| self.whole(name, &value))
    }

    /// A whole number of 32 bits.
    pub(crate) fn small(&mut self, name: &str) -> Result<u32> {
        let count = self.count(name)?;
        u32::try_from(count).map_err(|_| self.wrong(name))
    }

    /// The same, `otherwise` where it is left out.
    pub(crate) fn small_or(&mut self, name: &str, otherwise: u32) -> Result<u32> {
        if self.rest.contains_key(name) { self.small(name) } else { Ok(otherwise) }
    }

    /// A number.
    pub(crate) fn number(&mut self, name: &str) -> Result<f64> {
        self.value(name)?.as_f64().ok_or_else(|| self.wrong(name))
    }

    /// The same, 0 where it is left out.
    pub(crate) fn number_or_0(&mut self, name: &str) -> Result<f64> {
        if self.rest.contains_key(name) { self.number(name) } else { Ok(0.0) }
    }

    /// True or false.
    pub(crate) fn truth(&mut self, name: &str) -> Result<bool> {
        self.value(name)?.as_bool().ok_or_else(|| self.wrong(name))
    }

    /// The same, false where it is left out.
    pub(crate) fn truth_or_false(&mut self, name: &str) -> Result<bool> {
        if self.rest.contains_key(name) { self.truth(name) } else { Ok(false) }
    }

    /// A text.
    pub(crate) fn text(&mut self, name: &str) -> Result<String> {
        match self.value(name)? {
            Value::String(text) => Ok(text),
            _ => Err(self.wrong(name)),
        }
    }

    /// A list.
    pub(crate) fn list(&mut self, name: &str) -> Result<Vec<Value>> {
        match self.value(name)? {
            Value::Array(values) => Ok(values),
            _ => Err(self.wrong(name)),
        }
    }

    /// A list of whole numbers.
    pub(crate) fn numbers(&mut self, name: &str) -> Result<Vec<u64>> {
        let numbers: Option<_> = self.list(name)?.iter().map(Value::as_u64).collect();
        numbers.ok_or_else(|| self.wrong(name))
    }

    /// An object, empty where it is left out.
    pub(crate) fn metadata(&mut self) -> Result<Metadata> {
        match self.optional("metadata") {
            None => Ok(Metadata::new()),
            Some(Value::Object(metadata)) => Ok(metadata),
            Some(_) => Err(self.wrong("metadata")),
        }
    }

    /// Where bytes are, nowhere where it is left out.
    pub(crate) fn section(&mut self, name: &str) -> Result<Section> {
        if !self.rest.contains_key(name) {
            return Ok(Section::default());
        }
        match self.numbers(name)?[..] {
            [start, length] => Ok(Section(start, length)),
            _ => Err(self.wrong(name)),
        }
    }

    /// The checksum of an entry.
    pub(crate) fn checksum(&mut self) -> Result<Checksum> {
        let digits = self.text("xxh3")?;
        let hexadecimal = digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let bits = if hexadecimal { u64::from_str_radix(&digits, 16).ok() } else { None };
        bits.map(Checksum).ok_or_else(|| corrupt("a checksum is 16 lower-case hexadecimal digits"))
    }

    /// One of a few words.
    pub(crate) fn word<T: for<'de> Deserialize<'de>>(&mut self, name: &str) -> Result<T> {
        T::deserialize(self.value(name)?).map_err(|e| corrupt(format!("the header is malformed: {name}: {e}")))
    }

    /// An object within.
    pub(crate) fn inner(&mut self, name: &'static str) -> Result<Self> {
        Self::of(name, self.value(name)?)
    }

    /// All fields were taken.
    pub(crate) fn finish(self) -> Result<()> {
        match self.rest.keys().next() {
            None => Ok(()),
            Some(name) => Err(corrupt(format!("the header is malformed: {} has a field {name:?}", self.what))),
        }
    }

    /// The error that a field is missing or not what it must be.
    pub(crate) fn wrong(&self, name: &str) -> gearkv::GearError {
        corrupt(format!("the header is malformed: {name:?} of {} is missing, or not what it must be", self.what))
    }

    fn whole(&self, name: &str, value: &Value) -> Result<usize> {
        value.as_u64().and_then(|count| usize::try_from(count).ok()).ok_or_else(|| self.wrong(name))
    }
}
