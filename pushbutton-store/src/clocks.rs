//! The clocks of the queue. Leases are measured by the clock that counts from the boot of the machine: all processes on
//! it share that clock, it cannot be set, and it stands still while the machine is suspended. So a step of the time of
//! day ends no lease. After a reboot no holder is left, so a lease of another boot has ended. Delays of retries survive
//! reboots, so they are measured by the time of day.

use std::fmt;
use std::sync::Arc;

use pushbutton_core::clock::Clock;
use rustix::time::{ClockId, clock_gettime};

/// Names the boot of this machine (proc_sys_kernel(5)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

#[derive(Clone)]
pub(crate) struct Clocks {
    date: Arc<dyn Clock>,
    /// None where the system does not name its boots: then leases are measured by the time of day, too.
    boot: Option<Arc<str>>,
}

/// What the clocks show at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    /// Milliseconds since 1970.
    pub(crate) date: i64,
    /// Milliseconds since the boot.
    pub(crate) uptime: i64,
    /// Which boot.
    pub(crate) boot: Arc<str>,
}

impl Clocks {
    pub(crate) fn new(date: Arc<dyn Clock>) -> Self {
        let boot = std::fs::read_to_string(BOOT_ID).inspect_err(|error| {
            tracing::warn!(
                file = BOOT_ID,
                "leases depend on the time of day, since the boot has no name: {error}"
            );
        });
        Self { date, boot: boot.ok().map(|boot| boot.trim().into()) }
    }

    pub(crate) fn now(&self) -> Moment {
        let date = self.date.now().as_millisecond();
        match &self.boot {
            Some(boot) => Moment { date, uptime: uptime(), boot: Arc::clone(boot) },
            None => Moment { date, uptime: date, boot: "".into() },
        }
    }
}

fn uptime() -> i64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000)
}

impl fmt::Debug for Clocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clocks").field("boot", &self.boot).finish_non_exhaustive()
    }
}
