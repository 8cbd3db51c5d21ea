//! The JSON that Gerrit sends: only the fields that are used, all optional, borrowed from the line.
//!
//! Servers differ: any field may be missing, numbers may be strings, a project may be an object with a name. A value
//! of another type counts as missing; only a line that is not a JSON object is an error. The types here read values
//! as they come, without a buffer: `serde_with`'s `PickFirst` and `DefaultOnError` would copy each value into memory
//! first, of any size.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The file name under which Gerrit keeps comments on the patch set as a whole.
pub(crate) const PATCHSET_LEVEL: &str = "/PATCHSET_LEVEL";

/// How many elements of a list are kept. Gerrit's default limits for a change are 5,000 comments and 1,000 patch sets.
pub(crate) const MAX_LIST: usize = 10_000;

/// One line of `gerrit stream-events`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WireEvent<'a> {
    #[serde(rename = "type", borrow)]
    pub(crate) kind: Text<'a>,
    #[serde(rename = "eventCreatedOn")]
    pub(crate) created_on: Number,
    #[serde(borrow)]
    pub(crate) change: Option<WireChange<'a>>,
    #[serde(rename = "patchSet", borrow)]
    pub(crate) patchset: Option<WirePatchset<'a>>,
    #[serde(borrow)]
    pub(crate) author: Option<WireAccount<'a>>,
    #[serde(borrow)]
    pub(crate) uploader: Option<WireAccount<'a>>,
    #[serde(borrow)]
    pub(crate) restorer: Option<WireAccount<'a>>,
    #[serde(borrow, deserialize_with = "list")]
    pub(crate) approvals: Vec<WireApproval<'a>>,
    #[serde(borrow)]
    pub(crate) comment: Text<'a>,
    /// The comments on the patch set as a whole; those on files are left out.
    #[serde(rename = "patchSetComments", borrow, deserialize_with = "patchset_level")]
    pub(crate) on_patchset: Vec<WireInline<'a>>,
}

/// A change as events and queries show it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WireChange<'a> {
    #[serde(borrow)]
    pub(crate) project: Text<'a>,
    #[serde(borrow)]
    pub(crate) branch: Text<'a>,
    pub(crate) number: Number,
    #[serde(borrow)]
    pub(crate) subject: Text<'a>,
    #[serde(borrow)]
    pub(crate) url: Text<'a>,
    #[serde(borrow)]
    pub(crate) topic: Text<'a>,
    #[serde(borrow, deserialize_with = "list")]
    pub(crate) hashtags: Vec<Text<'a>>,
    #[serde(borrow)]
    pub(crate) status: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) wip: bool,
    #[serde(deserialize_with = "or_default")]
    pub(crate) private: bool,
    // Only in a query reply. Its last line is not a change: `{"type":"stats","moreChanges":false,...}`.
    #[serde(rename = "type", borrow)]
    pub(crate) kind: Text<'a>,
    #[serde(rename = "lastUpdated")]
    pub(crate) last_updated: Number,
    #[serde(borrow, deserialize_with = "list")]
    pub(crate) comments: Vec<WireMessage<'a>>,
    #[serde(rename = "patchSets", borrow, deserialize_with = "list")]
    pub(crate) patchsets: Vec<WirePatchset<'a>>,
    #[serde(rename = "currentPatchSet", borrow)]
    pub(crate) current: Option<WirePatchset<'a>>,
    #[serde(rename = "moreChanges", deserialize_with = "or_default")]
    pub(crate) more: bool,
    #[serde(rename = "rowCount")]
    pub(crate) rows: Number,
    #[serde(borrow)]
    pub(crate) message: Text<'a>,
}

/// A patch set as events and queries show it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WirePatchset<'a> {
    pub(crate) number: Number,
    #[serde(borrow)]
    pub(crate) revision: Text<'a>,
    #[serde(rename = "ref", borrow)]
    pub(crate) git_ref: Text<'a>,
    #[serde(borrow)]
    pub(crate) kind: Text<'a>,
    #[serde(borrow)]
    pub(crate) uploader: Option<WireAccount<'a>>,
    #[serde(rename = "createdOn")]
    pub(crate) created_on: Number,
    #[serde(borrow, deserialize_with = "list")]
    pub(crate) approvals: Vec<WireApproval<'a>>,
    #[serde(borrow, deserialize_with = "list")]
    pub(crate) comments: Vec<WireInline<'a>>,
}

/// An account.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct WireAccount<'a> {
    #[serde(borrow)]
    pub(crate) username: Text<'a>,
    #[serde(borrow)]
    pub(crate) name: Text<'a>,
    #[serde(borrow)]
    pub(crate) email: Text<'a>,
}

