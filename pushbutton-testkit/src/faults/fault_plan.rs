use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pushbutton_core::Result;
use tokio::sync::watch;

use super::fault::{Fault, Rates};
use super::method::Method;

/// When which call goes wrong. Clones share the schedule, so that a test keeps one while the pipeline runs with another.
///
/// Of a method, the faults given to [`next`](Self::next) come first, then the one given to [`always`](Self::always), then chance.
/// Chance depends on the seed, the method and the number of the call alone: the third `publish` fails under the same seeds, whatever
/// else happens around it.
#[derive(Debug, Clone)]
pub struct FaultPlan(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    seed: u64,
    plans: Mutex<Plans>,
    /// How often [`FaultPlan::release`] was called.
    released: watch::Sender<u64>,
    /// Changes with each call.
    called: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Plans {
    rates: Rates,
    of: BTreeMap<Method, Plan>,
    injected: Vec<Injected>,
}

#[derive(Debug, Default)]
struct Plan {
    calls: u64,
    next: VecDeque<Option<Fault>>,
    always: Option<Fault>,
    rates: Option<Rates>,
}

/// A fault that happened.
#[derive(Debug, Clone, Copy)]
pub struct Injected {
    /// To which method.
    pub method: Method,
    /// To which of its calls, from 1.
    pub call: u64,
    /// What.
    pub fault: Fault,
}

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, call {}: {}", self.method, self.call, self.fault)
    }
}

impl FaultPlan {
    /// Nothing goes wrong until somebody says so.
    pub fn none() -> Self {
        Self::seeded(0, Rates::default())
    }

    /// Calls go wrong by chance: the same ones for the same seed.
    pub fn seeded(seed: u64, rates: Rates) -> Self {
        let plans = Mutex::new(Plans { rates, ..Plans::default() });
        Self(Arc::new(Shared {
            seed,
            plans,
            released: watch::Sender::new(0),
            called: watch::Sender::new(()),
        }))
    }

    fn plans(&self) -> MutexGuard<'_, Plans> {
        self.0.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens to the next calls of a method, one after the other; none lets a call pass.
    pub fn next(&self, method: Method, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.plans().of.entry(method).or_default().next.extend(faults);
    }

    /// What happens to every call of a method from now on.
    pub fn always(&self, method: Method, fault: Fault) {
        self.plans().of.entry(method).or_default().always = Some(fault);
    }

    /// How often chance breaks calls of a method, where that differs from the others.
    pub fn rates(&self, method: Method, rates: Rates) {
        self.plans().of.entry(method).or_default().rates = Some(rates);
    }

    /// Takes back what [`next`](Self::next) and [`always`](Self::always) said of a method. Chance stays.
    pub fn repair(&self, method: Method) {
        let mut plans = self.plans();
        let plan = plans.of.entry(method).or_default();
        plan.next.clear();
        plan.always = None;
    }

    /// Forgets all faults that have not happened yet, and lets hanging calls go on: from here on all is well.
    pub fn repair_all(&self) {
        let mut plans = self.plans();
        plans.rates = Rates::default();
        for plan in plans.of.values_mut() {
            *plan = Plan { calls: plan.calls, ..Plan::default() };
        }
        drop(plans);
        self.release();
    }

    /// Lets all calls go on that hang now.
    pub fn release(&self) {
        self.0.released.send_modify(|times| *times += 1);
    }

    /// The faults that have happened, in order.
    pub fn injected(&self) -> Vec<Injected> {
        self.plans().injected.clone()
    }

    /// How often a method was called.
    pub fn calls(&self, method: Method) -> u64 {
        self.plans().of.get(&method).map_or(0, |plan| plan.calls)
    }

    /// Waits until a method was called so often, since the start: better than a sleep.
    pub async fn until_called(&self, method: Method, times: u64) {
        let mut called = self.0.called.subscribe();
        while self.calls(method) < times {
            // The sender lives as long as we do.
            let _ = called.changed().await;
        }
    }

    /// Counts a call, and says what goes wrong with it.
    pub(super) fn draw(&self, method: Method) -> Option<Fault> {
        let mut plans = self.plans();
        let all = plans.rates;
        let plan = plans.of.entry(method).or_default();
        plan.calls += 1;
        let call = plan.calls;
        let fault = plan.next.pop_front().unwrap_or_else(|| {
            plan.always.or_else(|| {
                let chance = |what: u64| chance(self.0.seed, method, call, what);
                plan.rates.unwrap_or(all).draw(chance(0), chance(1))
            })
        });
        plans.injected.extend(fault.map(|fault| Injected { method, call, fault }));
        drop(plans);
        self.0.called.send_replace(());
        fault
    }

    /// Makes a call, or breaks it.
    pub(super) async fn call<T>(&self, method: Method, call: impl Future<Output = Result<T>>) -> Result<T> {
        match self.draw(method) {
            None => call.await,
            Some(Fault::Fail(error)) => Err(error().during(method.as_str())),
            Some(Fault::LoseAnswer(error)) => {
                call.await?;
                Err(error().during(method.as_str()))
            }
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                call.await
            }
            Some(Fault::Hang) => {
                self.hang().await;
                call.await
            }
            Some(Fault::NoAnswer) => {
                let answer = call.await;
                self.hang().await;
                answer
            }
        }
    }

    /// Waits for the next release.
    pub(super) async fn hang(&self) {
        // The sender lives as long as we do.
        let _ = self.0.released.subscribe().changed().await;
    }
}

