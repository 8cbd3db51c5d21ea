//! A line of a query reply.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pushbutton_gerrit::fuzz::query_line(bytes));
