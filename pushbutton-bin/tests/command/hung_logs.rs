//! A log folder whose file system hangs, as a hard mount does while its server is away.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pushbutton_testbed::until;

use crate::handler::TIMEOUT;
use crate::history::{free_port, get};
use crate::lab::{Lab, Running};

/// Holds a lease of a file. Whoever opens the file hangs in the kernel, until this ends or 45 seconds have passed; the
/// kernel tells the holder by a signal that somebody does.
const HOLDER: &str = "
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, lambda *_: os.write(1, b'somebody hangs\\n'))
fcntl.fcntl(os.open(sys.argv[1], os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK)
os.write(1, b'held\\n')
sys.stdin.read()
";

#[test]
fn a_process_whose_log_folder_hangs_answers_and_ends() {
    let (lab, port) = (Lab::new(), free_port());
    lab.configure(&format!(
        "owner: lab\nstate: state\nlogs: {{dir: logs}}\nweb: {{listen: \"127.0.0.1:{port}\"}}\n"
    ));
    std::fs::create_dir_all(lab.path("logs")).unwrap();
    for name in ["hangs.log", "other.log"] {
        std::fs::write(lab.path("logs").join(name), name).unwrap();
    }
    let dashboard = Running::start(&mut lab.command(&["dashboard"]));
    until("the dashboard answers", TIMEOUT, || get(port, "/healthz"));
    let mut holder = Command::new("python3")
        .args(["-c", HOLDER])
        .arg(lab.path("logs").join("hangs.log"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "held");
    // More than it has threads, of clients that leave at once.
    for _ in 0..20 {
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.write_all(b"GET /logs/hangs.log HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    }
    assert_eq!(said.next().unwrap().unwrap(), "somebody hangs");
    let began = Instant::now();
    for path in ["/healthz", "/readyz", "/metrics", "/api/runs"] {
        assert_eq!(get(port, path).unwrap().0, 200, "{path}");
    }
    dashboard.signal("-TERM");
    assert_eq!(dashboard.ends().0.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(40), "it waited for the file: {:?}", began.elapsed());
    drop(holder.stdin.take());
    holder.wait().unwrap();
}
