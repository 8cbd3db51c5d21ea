//! `with_FIELD` methods for data types that may get more fields later.

/// Implements `with_FIELD(value)` for each `field: Type`. The value may be anything that converts into the type.
/// For pushbutton's own crates: not part of the public API.
#[doc(hidden)]
#[macro_export]
macro_rules! __setters {
    ($type:ty { $($field:ident / $setter:ident: $value:ty),* $(,)? }) => {
        impl $type {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
                #[must_use]
                pub fn $setter(mut self, $field: impl Into<$value>) -> Self {
                    self.$field = $field.into();
                    self
                }
            )*
        }
    };
}

pub(crate) use crate::__setters as setters;
