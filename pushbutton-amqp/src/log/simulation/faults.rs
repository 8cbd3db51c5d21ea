//! What goes wrong, and how often: each seed has faults of its own, so that some worlds know only one kind.

use std::time::Duration;

use super::participant::{LEASE, Participant};
use super::world::World;

/// How often each fault happens, in thousandths of the steps.
#[derive(Debug, Clone, Copy)]
pub(super) struct FaultRates {
    disconnect: u32,
    crash: u32,
    pause: u32,
    clock: u32,
    power_loss: u32,
    drop_beginning: u32,
}

impl FaultRates {
    pub(super) fn draw(rng: &mut fastrand::Rng) -> Self {
        let mut rate = |most: u32| if rng.bool() { rng.u32(..=most) } else { 0 };
        Self {
            disconnect: rate(60),
            crash: rate(15),
            pause: rate(30),
            clock: rate(20),
            power_loss: rate(10),
            drop_beginning: rate(20),
        }
    }
}

type Fault = fn(&mut World);

impl World {
    /// Perhaps something goes wrong.
    pub(super) fn disturb(&mut self) {
        let rates = self.rates;
        let faults: [(u32, Fault); 6] = [
            (rates.disconnect, Self::disconnect_one),
            (rates.crash, Self::crash),
            (rates.pause, Self::pause),
            (rates.clock, Self::disturb_clock),
            (rates.power_loss, Self::lose_power),
            (rates.drop_beginning, Self::drop_beginning),
        ];
        for (rate, fault) in faults {
            if self.rng.u32(..1000) < rate {
                fault(self);
            }
        }
    }

    fn one(&mut self) -> usize {
        self.rng.usize(..self.participants.len())
    }

    /// A connection breaks. Of what was on its way some arrives now, some late, and some never.
    fn disconnect_one(&mut self) {
        let index = self.one();
        self.disconnect(index);
    }

    fn disconnect(&mut self, index: usize) {
        self.log(|| format!("{index}: the connection breaks"));
        for entry in self.participants[index].disconnect(&mut self.broker) {
            match self.rng.u8(..3) {
                0 => self.append(entry),
                1 => {
                    let at = self.now + Duration::from_millis(self.rng.u64(..40_000));
                    self.late.push((at, entry));
                }
                _ => break,
            }
        }
    }

    /// A process dies, and another one starts that knows nothing.
    fn crash(&mut self) {
        let index = self.one();
        // Whoever alone knows what the broker has lost must live until that is written again (README, "Failures").
        if self.keeper == Some(index) {
            return;
        }
        self.disconnect(index);
        self.log(|| format!("{index}: dies"));
        let clock = std::mem::replace(
            &mut self.participants[index].clock,
            super::clock::Clock::new(self.start, &mut self.rng),
        );
        self.participants[index] = Participant::new(clock, &mut self.ids, &mut self.rng);
        self.checks.forget_listener(index);
    }

    /// A process, or its whole host, does nothing for some time: perhaps for longer than its leases. Rather one that
    /// holds something.
    fn pause(&mut self) {
        let mut index = self.one();
        for other in 0..self.participants.len() {
            let now = self.participants[other].clock.read(self.now).instant;
            if self.rng.bool() && self.participants[other].acting(now).next().is_some() {
                index = other;
            }
        }
        let time = LEASE * self.rng.u32(1..=20) / 8;
        self.log(|| format!("{index}: is frozen for {time:?}"));
        self.participants[index].paused_until = self.now + time;
    }

    fn disturb_clock(&mut self) {
        let index = self.one();
        let (now, rng) = (self.now, &mut self.rng);
        self.participants[index].clock.disturb(now, rng);
    }

    /// The broker's host loses power, and the broker the end of its log. What a participant has read is known to one
    /// that goes on; all else would be lost for good.
    fn lose_power(&mut self) {
        let complete = (0..self.participants.len()).filter(|index| self.participants[*index].is_ready());
        let Some(keeper) = complete.max_by_key(|index| self.participants[*index].last_offset()) else {
            return;
        };
        let known = self.participants[keeper].last_offset().unwrap_or_default();
        if self.keeper.is_some() || known < self.checks.last_read {
            return;
        }
        let from = self.broker.end() - self.rng.u64(0..=self.broker.unsynced());
        self.late.clear();
        for index in 0..self.participants.len() {
            self.participants[index].disconnect(&mut self.broker);
        }
        let lost = self.broker.lose_from(from);
        self.log(|| format!("the broker loses {} entries from {from}; {keeper} knows them", lost.len()));
        self.snapshots.retain(|(_, offset)| *offset < from);
        self.keeper = Some(keeper);
        let now = self.steady();
        self.checks.lost(from, &lost, self.now, now);
    }

    /// The broker drops what a snapshot makes superfluous that is on its disk. One that comes back after that cannot
    /// tell whether anything was lost before (README, "Failures").
    fn drop_beginning(&mut self) {
        if self.keeper.is_some() {
            return;
        }
        let synced = self.broker.end() - self.broker.unsynced();
        // Whoever knows what the broker has lost, and did not notice yet, finds the place where it stopped: else it
        // takes the log for one that went on (README, "Failures").
        let keeper = self.keeper.map(|keeper| &self.participants[keeper]);
        let unaware = keeper.filter(|it| it.state().is_some()).and_then(|it| it.last_offset());
        let covered = self.snapshots.iter().filter(|(_, offset)| *offset < synced).map(|(as_of, _)| *as_of);
        let covered = covered.filter(|as_of| unaware.is_none_or(|last| *as_of < last));
        if let Some(as_of) = covered.max() {
            self.log(|| format!("the broker drops all up to {as_of}"));
            self.broker.drop_before(as_of + 1);
        }
    }
}
