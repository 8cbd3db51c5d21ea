//! How each fault is injected into each target, and how it recovers.

use std::sync::{Arc, Mutex, RwLock};

use pushbutton_testbed::{Broker, Gerrit, NovaService, OpenStack};
use pushbutton_testkit::faults::Proxy;

use crate::processes::Process;
use crate::run_log::RunLog;
use crate::schedule::{FaultKind, PlannedFault};
use crate::servers::PROJECT;

/// Something that can fail.
pub(crate) trait FaultTarget {
    /// As a crash; it has ended when this returns.
    fn kill(&mut self);
    /// After a kill.
    fn start(&mut self);
    fn freeze(&mut self);
    fn thaw(&mut self);
    /// A graceful shutdown and a start.
    fn restart(&mut self);
    /// From now on it refuses what is asked of it, until [`repair`](Self::repair).
    fn impair(&mut self) {
        unreachable!("the schedule impairs only what can be impaired");
    }
    fn repair(&mut self) {}
    /// Called at short intervals.
    fn supervise(&mut self) {}
}

/// Injects one fault, and ends it.
pub(crate) fn inject(
    target: &mut dyn FaultTarget,
    proxies: &[Arc<Proxy>],
    fault: &PlannedFault,
    log: &RunLog,
) {
    match fault.kind {
        FaultKind::Kill | FaultKind::Away => {
            target.kill();
            log.wait(fault.lasts);
            target.start();
        }
        FaultKind::Freeze => {
            target.freeze();
            log.wait(fault.lasts);
            target.thaw();
        }
        FaultKind::Restart => target.restart(),
        FaultKind::Cut => proxies.iter().for_each(|proxy| proxy.reset()),
        FaultKind::Impair => {
            target.impair();
            log.wait(fault.lasts);
            target.repair();
        }
        FaultKind::Silence | FaultKind::Outage => {
            proxies.iter().for_each(|proxy| proxy.freeze());
            log.wait(fault.lasts);
            proxies.iter().for_each(|proxy| proxy.pass());
        }
    }
}

impl FaultTarget for &mut Process {
    fn kill(&mut self) {
        self.kill9();
    }
    fn start(&mut self) {
        self.run();
    }
    fn freeze(&mut self) {
        self.signal("-STOP");
    }
    fn thaw(&mut self) {
        self.signal("-CONT");
    }
    fn restart(&mut self) {
        self.end();
        self.run();
    }
    fn impair(&mut self) {
        self.hide_ansible();
    }
    fn repair(&mut self) {
        self.restore_ansible();
    }
    fn supervise(&mut self) {
        Process::supervise(self);
    }
}

impl FaultTarget for &Mutex<Broker> {
    fn kill(&mut self) {
        self.lock().unwrap().kill9();
    }
    fn start(&mut self) {
        self.lock().unwrap().restart();
    }
    fn freeze(&mut self) {
        self.lock().unwrap().freeze();
    }
    fn thaw(&mut self) {
        self.lock().unwrap().thaw();
    }
    fn restart(&mut self) {
        self.lock().unwrap().restart();
    }
}

impl FaultTarget for &RwLock<Gerrit> {
    fn kill(&mut self) {
        self.read().unwrap().kill9();
    }
    fn start(&mut self) {
        self.write().unwrap().restart();
    }
    fn freeze(&mut self) {
        self.read().unwrap().freeze();
    }
    fn thaw(&mut self) {
        self.read().unwrap().thaw();
    }
    fn restart(&mut self) {
        self.write().unwrap().restart();
    }
    /// Nobody can comment: neither we nor those whose comments trigger jobs.
    fn impair(&mut self) {
        set_state(&self.read().unwrap(), "READ_ONLY");
    }
    fn repair(&mut self) {
        set_state(&self.read().unwrap(), "ACTIVE");
    }
}

fn set_state(gerrit: &Gerrit, state: &str) {
    let path = format!("/projects/{}/config", PROJECT.replace('/', "%2F"));
    gerrit.rest("admin", "PUT", &path, Some(&serde_json::json!({"state": state})));
}

impl FaultTarget for (&OpenStack, NovaService) {
    fn kill(&mut self) {
        self.0.kill9(self.1);
    }
    fn start(&mut self) {
        self.0.restart(self.1);
    }
    fn freeze(&mut self) {
        self.0.freeze(self.1);
    }
    fn thaw(&mut self) {
        self.0.thaw(self.1);
    }
    fn restart(&mut self) {
        self.0.restart(self.1);
    }
}
