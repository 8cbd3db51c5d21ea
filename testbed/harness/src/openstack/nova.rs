//! Breaking Nova, service by service.

use super::OpenStack;

/// A service of Nova, each a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NovaService {
    /// What clients speak to.
    Api,
    /// What stands between the database and the others, and steers builds.
    Conductor,
    /// What picks hosts.
    Scheduler,
    /// What makes servers.
    Compute,
}

impl NovaService {
    fn name(self) -> &'static str {
        match self {
            Self::Api => "nova-api",
            Self::Conductor => "nova-conductor",
            Self::Scheduler => "nova-scheduler",
            Self::Compute => "nova-compute",
        }
    }
}

impl OpenStack {
    /// Kills a service of Nova as a crash would; returns when it is gone. Private clouds only.
    pub fn kill9(&self, service: NovaService) {
        self.instance.signal_service(service.name(), "KILL");
    }

    /// Freezes a service of Nova: connections stay, nothing answers. Private clouds only.
    pub fn freeze(&self, service: NovaService) {
        self.instance.signal_service(service.name(), "STOP");
    }

    /// Ends [`freeze`](Self::freeze).
    pub fn thaw(&self, service: NovaService) {
        self.instance.signal_service(service.name(), "CONT");
    }

    /// Starts a service of Nova again, after an orderly stop if it is still up. Returns when the API answers; the others come up in
    /// their own time. Private clouds only.
    pub fn restart(&self, service: NovaService) {
        self.instance.restart_service(service.name());
    }
}
