//! The JSON that Gerrit sends: only the fields that are used, all optional, borrowed from the line.
//!
//! Servers differ: any field may be missing, numbers may be strings, a project may be an object with a name. A value
//! of another type counts as missing; only a line that is not a JSON object is an error. The types here read values
//! as they come, without a buffer: `serde_with`'s `PickFirst` and `DefaultOnError` would copy each value into memory
//! first, of any size.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The file name under which Gerrit keeps comments on the patch set as a whole.
pub(crate) const PATCHSET_LEVEL: &str = "/PATCHSET_LEVEL";

/// How many elements of a list are kept. Gerrit's default limits for a change are 5,000 comments and 1,000 patch sets.
pub(crate) const MAX_LIST: usize = 10_000;

/// One line of `gerrit stream-events`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(crate) struct WireEvent<'a> {
    pub(crate) r#type: Text<'a>,
    pub(crate) event_created_on: Number,
    pub(crate) change: Option<WireChange<'a>>,
    pub(crate) patch_set: Option<WirePatchset<'a>>,
    pub(crate) author: Option<WireAccount<'a>>,
    pub(crate) uploader: Option<WireAccount<'a>>,
    pub(crate) restorer: Option<WireAccount<'a>>,
    pub(crate) changer: Option<WireAccount<'a>>,
    pub(crate) approvals: List<WireApproval<'a>>,
    pub(crate) comment: Text<'a>,
    pub(crate) patch_set_comments: Option<CommentsByFile<'a>>,
}

/// The comments that came with an event; those on files are left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(crate) struct CommentsByFile<'a> {
    #[serde(rename = "/PATCHSET_LEVEL")]
    pub(crate) on_patchset: List<WireComment<'a>>,
}

/// A change as events and queries show it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(crate) struct WireChange<'a> {
    pub(crate) project: Text<'a>,
    pub(crate) branch: Text<'a>,
    pub(crate) number: Number,
    pub(crate) subject: Text<'a>,
    pub(crate) owner: Option<WireAccount<'a>>,
    pub(crate) url: Text<'a>,
    pub(crate) topic: Text<'a>,
    pub(crate) hashtags: List<Text<'a>>,
    pub(crate) status: Text<'a>,
    pub(crate) wip: Option<bool>,
    pub(crate) private: Option<bool>,
    // Only in a query reply.
    pub(crate) last_updated: Number,
    pub(crate) comments: List<WireMessage<'a>>,
    pub(crate) patch_sets: List<WirePatchset<'a>>,
    pub(crate) current_patch_set: Option<WirePatchset<'a>>,
    pub(crate) id: Text<'a>,
    pub(crate) commit_message: Text<'a>,
    // Only in its last line, which is not a change: `{"type":"stats","moreChanges":false,...}`.
    pub(crate) r#type: Text<'a>,
    pub(crate) more_changes: Option<bool>,
    pub(crate) row_count: Number,
    pub(crate) message: Text<'a>,
}

/// A patch set as events and queries show it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(crate) struct WirePatchset<'a> {
    pub(crate) number: Number,
    pub(crate) revision: Text<'a>,
    pub(crate) r#ref: Text<'a>,
    pub(crate) kind: Text<'a>,
    pub(crate) parents: List<Text<'a>>,
    pub(crate) uploader: Option<WireAccount<'a>>,
    pub(crate) created_on: Number,
    pub(crate) approvals: List<WireApproval<'a>>,
    pub(crate) comments: List<WireComment<'a>>,
    pub(crate) files: List<WireFile<'a>>,
}

/// A file of a patch set, in a query reply with `--files`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(crate) struct WireFile<'a> {
    pub(crate) file: Text<'a>,
    /// Where it was before it was moved.
    pub(crate) file_old: Text<'a>,
}

/// An account.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(crate) struct WireAccount<'a> {
    pub(crate) username: Text<'a>,
    pub(crate) name: Text<'a>,
    pub(crate) email: Text<'a>,
}

/// A vote. An event lists all votes of the author; those that this event changed have an `oldValue`. A query says who
/// voted, and when.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(crate) struct WireApproval<'a> {
    pub(crate) r#type: Text<'a>,
    pub(crate) value: Number,
    pub(crate) old_value: Number,
    pub(crate) granted_on: Number,
    pub(crate) by: Option<WireAccount<'a>>,
}

/// A message on a change, in a query reply.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(crate) struct WireMessage<'a> {
    pub(crate) timestamp: Number,
    pub(crate) reviewer: Option<WireAccount<'a>>,
    pub(crate) message: Text<'a>,
}

/// A comment on a file of a patch set, or on the patch set as a whole (file [`PATCHSET_LEVEL`]).
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(crate) struct WireComment<'a> {
    pub(crate) file: Text<'a>,
    pub(crate) reviewer: Option<WireAccount<'a>>,
    pub(crate) message: Text<'a>,
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

/// The first [`MAX_LIST`] usable elements of a list; `null` counts as missing.
#[derive(Debug)]
pub(crate) struct List<T>(Vec<T>);

/// An element of a list. A line of a few MiB can hold millions of `{}`, each a hundred bytes in memory: those are not
/// kept.
pub(crate) trait Listed {
    /// Whether it holds the fields without which it says nothing.
    fn is_usable(&self) -> bool;
}

macro_rules! listed {
    ($($type:ident: $this:ident => $is_usable:expr),* $(,)?) => { $(
        impl Listed for $type<'_> {
            fn is_usable(&self) -> bool {
                let $this = self;
                $is_usable
            }
        }
    )* };
}

listed! {
    Text: text => !text.as_str().is_empty(),
    WirePatchset: patchset => patchset.number.0.is_some(),
    WireFile: file => file.file.is_usable(),
    WireApproval: vote => vote.value.0.is_some() && vote.r#type.is_usable(),
    WireMessage: message => message.timestamp.0.is_some() && message.message.is_usable(),
    WireComment: comment => comment.message.is_usable(),
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<'de, T: Deserialize<'de> + Listed> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyList(PhantomData))
    }
}

struct AnyList<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Listed> Visitor<'de> for AnyList<T> {
    type Value = List<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<List<T>, E> {
        Ok(List::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T>, A::Error> {
        let mut kept = Vec::new();
        while kept.len() < MAX_LIST {
            let Some(element) = seq.next_element::<T>()? else { return Ok(List(kept)) };
            if element.is_usable() {
                kept.push(element);
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(List(kept))
    }
}
