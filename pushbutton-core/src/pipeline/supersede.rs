/// What makes the jobs of a patch set pointless. Used by the [`Handler`](crate::Handler) for what it announces, and by the
/// [`Operator`](crate::Operator) for what it asks before it boots a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SupersedePolicy {
    /// A newer patch set of the same change.
    pub newer_patchset: bool,
    /// The merge or the abandoning of the change.
    pub closed: bool,
}

impl SupersedePolicy {
    /// Nothing does: every job runs to its end unless a person cancels it.
    pub const NEVER: Self = Self { newer_patchset: false, closed: false };
}

impl Default for SupersedePolicy {
    /// Both.
    fn default() -> Self {
        Self { newer_patchset: true, closed: true }
    }
}
