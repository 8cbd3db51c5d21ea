//! What Gerrit writes, as it writes it: the few fields that matter, all optional, borrowed from the line.
//!
//! Servers differ: any field may be missing, numbers may be strings, a project may be an object with a name. What cannot be used is
//! taken as missing; only a line that is no JSON object is an error.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::wire_list::{Listed, list, whole_patchset};

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
    /// Of the comments, those on the patch set as a whole.
    #[serde(rename = "patchSetComments", borrow, deserialize_with = "whole_patchset")]
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
    // Only in the reply to a query, of which the last line is no change: `{"type":"stats","moreChanges":false,...}`.
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

/// A person or robot.
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

/// A vote. Events list all votes of the author: those just changed have an `oldValue`. Queries say who gave it, and when.
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

/// A message on a change, in the reply to a query.
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
    fn is_of_use(&self) -> bool {
        !self.as_str().is_empty()
    }
}

impl Listed for WirePatchset<'_> {
    fn is_of_use(&self) -> bool {
        self.number.0.is_some()
    }
}

impl Listed for WireApproval<'_> {
    fn is_of_use(&self) -> bool {
        self.value.0.is_some() && self.label.is_of_use()
    }
}

impl Listed for WireMessage<'_> {
    fn is_of_use(&self) -> bool {
        self.timestamp.0.is_some() && self.message.is_of_use()
    }
}

impl Listed for WireInline<'_> {
    fn is_of_use(&self) -> bool {
        self.message.is_of_use()
    }
}

/// `null` is the same as missing.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A text, or nothing.
#[derive(Debug, Default, Clone)]
pub(crate) struct Text<'a>(pub(crate) Option<Cow<'a, str>>);

impl Text<'_> {
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("")
    }

    pub(crate) fn owned(&self) -> Option<String> {
        self.0.as_deref().filter(|text| !text.is_empty()).map(str::to_owned)
    }
}

/// A whole number, or nothing.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Number(pub(crate) Option<i64>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyText)
    }
}

struct AnyText;

impl<'de> Visitor<'de> for AnyText {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Some(Cow::Borrowed(text))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Some(Cow::Owned(text.to_owned()))))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Text<'de>, E> {
        Ok(Text(Some(Cow::Owned(number.to_string()))))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Text<'de>, E> {
        Ok(Text(Some(Cow::Owned(number.to_string()))))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Text<'de>, E> {
        Ok(Text(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Text<'de>, E> {
        Ok(Text(None))
    }

    fn visit_unit<E>(self) -> Result<Text<'de>, E> {
        Ok(Text(None))
    }

    /// `{"name": "openstack/cinder"}`, as the events-log plugin writes projects.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text<'de>, A::Error> {
        let mut name = Text(None);
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key == "name" {
                name = map.next_value()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(name)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Text<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Old servers write numbers as strings.
        struct AnyNumber;
        impl<'de> Visitor<'de> for AnyNumber {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }
            fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
                Ok(Number(i64::try_from(number).ok()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
                Ok(Number(Some(number)))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Number, E> {
                // Saturates, which is as good as any other nonsense.
                Ok(Number(number.is_finite().then_some(number as i64)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Number, E> {
                Ok(Number(text.trim().parse().ok()))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Number, E> {
                Ok(Number(None))
            }
            fn visit_unit<E>(self) -> Result<Number, E> {
                Ok(Number(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Number, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Number(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Number, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Number(None))
            }
        }
        deserializer.deserialize_any(AnyNumber)
    }
}
