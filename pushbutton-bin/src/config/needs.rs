//! What a command uses of the configuration: a host needs only the files of its role.

/// How far a command uses one part of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Neither its sections nor the files that they name need be there. Sections that are there must have no error.
    Nothing,
    /// Its sections must be there. The files that they name are not read.
    Sections,
    /// Its sections, and the files that they name.
    Files,
}

/// What a command uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    /// `gerrit` and `triggers`.
    pub(crate) gerrit: Need,
    /// `cloud` or `machines`.
    pub(crate) nodes: Need,
    /// `ansible` with its playbooks, and `logs`.
    pub(crate) stages: Need,
}

impl Needs {
    /// Both halves.
    pub(crate) const ALL: Self = Self { gerrit: Need::Files, nodes: Need::Files, stages: Need::Files };
    /// The ingest half.
    pub(crate) const HANDLER: Self = Self { gerrit: Need::Files, ..Self::QUEUE };
    /// The work half.
    pub(crate) const OPERATOR: Self = Self { gerrit: Need::Nothing, ..Self::ALL };
    /// The queue and the state folder, which every command may use.
    pub(crate) const QUEUE: Self =
        Self { gerrit: Need::Nothing, nodes: Need::Nothing, stages: Need::Nothing };

    /// Whether a section must be there.
    pub(crate) fn requires(self, section: &str) -> bool {
        match section {
            "owner" | "state" => true,
            "gerrit" | "triggers" => self.gerrit != Need::Nothing,
            "ansible" | "logs" => self.stages != Need::Nothing,
            "jobs" => self.gerrit != Need::Nothing || self.stages != Need::Nothing,
            _ => false,
        }
    }

    /// Whether the files must be there that a section names.
    pub(crate) fn reads_files_of(self, section: &str) -> bool {
        match section {
            "gerrit" => self.gerrit == Need::Files,
            "cloud" | "machines" => self.nodes == Need::Files,
            "ansible" | "logs" | "jobs" => self.stages == Need::Files,
            _ => true,
        }
    }
}
