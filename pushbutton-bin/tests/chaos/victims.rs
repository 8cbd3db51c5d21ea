//! What is done to each target, and how it gets over it.

use std::sync::{Arc, Mutex, RwLock};

use pushbutton_testbed::{Broker, Gerrit, NovaService, OpenStack};
use pushbutton_testkit::faults::Proxy;

use crate::crew::Crew;
use crate::schedule::{Blow, Fault};
use crate::show::Show;

/// Something that can be broken.
pub(crate) trait Victim {
    /// As a crash would; gone when this returns.
    fn kill(&mut self);
    /// After a kill.
    fn start(&mut self);
    fn freeze(&mut self);
    fn thaw(&mut self);
    /// An orderly end, and a start.
    fn restart(&mut self);
    /// Called now and then.
    fn look_after(&mut self) {}
}

/// Does one blow, from its beginning to its end.
pub(crate) fn strike(victim: &mut dyn Victim, lines: &[Arc<Proxy>], blow: &Blow, show: &Show) {
    match blow.fault {
        Fault::Kill => {
            victim.kill();
            show.wait(blow.lasts);
            victim.start();
        }
        Fault::Freeze => {
            victim.freeze();
            show.wait(blow.lasts);
            victim.thaw();
        }
        Fault::Restart => victim.restart(),
        Fault::Cut => lines.iter().for_each(|line| line.reset()),
        Fault::Hush => {
            lines.iter().for_each(|line| line.freeze());
            show.wait(blow.lasts);
            lines.iter().for_each(|line| line.pass());
        }
    }
}

impl Victim for &mut Crew {
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
    fn look_after(&mut self) {
        Crew::look_after(self);
    }
}

impl Victim for &Mutex<Broker> {
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

impl Victim for &RwLock<Gerrit> {
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
}

impl Victim for (&OpenStack, NovaService) {
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
