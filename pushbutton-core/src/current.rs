//! A value that can be replaced while others use it.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// A value that is shared, and can be replaced as a whole while it is used: whoever has got the old one finishes with
/// it. Clones share the value.
///
/// ```
/// use pushbutton_core::Current;
///
/// let limit = Current::new(10);
/// let old = limit.get();
/// limit.replace(20);
/// assert_eq!((*old, *limit.get()), (10, 20));
/// ```
pub struct Current<T>(Arc<watch::Sender<Arc<T>>>);

impl<T> Current<T> {
    /// Begins with this value.
    pub fn new(value: T) -> Self {
        Self(Arc::new(watch::Sender::new(Arc::new(value))))
    }

    /// The value of now.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.borrow())
    }

    /// Replaces the value, and wakes up those that [watch](Self::watch) it.
    pub fn replace(&self, value: T) {
        self.0.send_replace(Arc::new(value));
    }

    /// Changes the value. Those that have got it keep the old one.
    pub fn update(&self, change: impl FnOnce(&mut T))
    where
        T: Clone,
    {
        self.0.send_modify(|value| change(Arc::make_mut(value)));
    }

    /// Watches for the next values.
    pub fn watch(&self) -> watch::Receiver<Arc<T>> {
        self.0.subscribe()
    }
}

impl<T> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Default> Default for Current<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for Current<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Current").field(&self.get()).finish()
    }
}
