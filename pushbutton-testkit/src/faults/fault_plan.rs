use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pushbutton_core::Result;
use tokio::sync::watch;

use super::fault::{Fault, Rates};
use super::method::Method;

/// Says which calls go wrong, and how. Clones share one plan: a test keeps one clone and changes the plan while the
/// pipeline runs.
///
/// For each call of a method the plan uses the first of these that is set: the list from [`next`](Self::next), the
/// fault from [`always`](Self::always), a random fault. A random fault depends only on the seed, the method and the
/// number of the call: the third `publish` fails for the same seeds, whatever other calls happen at the same time.
#[derive(Debug, Clone)]
pub struct FaultPlan(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    seed: u64,
    state: Mutex<State>,
    /// How often [`FaultPlan::release`] was called.
    released: watch::Sender<u64>,
    /// Notified at each call.
    called: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    /// For methods without rates of their own.
    rates: Rates,
    methods: BTreeMap<Method, MethodPlan>,
    injected: Vec<Injected>,
}

#[derive(Debug, Default)]
struct MethodPlan {
    calls: u64,
    next: VecDeque<Option<Fault>>,
    always: Option<Fault>,
    rates: Option<Rates>,
}

/// A fault that was injected.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Injected {
    /// The method that was called.
    pub method: Method,
    /// The number of the call of this method, from 1.
    pub call: u64,
    /// What went wrong.
    pub fault: Fault,
}

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, call {}: {}", self.method, self.call, self.fault)
    }
}

impl FaultPlan {
    /// A plan without faults, until some are added.
    pub fn none() -> Self {
        Self::seeded(0, Rates::none())
    }

