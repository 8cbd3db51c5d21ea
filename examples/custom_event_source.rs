//! An event source of your own: comments from a file to which another program appends lines.
//! Run it with `cargo run -p pushbutton-core --example custom_event_source`.

#![expect(clippy::print_stdout, reason = "an example has something to show")]

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use pushbutton_core::{
    Account, Change, ChangeNumber, Error, ErrorKind, Event, EventId, EventKind, EventSource, Patchset,
    PatchsetNumber, Position, Result, Timestamp, async_trait,
};

/// What is longer is no comment: one line must not fill the memory.
const MAX_LINE: u64 = 64 * 1024;

/// Reads `comments` of its folder: lines as `2026-11-26T19:00:00Z 12345,2 bob recheck`. A lab would read a queue of
/// messages, a mailbox, or the events of another review system.
struct Comments {
    folder: PathBuf,
    committed: Timestamp,
    /// How many bytes of the file were read.
    read: u64,
    in_long_line: bool,
    /// How often a comment was seen before: equal comments are events of their own.
    seen: HashMap<(String, String), u32>,
}

impl Comments {
    /// Continues from the committed position. On a first start it begins with what happens from now on.
    fn open(folder: PathBuf) -> Result<Self> {
        let committed = match fs::read_to_string(folder.join("position")) {
            Ok(text) => text.parse().map_err(|error| {
                Error::permanent(ErrorKind::Invalid, "the file `position` holds no time").because(error)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let now = Timestamp::now();
                fs::write(folder.join("position"), now.to_string()).map_err(local)?;
                now
            }
            Err(error) => return Err(local(error)),
        };
        Ok(Self { folder, committed, read: 0, in_long_line: false, seen: HashMap::new() })
    }

    /// The next whole line. None when there is none yet.
    fn line(&mut self) -> io::Result<Option<String>> {
        let mut file = match File::open(self.folder.join("comments")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        file.seek(SeekFrom::Start(self.read))?;
        let mut file = BufReader::new(file);
        loop {
            let mut line = Vec::new();
            let length = file.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? as u64;
            let is_whole = line.ends_with(b"\n");
            if !is_whole && length < MAX_LINE {
                return Ok(None); // the other program has not written the rest of it yet
            }
            self.read += length;
            let was_long = std::mem::replace(&mut self.in_long_line, !is_whole);
            if is_whole && !was_long {
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
        }
    }

    /// The comment of a line. None for a line that is no comment, and for one that was there before.
    fn event(&mut self, line: &str) -> Option<Event> {
        let mut words = line.trim().splitn(4, ' ');
        let (at, target, author, text) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let (at, (number, patchset)) = (at.parse().ok()?, target.split_once(',')?);
        // A digest of the content, and a counter: the same line has the same id after a restart.
        let nth = self.seen.entry((format!("{target} {author}"), text.to_owned())).or_default();
        *nth += 1;
        if at < self.committed {
            return None;
        }
        let (number, patchset) = (ChangeNumber(number.parse().ok()?), PatchsetNumber(patchset.parse().ok()?));
        let author = Account::of(author);
        let id = EventId::comment(number, patchset, &author, text, *nth);
        let change = Change::new("acme/driver".parse().ok()?, "main".parse().ok()?, number);
        let revision = format!("{:040x}", number.0).parse().ok()?;
        let git_ref = format!("refs/changes/{:02}/{number}/{patchset}", number.0 % 100).parse().ok()?;
        let kind = EventKind::CommentAdded { author, texts: vec![text.to_owned()], approvals: vec![] };
        Some(Event::new(id, Position::at(at), kind, change, Patchset::new(patchset, revision, git_ref)))
    }
}

#[async_trait]
impl EventSource for Comments {
    async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            // Between a line that was read and its return there is no await: a dropped call loses nothing.
            match self.line() {
                Ok(Some(line)) => {
                    if let Some(event) = self.event(&line) {
                        return Ok(Some(event));
                    }
                }
                // A source ends on a permanent error only: a disk that fails now may work again.
                Ok(None) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn commit(&mut self, position: &Position) -> Result<()> {
        if position.at > self.committed {
            let (new, file) = (self.folder.join("position.new"), self.folder.join("position"));
            // By a rename: after a crash there is the old position or the new one, and never half of one.
            fs::write(&new, position.at.to_string()).and_then(|()| fs::rename(&new, file)).map_err(local)?;
            self.committed = position.at;
        }
        Ok(())
    }
}

fn local(error: io::Error) -> Error {
    Error::temporary(ErrorKind::Local, "the folder's disk failed").because(error)
}

// ---- the test ------------------------------------------------------------------------------------------------------

use std::io::Write as _;

use pushbutton_core::RunId;
use pushbutton_testkit::conformance::source::{self, Harness};

/// The program that appends comments; and the folder, which is removed at the end.
struct Upstream(PathBuf);

impl Upstream {
    fn new() -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("pushbutton-{}", RunId::generate()));
        fs::create_dir(&folder)?;
        Ok(Self(folder))
    }

    fn append(&self, line: &str) -> io::Result<()> {
        let mut file = File::options().create(true).append(true).open(self.0.join("comments"))?;
        file.write_all(line.as_bytes())
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[async_trait]
#[expect(clippy::panic, reason = "a harness of tests panics when it cannot work")]
impl Harness for Upstream {
    async fn comment(&mut self, text: &str) {
        let line = format!("{} 12345,2 bob {text}\n", Timestamp::now());
        self.append(&line).unwrap_or_else(|error| panic!("{error}"));
    }

    async fn open(&mut self) -> Box<dyn EventSource> {
        Box::new(Comments::open(self.0.clone()).unwrap_or_else(|error| panic!("{error}")))
    }

    fn is_finite(&self) -> bool {
        false
    }

    async fn send_invalid(&mut self) -> bool {
        let long = "x".repeat(usize::try_from(MAX_LINE).map_or(0, |length| length + 1));
        self.append(&format!("this is no comment\n{long}\n")).is_ok()
    }

    async fn committed(&self) -> Option<Position> {
        fs::read_to_string(self.0.join("position")).ok()?.parse().ok().map(Position::at)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    // The suite that the source of Gerrit's events must pass too. It panics with the bullet that is broken.
    #[expect(clippy::panic, reason = "a harness of tests panics when it cannot work")]
    source::all(async || Upstream::new().unwrap_or_else(|error| panic!("{error}"))).await;
    println!("Comments keeps the contract of an EventSource");
    Ok(())
}
