//! A line of the reply to `gerrit query`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pushbutton_gerrit::fuzz::query_line(bytes));
