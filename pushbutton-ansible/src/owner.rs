//! Which operator a process belongs to: several may run on one machine, and numbers of processes are given again.

use std::fmt;
use std::io;
use std::str::FromStr;

/// A process of this machine, now or once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The boot that it was started in.
    boot: String,
    /// The space of process numbers that its own is of: a container has one to itself, and an operator there has processes that we see.
    space: String,
    pid: u32,
    /// When it was started, in the kernel's ticks since boot: no later process of the same number has that too.
    start: u64,
}

impl Owner {
    /// This process.
    pub(crate) fn current() -> io::Result<Self> {
        let pid = std::process::id();
        let status = Status::of(pid)?.ok_or_else(|| io::Error::other("/proc does not show this process"))?;
        Ok(Self { boot: boot()?, space: space()?, pid, start: status.start })
    }

    /// Whether it certainly runs no more. Of what another machine, boot or container started nothing is certain.
    pub(crate) fn is_gone(&self) -> bool {
        let ours =
            boot().is_ok_and(|boot| boot == self.boot) && space().is_ok_and(|space| space == self.space);
        ours && match Status::of(self.pid) {
            Ok(Some(status)) => status.ended || status.start != self.start,
            Ok(None) => true,
            // No more file handles, say.
            Err(_) => false,
        }
    }
}

/// `BOOT/SPACE/PID/START`.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.boot, self.space, self.pid, self.start)
    }
}

impl FromStr for Owner {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('/');
        let mut part = || parts.next().ok_or(());
        let (boot, space) = (part()?.to_owned(), part()?.to_owned());
        let (pid, start) = (part()?.parse().map_err(drop)?, part()?.parse().map_err(drop)?);
        parts.next().is_none().then_some(Self { boot, space, pid, start }).ok_or(())
    }
}

fn boot() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn space() -> io::Result<String> {
    let link = std::fs::read_link("/proc/self/ns/pid")?;
    Ok(link.to_string_lossy().chars().filter(char::is_ascii_digit).collect())
}

/// What `/proc/PID/stat` tells of a process (proc_pid_stat(5)).
struct Status {
    /// It has ended and nobody has asked how.
    ended: bool,
    start: u64,
}

impl Status {
    /// None when there is no such process.
    fn of(pid: u32) -> io::Result<Option<Self>> {
        match std::fs::read(format!("/proc/{pid}/stat")) {
            Ok(text) => Self::parse(&text).map(Some).ok_or_else(|| io::Error::other("an odd stat")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // It ended between our opening the file and reading it.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The second field is the program's name in parentheses, which it chooses itself: what follows is counted from its end.
    fn parse(text: &[u8]) -> Option<Self> {
        let behind = text.rsplit(|byte| *byte == b')').next()?;
        let mut fields = std::str::from_utf8(behind).ok()?.split_ascii_whitespace();
        let state = fields.next()?;
        // Field 22; the state is field 3.
        let start = fields.nth(22 - 3 - 1)?.parse().ok()?;
        Some(Self { ended: matches!(state, "Z" | "X"), start })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn we_are_here_and_read_back_as_we_were_written() {
        let me = Owner::current().unwrap();
        assert!(!me.is_gone());
        assert_eq!(me.to_string().parse(), Ok(me));
        for text in ["", "a/b/1", "a/b/x/2", "a/b/1/2/3", "019a"] {
            assert_eq!(text.parse::<Owner>(), Err(()), "{text}");
        }
    }

    #[test]
    fn a_later_process_of_the_same_number_is_another() {
        let me = Owner::current().unwrap();
        assert!(Owner { start: me.start + 1, ..me.clone() }.is_gone());
        assert!(!Owner { boot: "other".into(), start: 0, ..me.clone() }.is_gone(), "it may live elsewhere");
        assert!(!Owner { space: "7".into(), start: 0, ..me }.is_gone(), "it may live in its container");
    }

    #[test]
    fn a_killed_process_is_gone_before_and_after_its_parent_asks_for_it() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let start = Status::of(child.id()).unwrap().unwrap().start;
        let owner = Owner { pid: child.id(), start, ..Owner::current().unwrap() };
        assert!(!owner.is_gone());
        child.kill().unwrap();
        while !owner.is_gone() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(owner.is_gone());
    }

    #[test]
    fn a_programs_name_may_look_like_fields() {
        let text =
            b"7 (a) S 1) Z 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1000 10 18446744073709551615\n";
        let status = Status::parse(text).unwrap();
        assert_eq!((status.ended, status.start), (true, 4711));
        assert!(Status::parse(b"7 (sh").is_none());
    }
}
