//! `with_FIELD` methods for data types that may get more fields later.

/// Implements `with_FIELD(value)` for each `field: Type`. The value may be anything that converts into the type.
macro_rules! setters {
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

pub(crate) use setters;
