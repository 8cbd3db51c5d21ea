//! A line of Gerrit's event stream.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pushbutton_gerrit::fuzz::event_line(bytes));
