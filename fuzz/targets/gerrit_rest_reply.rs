//! A REST reply with the comments on a change.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pushbutton_gerrit::fuzz::rest_reply(bytes));