/// A number from 0 to below 1, the same for the same parts: splitmix64 over them.
fn chance(seed: u64, method: Method, call: u64, what: u64) -> f64 {
    let mut state = seed;
    for part in [method as u64, call, what] {
        state = state.wrapping_add(part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^= state >> 31;
    }
    // The upper 53 bits are what a float can tell apart.
    (state >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::time::Duration;

    use pushbutton_core::{Error, ErrorKind};
    use tokio::time::{Instant, timeout};

    use super::*;

    const HALF: Rates =
        Rates { fail: 0.2, lose_answer: 0.2, delay: 0.1, hang: 0.0, longest_delay: Duration::from_secs(4) };

    fn drawn(seed: u64) -> Vec<String> {
        let schedule = FaultPlan::seeded(seed, HALF);
        (0..1000).map(|_| format!("{:?}", schedule.draw(Method::Publish))).collect()
    }

    #[test]
    fn the_same_seed_breaks_the_same_calls_and_about_as_many_as_asked() {
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        let count = |what: &str| drawn(7).iter().filter(|fault| fault.contains(what)).count();
        for (what, about) in [("refused", 200), ("lost", 200), ("later", 100), ("None", 500), ("hangs", 0)] {
            assert!(count(what).abs_diff(about) <= about / 4, "{what}: {} of 1000", count(what));
        }
    }

    #[test]
    fn what_happens_to_one_method_does_not_depend_on_another() {
        let (alone, beside) = (FaultPlan::seeded(7, HALF), FaultPlan::seeded(7, HALF));
        for _ in 0..100 {
            beside.draw(Method::Renew);
            assert_eq!(
                format!("{:?}", alone.draw(Method::Publish)),
                format!("{:?}", beside.draw(Method::Publish))
            );
        }
    }

    #[test]
    fn a_list_comes_before_a_rule_and_a_rule_before_chance() {
        let schedule = FaultPlan::seeded(7, Rates { fail: 1.0, ..Rates::default() });
        schedule.next(Method::Renew, [None, Some(Fault::Hang)]);
        schedule.always(Method::Renew, Fault::answer_lost());
        let drawn = [(); 3].map(|()| schedule.draw(Method::Renew).map(|fault| fault.to_string()));
        assert_eq!(drawn, [None, Some("hangs".into()), Some("the answer is lost".into())]);
        schedule.repair(Method::Renew);
        let refused = Some("fails: the connection was refused".to_owned());
        assert_eq!(schedule.draw(Method::Renew).map(|fault| fault.to_string()), refused, "chance stays");
        schedule.rates(Method::Renew, Rates::default());
        assert!(schedule.draw(Method::Renew).is_none());
        assert!(schedule.draw(Method::Publish).is_some(), "only one method was mended");
        schedule.repair_all();
        assert!(schedule.draw(Method::Publish).is_none());
        let injected: Vec<_> = schedule.injected().iter().map(|fault| (fault.method, fault.call)).collect();
        assert_eq!(
            injected,
            [(Method::Renew, 2), (Method::Renew, 3), (Method::Renew, 4), (Method::Publish, 1)]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn each_fault_does_what_it_says() {
        let schedule = FaultPlan::none();
        let denied = || Error::permanent(ErrorKind::Denied, "no");
        let delay = Duration::from_secs(3);
        schedule.next(
            Method::Record,
            [Some(Fault::Fail(denied)), Some(Fault::LoseAnswer(denied)), Some(Fault::Delay(delay)), None],
        );
        let done = Mutex::new(0);
        let began = Instant::now();
        let call = || {
            schedule.call(Method::Record, async {
                *done.lock().unwrap() += 1;
                Ok(())
            })
        };
        assert_eq!(call().await.unwrap_err().operation(), Some("event_store::record"));
        assert_eq!(*done.lock().unwrap(), 0, "a call that fails is not carried out");
        assert_eq!(call().await.unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(*done.lock().unwrap(), 1, "a call whose answer is lost is carried out");
        call().await.unwrap();
        assert_eq!(began.elapsed(), delay);
        call().await.unwrap();
        assert_eq!(schedule.calls(Method::Record), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_call_goes_on_when_told() {
        for (fault, done_first) in [(Fault::Hang, false), (Fault::NoAnswer, true)] {
            let (schedule, done) = (FaultPlan::none(), AtomicBool::new(false));
            schedule.always(Method::Record, fault);
            let call = schedule.call(Method::Record, async {
                done.store(true, SeqCst);
                Ok(())
            });
            tokio::pin!(call);
            assert!(timeout(Duration::from_secs(3600), &mut call).await.is_err(), "it hangs");
            assert_eq!(done.load(SeqCst), done_first, "{fault}");
            let release = async {
                schedule.until_called(Method::Record, 1).await;
                schedule.release();
            };
            let (result, ()) = tokio::join!(call, release);
            result.unwrap();
            assert!(done.load(SeqCst));
        }
    }
}
