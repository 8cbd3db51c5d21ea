//! Lists from the wire, in bounded memory: a line of some MiB can hold millions of elements that are a hundred times as large when read.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::convert::PATCHSET_LEVEL;
use crate::wire::WireInline;

/// How many elements of a list are kept. Gerrit lets a change have 5,000 comments and 1,000 patch sets by default.
pub(crate) const MAX_LIST: usize = 10_000;

/// What comes in lists.
pub(crate) trait Listed {
    /// Whether it says enough to be kept: `{}` would cost a hundred bytes for two.
    fn is_of_use(&self) -> bool;
}

/// The first [`MAX_LIST`] elements that are of use; `null` is the same as missing.
pub(crate) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Listed,
{
    deserializer.deserialize_any(ListVisitor(PhantomData))
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Listed> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut kept = Vec::new();
        while kept.len() < MAX_LIST {
            let Some(element) = seq.next_element::<T>()? else { return Ok(kept) };
            if element.is_of_use() {
                kept.push(element);
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(kept)
    }
}

/// Of a map from file names to comments, those on the patch set as a whole.
pub(crate) fn whole_patchset<'de: 'a, 'a, D>(deserializer: D) -> Result<Vec<WireInline<'a>>, D::Error>
where
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(WholePatchset)
}

struct WholePatchset;

/// A list where no attribute of a field can say so.
#[derive(Deserialize)]
#[serde(transparent)]
struct Comments<'a>(#[serde(borrow, deserialize_with = "list")] Vec<WireInline<'a>>);

impl<'de> Visitor<'de> for WholePatchset {
    type Value = Vec<WireInline<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("comments by file")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while let Some(file) = map.next_key::<Cow<'de, str>>()? {
            if file == PATCHSET_LEVEL {
                found = map.next_value::<Comments<'de>>()?.0;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}