    /// A plan with random faults. The same seed breaks the same calls.
    pub fn seeded(seed: u64, rates: Rates) -> Self {
        Self(Arc::new(Shared {
            seed,
            state: Mutex::new(State { rates, ..State::default() }),
            released: watch::Sender::new(0),
            called: watch::Sender::new(()),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds faults for the next calls of a method, one for each call. `None` is a call without a fault.
    pub fn next(&self, method: Method, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.state().methods.entry(method).or_default().next.extend(faults);
    }

    /// Sets the fault of every call of a method from now on.
    pub fn always(&self, method: Method, fault: Fault) {
        self.state().methods.entry(method).or_default().always = Some(fault);
    }

    /// Sets the rates of random faults of one method.
    pub fn rates(&self, method: Method, rates: Rates) {
        self.state().methods.entry(method).or_default().rates = Some(rates);
    }

    /// Removes the faults of a method that [`next`](Self::next) and [`always`](Self::always) have set. Random faults
    /// stay.
    pub fn repair(&self, method: Method) {
        let mut state = self.state();
        let plan = state.methods.entry(method).or_default();
        plan.next.clear();
        plan.always = None;
    }

    /// Removes all faults, random ones too, and releases the calls that hang.
    pub fn repair_all(&self) {
        let mut state = self.state();
        state.rates = Rates::none();
        for plan in state.methods.values_mut() {
            *plan = MethodPlan { calls: plan.calls, ..MethodPlan::default() };
        }
        drop(state);
        self.release();
    }

    /// Lets all calls continue that hang now.
    pub fn release(&self) {
        self.0.released.send_modify(|times| *times += 1);
    }

    /// The faults that were injected, in order.
    pub fn injected(&self) -> Vec<Injected> {
        self.state().injected.clone()
    }

    /// How often a method was called.
    pub fn calls(&self, method: Method) -> u64 {
        self.state().methods.get(&method).map_or(0, |plan| plan.calls)
    }

    /// Waits until a method was called this often since the start. Use it instead of a sleep.
    pub async fn until_called(&self, method: Method, times: u64) {
        let mut called = self.0.called.subscribe();
        while self.calls(method) < times {
            // Cannot fail: `self` holds the sender.
            let _ = called.changed().await;
        }
    }

    /// Counts a call, and returns its fault.
    pub(super) fn draw(&self, method: Method) -> Option<Fault> {
        let mut state = self.state();
        let default_rates = state.rates;
        let plan = state.methods.entry(method).or_default();
        plan.calls += 1;
        let call = plan.calls;
        let fault = plan.next.pop_front().unwrap_or_else(|| {
            plan.always.or_else(|| {
                let random = |purpose: u64| random(self.0.seed, method, call, purpose);
                plan.rates.unwrap_or(default_rates).draw(random(0), random(1))
            })
        });
        state.injected.extend(fault.map(|fault| Injected { method, call, fault }));
        drop(state);
        self.0.called.send_replace(());
        fault
    }

    /// Makes a call, with its fault if it has one.
    pub(super) async fn call<T>(&self, method: Method, call: impl Future<Output = Result<T>>) -> Result<T> {
        match self.draw(method) {
            None => call.await,
            Some(Fault::Fail(error)) => Err(error().during(method.as_str())),
            Some(Fault::LoseResponse(error)) => {
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
            Some(Fault::NoResponse) => {
                let response = call.await;
                self.hang().await;
                response
            }
        }
    }

    /// Waits for the next release.
    pub(super) async fn hang(&self) {
        // Cannot fail: `self` holds the sender.
        let _ = self.0.released.subscribe().changed().await;
    }
}

/// A number from 0 to below 1 that depends on the arguments alone: splitmix64 over them.
fn random(seed: u64, method: Method, call: u64, purpose: u64) -> f64 {
    let mut state = seed;
    for part in [method as u64, call, purpose] {
        state = state.wrapping_add(part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^= state >> 31;
    }
    // An f64 holds 53 bits exactly.
    (state >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::time::Duration;

    use pushbutton_core::{Error, ErrorKind};
    use tokio::time::{Instant, timeout};

    use super::*;

    fn half() -> Rates {
        Rates::none().with_fail(0.2).with_lose_response(0.2).with_delay(0.1, Duration::from_secs(4))
    }

    fn drawn(seed: u64) -> Vec<String> {
        let plan = FaultPlan::seeded(seed, half());
        (0..1000).map(|_| format!("{:?}", plan.draw(Method::Publish))).collect()
    }

    #[test]
    fn the_same_seed_breaks_the_same_calls_at_the_given_rates() {
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        let count = |text: &str| drawn(7).iter().filter(|fault| fault.contains(text)).count();
        for (text, expected) in
            [("refused", 200), ("lost", 200), ("delayed", 100), ("None", 500), ("hangs", 0)]
        {
            assert!(count(text).abs_diff(expected) <= expected / 4, "{text}: {} of 1000", count(text));
        }
    }

    #[test]
    fn the_faults_of_a_method_do_not_depend_on_other_methods() {
        let (alone, mixed) = (FaultPlan::seeded(7, half()), FaultPlan::seeded(7, half()));
        for _ in 0..100 {
            mixed.draw(Method::Renew);
            assert_eq!(
                format!("{:?}", alone.draw(Method::Publish)),
                format!("{:?}", mixed.draw(Method::Publish))
            );
        }
    }

    #[test]
    fn listed_faults_come_first_then_the_permanent_one_then_random_ones() {
        let plan = FaultPlan::seeded(7, Rates::none().with_fail(1.0));
        plan.next(Method::Renew, [None, Some(Fault::Hang)]);
        plan.always(Method::Renew, Fault::response_lost());
        let drawn = [(); 3].map(|()| plan.draw(Method::Renew).map(|fault| fault.to_string()));
        assert_eq!(drawn, [None, Some("hangs".into()), Some("the response is lost".into())]);
        plan.repair(Method::Renew);
        let refused = Some("fails: the connection was refused".to_owned());
        let drawn = plan.draw(Method::Renew).map(|fault| fault.to_string());
        assert_eq!(drawn, refused, "random faults stay after a repair");
        plan.rates(Method::Renew, Rates::none());
        assert!(plan.draw(Method::Renew).is_none());
        assert!(plan.draw(Method::Publish).is_some(), "only one method was repaired");
        plan.repair_all();
        assert!(plan.draw(Method::Publish).is_none());
        let injected: Vec<_> = plan.injected().iter().map(|fault| (fault.method, fault.call)).collect();
        assert_eq!(
            injected,
            [(Method::Renew, 2), (Method::Renew, 3), (Method::Renew, 4), (Method::Publish, 1)]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn each_fault_does_what_its_name_says() {
        let plan = FaultPlan::none();
        let denied = || Error::permanent(ErrorKind::Denied, "no");
        let delay = Duration::from_secs(3);
        plan.next(
            Method::Record,
            [Some(Fault::Fail(denied)), Some(Fault::LoseResponse(denied)), Some(Fault::Delay(delay)), None],
        );
        let done = Mutex::new(0);
        let began = Instant::now();
        let call = || {
            plan.call(Method::Record, async {
                *done.lock().unwrap() += 1;
                Ok(())
            })
        };
        assert_eq!(call().await.unwrap_err().operation(), Some("event_store::record"));
        assert_eq!(*done.lock().unwrap(), 0, "a call that fails is not carried out");
        assert_eq!(call().await.unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(*done.lock().unwrap(), 1, "a call whose response is lost is carried out");
        call().await.unwrap();
        assert_eq!(began.elapsed(), delay);
        call().await.unwrap();
        assert_eq!(plan.calls(Method::Record), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_continues_after_the_release() {
        for (fault, done_first) in [(Fault::Hang, false), (Fault::NoResponse, true)] {
            let (plan, done) = (FaultPlan::none(), AtomicBool::new(false));
            plan.always(Method::Record, fault);
            let call = plan.call(Method::Record, async {
                done.store(true, SeqCst);
                Ok(())
            });
            tokio::pin!(call);
            assert!(timeout(Duration::from_secs(3600), &mut call).await.is_err(), "it hangs");
            assert_eq!(done.load(SeqCst), done_first, "{fault}");
            let release = async {
                plan.until_called(Method::Record, 1).await;
                plan.release();
            };
            let (result, ()) = tokio::join!(call, release);
            result.unwrap();
            assert!(done.load(SeqCst));
        }
    }
}