/// A vote. An event lists all votes of the author; those that this event changed have an `oldValue`. A query says who
/// voted, and when.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WireApproval<'a> {
    #[serde(rename = "type", borrow)]
    pub(crate) label: Text<'a>,
    pub(crate) value: Number,
    #[serde(rename = "oldValue")]
    pub(crate) old_value: Number,
    #[serde(rename = "grantedOn")]
    pub(crate) granted_on: Number,
    #[serde(borrow)]
    pub(crate) by: Option<WireAccount<'a>>,
}

/// A message on a change, in a query reply.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WireMessage<'a> {
    pub(crate) timestamp: Number,
    #[serde(borrow)]
    pub(crate) reviewer: Option<WireAccount<'a>>,
    #[serde(borrow)]
    pub(crate) message: Text<'a>,
}

/// A comment on a file of a patch set, or on the patch set as a whole (file `/PATCHSET_LEVEL`).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WireInline<'a> {
    #[serde(borrow)]
    pub(crate) file: Text<'a>,
    #[serde(borrow)]
    pub(crate) reviewer: Option<WireAccount<'a>>,
    #[serde(borrow)]
    pub(crate) message: Text<'a>,
}

impl Listed for Text<'_> {
    fn is_usable(&self) -> bool {
        !self.as_str().is_empty()
    }
}

impl Listed for WirePatchset<'_> {
    fn is_usable(&self) -> bool {
        self.number.0.is_some()
    }
}

impl Listed for WireApproval<'_> {
    fn is_usable(&self) -> bool {
        self.value.0.is_some() && self.label.is_usable()
    }
}

impl Listed for WireMessage<'_> {
    fn is_usable(&self) -> bool {
        self.timestamp.0.is_some() && self.message.is_usable()
    }
}

impl Listed for WireInline<'_> {
    fn is_usable(&self) -> bool {
        self.message.is_usable()
    }
}

/// `null` counts as missing.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A text; none if the value is of another type. A number counts as its digits, an object as its `name`.
#[derive(Debug, Default, Clone)]
pub(crate) struct Text<'a>(pub(crate) Option<Cow<'a, str>>);

/// A whole number, which may be written as a string; none if the value is of another type.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Number(pub(crate) Option<i64>);

impl Text<'_> {
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("")
    }

    pub(crate) fn owned(&self) -> Option<String> {
        self.0.as_deref().filter(|text| !text.is_empty()).map(str::to_owned)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Text(match deserializer.deserialize_any(AnyScalar)? {
            Scalar::Text(text) => Some(text),
            Scalar::Integer(number) => Some(number.to_string().into()),
            Scalar::Float(_) | Scalar::Other => None,
        }))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Number(match deserializer.deserialize_any(AnyScalar)? {
            Scalar::Text(text) => text.trim().parse().ok(),
            Scalar::Integer(number) => number.try_into().ok(),
            Scalar::Float(number) => number.is_finite().then_some(number as i64),
            Scalar::Other => None,
        }))
    }
}

/// Any JSON value, of which only texts and numbers matter.
enum Scalar<'a> {
    Text(Cow<'a, str>),
    Integer(i128),
    Float(f64),
    Other,
}

struct AnyScalar;

impl<'de> Visitor<'de> for AnyScalar {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a number")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Integer(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Integer(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Float(number))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Other)
    }

    fn visit_unit<E>(self) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Other)
    }

    /// `{"name": "openstack/cinder"}`: how the events-log plugin writes projects.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar<'de>, A::Error> {
        let mut name = Text::default();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key == "name" {
                name = map.next_value()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(name.0.map_or(Scalar::Other, Scalar::Text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}

/// An element of a list. A line of a few MiB can hold millions of `{}`, each a hundred bytes in memory: those are not
/// kept.
pub(crate) trait Listed {
    /// Whether it holds the fields without which it says nothing.
    fn is_usable(&self) -> bool;
}

/// The first [`MAX_LIST`] usable elements; `null` counts as missing.
fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Listed,
{
    deserializer.deserialize_any(List(PhantomData))
}

/// [`list`] as a seed, for the values of a map.
pub(crate) struct List<T>(pub(crate) PhantomData<T>);

impl<'de, T: Deserialize<'de> + Listed> DeserializeSeed<'de> for List<T> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Deserialize<'de> + Listed> Visitor<'de> for List<T> {
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
            if element.is_usable() {
                kept.push(element);
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(kept)
    }
}

/// The comments under [`PATCHSET_LEVEL`] in a map from file names to comments.
fn patchset_level<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<WireInline<'a>>, D::Error> {
    deserializer.deserialize_any(PatchsetLevel)
}

struct PatchsetLevel;

impl<'de> Visitor<'de> for PatchsetLevel {
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
                found = map.next_value_seed(List(PhantomData))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}
